"""What a device costs at work, measured once: per step, per megabyte, and doing nothing.

A calibration follows a plan that holds every number it was made with. Its rows are medians over windows of the
device's meter; docs/calibration.md says how each is measured.
"""

from dataclasses import dataclass
from enum import StrEnum

from fleet.energy import EnergyReading, Quality


class Work(StrEnum):
    """What a row of a calibration is about. The unit of each: see UNITS."""

    IDLE_BEFORE = "idle_before"
    IDLE_AFTER = "idle_after"
    TRAIN = "train"
    ENCODE = "encode"
    SEND = "send"
    RECEIVE = "receive"


UNITS = {
    Work.IDLE_BEFORE: "second",
    Work.IDLE_AFTER: "second",
    Work.TRAIN: "step",
    Work.ENCODE: "megabyte",
    Work.SEND: "megabyte",
    Work.RECEIVE: "megabyte",
}
"""A megabyte is 10^6 bytes: of float32 values for ENCODE, of payload for SEND and RECEIVE."""


@dataclass(frozen=True)
class CalibrationPlan:
    """Everything that a calibration was made with.

    Trains `workload` on shard 0 of `shards` in every one of `widths` x `precisions`, and encodes its model at each
    of `bits`. Each is worked at for `warm_up_s`, then measured in `repeats` windows of at least `window_s`
    (longer where a source needs it), then in one of twice as much work, to check. `idle_s` of nothing at each
    end, the last after `cool_down_s`. A device that is away `lost_after_s` or not done in `deadline_s` has failed.
    `budget_s`: rows that are not done so long after the first piece of work (which pays for imports) are left out,
    and what a prediction needs most is measured first; None: all are measured.
    """

    workload: str
    options_json: str
    shards: int
    block_size: int
    error_feedback: bool
    widths: tuple[float, ...]
    precisions: tuple[str, ...]
    bits: tuple[int, ...]
    repeats: int
    window_s: float
    warm_up_s: float
    idle_s: float
    cool_down_s: float
    lost_after_s: float
    deadline_s: float
    quick: bool
    seed: int
    budget_s: float | None = None


@dataclass(frozen=True)
class UnitJoules:
    """What one source says about a row: joules per unit, the median over the windows.

    `joules` None: the source could not say in some window. `dynamic_joules` is what is left of them without idle
    power (the mean of before and after) for as long; it may be negative where it is less than the noise.
    `residual` is how far the check window lay from `joules`, relative; of IDLE_AFTER it is the drift since before.
    """

    source: str
    component: str
    scope: str
    quality: Quality
    joules: float | None
    iqr_joules: float | None = None
    dynamic_joules: float | None = None
    residual: float | None = None
    flags: tuple[str, ...] = ()

    def reading(self, units: float = 1.0) -> EnergyReading:
        """The joules of `units` as one reading."""
        joules = None if self.joules is None else self.joules * units
        return EnergyReading(self.source, self.component, self.scope, self.quality, joules)


@dataclass(frozen=True)
class CalibrationRow:
    """One kind of work: `repeats` windows of `units` units each (a median). Seconds are per unit.

    `repeats` 0: it cannot be done on this device, or with `left_out` there was no time for it; `reason` says so.
    `residual`: how far the seconds of the check window lay from what the median predicts, relative; None where
    there is no check.
    """

    work: Work
    repeats: int
    units: float = 0.0
    seconds: float | None = None
    iqr_seconds: float | None = None
    residual: float | None = None
    width: float | None = None
    precision: str | None = None
    bits: int | None = None
    joules: tuple[UnitJoules, ...] = ()
    reason: str = ""
    left_out: bool = False


@dataclass(frozen=True)
class Calibration:
    """What a calibration found. `model_bytes` are those of the workload's model as float32 values."""

    calibration: str
    device: str
    plan: CalibrationPlan
    started_at_s: float
    seconds: float
    model_bytes: int
    rows: tuple[CalibrationRow, ...] = ()


@dataclass(frozen=True)
class Calibrate:
    """The coordinator asks an agent for a calibration. Saying it again changes nothing."""

    calibration: str
    plan: CalibrationPlan


@dataclass(frozen=True)
class CancelCalibration:
    """The coordinator no longer wants it."""

    calibration: str
    reason: str


@dataclass(frozen=True)
class CalibrationProgress:
    """`done` of `total` rows are measured; `what` is next. Not in the log."""

    calibration: str
    done: int
    total: int
    what: str


@dataclass(frozen=True)
class CalibrationGivenUp:
    """The agent cannot calibrate, and why. Repeated until acknowledged."""

    calibration: str
    reason: str


@dataclass(frozen=True)
class CalibrationAck:
    """The coordinator has the outcome, or does not want it any more; the agent may forget it."""

    calibration: str
