"""A device whose true costs are known, told about as the coordinator would."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from fleet.calibration import Calibration, CalibrationRow, UnitJoules, Work
from fleet.calibration_plans import plan
from fleet.domain import Assignment, Capabilities, EnergyReading, LeverInfo, Metric, Phase, PhaseReport, Quality
from optimizer.policy import Candidate, Decision, Told

METER = ("model", "cpu", "board", Quality.ESTIMATED)
VALUES = 500_000


@dataclass
class Simulated:
    """Watts while at work, seconds of a step at full width, and bytes per second, all with some noise."""

    device: str = "a"
    watts: float = 5.0
    step_s: float = 0.2
    bf16: float = 0.7
    power: float = 1.6
    overhead_s: float = 0.5
    up_bps: float = 2e6
    down_bps: float = 5e6
    fixed_s: float = 0.1
    noise: float = 0.02
    warm_up_s: float = 0.0
    kind: str = "mini-pc-n100"
    levers: tuple[LeverInfo, ...] = ()
    calibration: Calibration | None = None
    random: Any = field(default_factory=lambda: np.random.default_rng(7))
    done: int = 0

    @property
    def candidate(self) -> Candidate:
        able = Capabilities(self.kind, "cpu", 4, 1 << 30, "x86_64", "0", levers=self.levers, cpu_quota=0.5)
        return Candidate(self.device, able, self.calibration)

    def seconds(self, d: Decision | Assignment) -> dict[Phase, float]:
        """What each phase takes without noise."""
        slow = self.levers[0].maximum / d.frequency_hz if d.frequency_hz else 1.0
        step = self.step_s * d.width**self.power * (self.bf16 if d.precision == "bf16" else 1.0) * slow
        up, down = (VALUES * bits / 8 for bits in (d.bits_up, d.bits_down))
        return {
            Phase.DOWNLOAD: self.fixed_s + 8 * down / self.down_bps,
            Phase.TRAIN: self.overhead_s + step * d.train_steps,
            Phase.QUANTIZE: 0.05,
            Phase.UPLOAD: self.fixed_s + 8 * up / self.up_bps,
        }

    def joules(self, d: Decision | Assignment) -> float:
        """What an assignment takes without noise."""
        return self.watts * sum(self.seconds(d).values())

    def told(self, d: Decision, round: int, run: str = "r", **more: Any) -> Told:
        """What came of a decision."""
        self.done += 1
        phases = []
        for phase, seconds in self.seconds(d).items():
            late = self.warm_up_s if phase is Phase.TRAIN and self.done == 1 else 0.0
            s = seconds * float(np.exp(self.noise * self.random.standard_normal())) + late
            phases.append(PhaseReport(phase, s, 1, (EnergyReading(*METER, self.watts * s),)))
        a = Assignment(
            *(run, round, d.device, "m", int(VALUES * d.bits_down / 8), 0, d.bits_up, d.bits_down),
            *(d.precision, d.width, d.train_steps, 1, 0.0),
            frequency_hz=d.frequency_hz,
            power_limit_watts=d.power_limit_watts,
        )
        up, down = int(VALUES * d.bits_up / 8) + 2000, int(VALUES * d.bits_down / 8) + 2000
        return Told(a, tuple(phases), up, down, **more)

    def calibrated(self, scale: float = 1.0) -> "Simulated":
        """The same with a calibration, which found `scale` times what things take in rounds."""

        def row(work: Work, seconds: float, **setting: Any) -> CalibrationRow:
            s = seconds * scale
            return CalibrationRow(work, 5, 10.0, s, joules=(UnitJoules(*METER, self.watts * s),), **setting)

        trains = [
            row(
                Work.TRAIN,
                self.step_s * w**self.power * (self.bf16 if p == "bf16" else 1.0),
                width=w,
                precision=p,
            )
            for w in (0.25, 0.5, 1.0)
            for p in ("fp32", "bf16")
        ]
        rest = [row(Work.ENCODE, 0.05 / (4 * VALUES / 1e6), bits=b) for b in (2, 8, 32)]
        rest += [row(Work.SEND, 8e6 / self.up_bps), row(Work.RECEIVE, 8e6 / self.down_bps)]
        idle = [row(work, 1.0) for work in (Work.IDLE_BEFORE, Work.IDLE_AFTER)]
        self.calibration = Calibration("c", self.device, plan(), 0.0, 1.0, 4 * VALUES, (*idle, *trains, *rest))
        return self

    def rests_at(self, watts: float) -> None:
        """What the calibration found it to take when idle."""
        assert self.calibration
        rows = tuple(
            replace(r, joules=(UnitJoules(*METER, watts),)) if r.work in (Work.IDLE_BEFORE, Work.IDLE_AFTER) else r
            for r in self.calibration.rows
        )
        self.calibration = replace(self.calibration, rows=rows)


@pytest.fixture
def simulated() -> type[Simulated]:
    """The class, to make devices of."""
    return Simulated


@pytest.fixture
def fid() -> Any:
    """A metric of a model."""
    return lambda value: Metric("fid", value)
