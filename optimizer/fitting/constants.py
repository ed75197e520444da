"""The constants of a device one by one, for people: value, unit, where it comes from and how sure it is."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleet.domain import Phase
from optimizer.fitting.device import DeviceFit
from optimizer.fitting.sample import Choice
from optimizer.fitting.start import Known


@dataclass(frozen=True)
class Constant:
    """One number. `residual` is the median relative distance of its `samples`; None: not known, or none."""

    name: str
    value: float | None
    unit: str
    known: Known
    samples: int = 0
    residual: float | None = None


def constants(fit: DeviceFit, choice: Choice) -> Iterator[Constant]:
    """What the cost of `choice` is made of."""
    cost, setting = fit.cost(choice), choice.setting
    train, seconds, joules = cost.of(Phase.TRAIN), fit.train_seconds, fit.train_joules
    guess = fit.start.step(setting)
    at = f"step at {setting.precision}, width {setting.width:g}"
    step_s = seconds.per_step(setting) if seconds else guess.seconds
    yield Constant(at, step_s, "s", train.known, train.samples, train.residual_seconds)
    step_joules = joules.per_step(setting) if joules else None if seconds else guess.joules
    yield Constant(at, step_joules, "J", train.known, train.samples, train.residual_joules)
    if seconds is not None:
        samples = len(fit.samples)
        yield Constant("assignment, whatever it does", seconds.fixed, "s", Known.FITTED, samples, seconds.residual)
    encode = cost.of(Phase.QUANTIZE)
    at = f"encoding at {choice.bits_up} bits"
    yield Constant(at, encode.seconds, "s", encode.known, encode.samples, encode.residual_seconds)
    yield Constant(at, encode.joules, "J", encode.known, encode.samples, encode.residual_joules)
    for phase, size in (
        (Phase.UPLOAD, fit.upload_bytes(choice.bits_up)),
        (Phase.DOWNLOAD, fit.download_bytes(choice.bits_down)),
    ):
        p = cost.of(phase)
        for value, unit, residual in ((p.seconds, "s", p.residual_seconds), (p.joules, "J", p.residual_joules)):
            per = None if value is None or not size else 1e6 * value / size
            yield Constant(f"{phase} of a megabyte", per, unit, p.known, p.samples, residual)
    idle = Known.CALIBRATED if fit.start.calibrated else Known.PRESET
    yield Constant("idle", fit.start.idle_watts, "W", idle)
