"""What is known of a device before it did anything: from its calibration, else from the presets of its kind.

A calibration says seconds and joules per step and per megabyte. A setting that it lacks is reached by a law from
the nearest one that it has: cost goes with the square of the width [P] (DDSM, arXiv 2310.03337: within 1 % in
MACs), a precision that was not tried costs what another does, seconds go with 1 / f, and joules by what the lever
is (see `_at_clock`). A kind's preset knows its link and its watts [fleet.kinds];
seconds of a step follow only where it is said how many multiplications a step has, and from an assumed rate.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np

from fleet.calibration import CalibrationRow, Work
from fleet.domain import LeverInfo
from fleet.energy import Choice as EnergyChoice
from fleet.energy import Quality, choose, total
from fleet.kinds import DeviceKind, kinds
from optimizer.fitting.sample import Setting
from optimizer.policy import Candidate

MACS_PER_CORE_S = 4e9
"""[assumed] float32 multiplications and additions per second of one core in training; nobody measured it."""

ENCODE_PER_CORE_S = 100e6
"""[assumed] bytes of float32 values that one core encodes in a second."""

CPU_QUOTA = "cpu_quota"
"""The lever of an emulated device: it rests between steps, so what a step takes above idling stays the same."""


MEGABYTE = 1e6

Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None]


class Known(StrEnum):
    """Where a constant comes from."""

    FITTED = "fitted"
    CALIBRATED = "calibration"
    PRESET = "preset"


@dataclass(frozen=True)
class Job:
    """What is trained: values of the model, and MACs of one step forward and backward at full width."""

    values: int
    macs_per_step: float | None = None


@dataclass(frozen=True)
class Guess:
    """Seconds and joules of one unit of work; None where they are not known."""

    seconds: float | None
    joules: float | None
    known: Known


class Start:
    """`candidate` before its first round. `choice` is of which readings joules are wanted, None for any."""

    def __init__(self, candidate: Candidate, job: Job | None, choice: EnergyChoice | None = None) -> None:
        self.device = candidate.device
        self._able = candidate.capabilities
        self._calibration = candidate.calibration
        self._job = job
        self._wanted = choice
        self._kind: DeviceKind | None = kinds().get(self._able.kind)

    @property
    def values(self) -> int | None:
        """Values of the model."""
        if self._calibration is not None:
            return self._calibration.model_bytes // 4
        return self._job.values if self._job else None

    @property
    def calibrated(self) -> bool:
        """Whether there is a calibration to go by."""
        return self._calibration is not None

    @cached_property
    def quality_and_scope(self) -> tuple[Quality, str] | None:
        """What kind of joules these are."""
        if self._choice is not None:
            return self._choice.quality, self._choice.scope
        preset = self._preset
        return (Quality.ESTIMATED, preset.energy.scope) if preset else None

    @cached_property
    def idle_watts(self) -> float | None:
        """What it takes to do nothing, in the same kind of joules."""
        rows = [*self._rows(Work.IDLE_BEFORE), *self._rows(Work.IDLE_AFTER)]
        found = [joules for row in rows if (joules := self._joules(row)) is not None]
        if found:
            return float(np.median(found))
        return self._preset.energy.idle_watts if self._preset else None

    def lever(self, unit: str) -> LeverInfo | None:
        """The lever that an agent pulls for `unit`: one of its hardware before that of an emulation."""
        levers = [info for info in self._able.levers if info.unit == unit]
        return min(levers, key=lambda info: info.lever == CPU_QUOTA, default=None)

    def can(self, precision: str) -> bool | None:
        """Whether the device trained at `precision` in its calibration; None if nobody tried."""
        rows = [r for r in (self._calibration.rows if self._calibration else ()) if r.work is Work.TRAIN]
        of = [r for r in rows if r.precision == precision and not r.left_out]
        return any(r.repeats for r in of) if of else None

    def law(self, setting: Setting) -> float:
        """Seconds of a step; where nothing is known, a number that goes as they do."""
        return self.step(setting).seconds or setting.width**2 / self._clock(setting)

    def joules_law(self, setting: Setting) -> float:
        """The same for joules."""
        return self.step(setting).joules or self.law(setting)

    def step(self, setting: Setting) -> Guess:
        """One step of training."""
        found = self._step_at_full_clock(setting.width, setting.precision)
        return self._at_clock(found, setting)

    def encode(self, bits: float) -> Guess:
        """The whole update at `bits`."""
        if self._encoding is not None and self._calibration is not None:
            megabytes = self._calibration.model_bytes / MEGABYTE
            known, seconds, joules = self._encoding
            there = float(np.interp(bits, known, seconds)) * megabytes
            spent = None if joules is None else float(np.interp(bits, known, joules)) * megabytes
            return Guess(there, spent, Known.CALIBRATED)
        if self.values is None:
            return Guess(None, None, Known.PRESET)
        return self._busy(4 * self.values / (ENCODE_PER_CORE_S * self._cores), self._cores)

    def send(self, size: float) -> Guess:
        """`size` bytes up."""
        return self._transfer(Work.SEND, size, self._rates[0])

    def receive(self, size: float) -> Guess:
        """`size` bytes down."""
        return self._transfer(Work.RECEIVE, size, self._rates[1])

    @property
    def _preset(self) -> DeviceKind | None:
        """The kind, where its watts are the kind of joules that is wanted and no calibration knows better."""
        kind, wanted = self._kind, self._wanted
        if kind is None or self._calibration is not None:
            return None
        same = wanted is None or (wanted.quality, wanted.scope) == (Quality.ESTIMATED, kind.energy.scope)
        return kind if same else None

    @property
    def _cores(self) -> float:
        """Processors that a training keeps busy."""
        if self._able.cpu_quota is not None:
            return self._able.cpu_quota
        return min(self._able.cpu_cores, self._kind.cores) if self._kind else self._able.cpu_cores

    @property
    def _rates(self) -> tuple[float | None, float | None]:
        link = self._able.link or (self._kind.link if self._kind else None)
        return (link.rate_up_bps, link.rate_down_bps) if link else (None, None)

    @cached_property
    def _choice(self) -> EnergyChoice | None:
        """The readings of the calibration that count: those wanted, else the best that its rows have."""
        rows = [r for w in (Work.TRAIN, Work.ENCODE, Work.SEND, Work.RECEIVE) for r in self._rows(w)]
        windows = [[u.reading() for u in row.joules] for row in rows]
        for choice in choose(windows).values():
            if self._wanted and (choice.quality, choice.scope) != (self._wanted.quality, self._wanted.scope):
                continue
            if all(choice.has_all(w) for w in windows):
                return choice
        return None

    def _rows(self, work: Work) -> list[CalibrationRow]:
        rows = self._calibration.rows if self._calibration else ()
        return [r for r in rows if r.work is work and r.repeats and r.seconds]

    def _joules(self, row: CalibrationRow) -> float | None:
        if self._choice is None:
            return None
        found = total([[u.reading() for u in row.joules]], self._choice)
        return None if found.missing else found.joules

    def _columns(self, rows: list[CalibrationRow], of: str) -> Columns:
        """`of`, seconds and joules of `rows`, by `of`; None for joules that some row lacks."""
        rows = sorted(rows, key=lambda r: getattr(r, of) or 0.0)
        joules = [self._joules(r) for r in rows]
        return (
            np.array([getattr(r, of) or 0.0 for r in rows], float),
            np.array([r.seconds for r in rows], float),
            None if any(j is None for j in joules) else np.array(joules, float),
        )

    @cached_property
    def _trained(self) -> dict[str, Columns]:
        """Per step by width, for each precision that was calibrated."""
        rows = self._rows(Work.TRAIN)
        names = sorted({r.precision or "" for r in rows}, reverse=True)  # fp32 before bf16
        return {name: self._columns([r for r in rows if r.precision == name], "width") for name in names}

    @cached_property
    def _encoding(self) -> Columns | None:
        """Per megabyte of float32 values, by bits."""
        rows = self._rows(Work.ENCODE)
        return self._columns(rows, "bits") if rows else None

    @cached_property
    def _moved(self) -> dict[Work, tuple[float | None, float | None]]:
        """Seconds and joules per megabyte sent and received."""
        found = {work: self._rows(work) for work in (Work.SEND, Work.RECEIVE)}
        return {work: (rows[0].seconds, self._joules(rows[0])) for work, rows in found.items() if rows}

    def _step_at_full_clock(self, width: float, precision: str) -> Guess:
        if self._trained:
            known = Known.CALIBRATED if precision in self._trained else Known.PRESET
            widths, seconds, joules = self._trained.get(precision) or next(iter(self._trained.values()))
            return Guess(_by_width(widths, seconds, width), _by_width(widths, joules, width), known)
        if self._calibration is None and self._job is not None and self._job.macs_per_step:
            return self._busy(self._job.macs_per_step * width**2 / (MACS_PER_CORE_S * self._cores), self._cores)
        return Guess(None, None, Known.PRESET)

    def _clock(self, setting: Setting) -> float:
        """The part of its clock that the device runs at."""
        lever = self.lever("Hz")
        return setting.frequency_hz / lever.maximum if lever and setting.frequency_hz else 1.0

    def _at_clock(self, guess: Guess, setting: Setting) -> Guess:
        """Seconds go with 1 / f. Joules above idling go with f^2 [R: kappa C f^2], unless it only rests."""
        part, lever = self._clock(setting), self.lever("Hz")
        if part == 1.0 or guess.seconds is None or lever is None:
            return guess
        joules, seconds = guess.joules, guess.seconds / part
        if joules is not None:
            idle = min((self.idle_watts or 0.0) * guess.seconds, joules)
            joules = (joules - idle) * (1.0 if lever.lever == CPU_QUOTA else part**2) + idle / part
        return replace(guess, seconds=seconds, joules=joules)

    def _transfer(self, work: Work, size: float, rate_bps: float | None) -> Guess:
        if work in self._moved:
            seconds, joules = self._moved[work]
            return Guess(_times(seconds, size / MEGABYTE), _times(joules, size / MEGABYTE), Known.CALIBRATED)
        return self._busy(None if rate_bps is None else 8 * size / rate_bps, 0.0)

    def _busy(self, seconds: float | None, cores: float) -> Guess:
        watts = self._preset.energy.watts(cores) if self._preset else None
        return Guess(seconds, None if watts is None else _times(seconds, watts), Known.PRESET)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _by_width(widths: np.ndarray, values: np.ndarray | None, width: float) -> float | None:
    """On the line between neighbours in logarithms; beyond them by the square of the width."""
    if values is None or (values <= 0).any():
        return None
    nearest = min(max(width, float(widths[0])), float(widths[-1]))
    inside = np.exp(np.interp(np.log(nearest), np.log(widths), np.log(values)))
    return float(inside * (width / nearest) ** 2)
