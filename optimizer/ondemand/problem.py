"""What an on-demand plan is made from, and what it looks like. Arrays have one entry per device."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from fleet.errors import BadRequest
from optimizer.models.checks import not_negative, positive

Vector = np.ndarray


class Infeasible(BadRequest):
    """No plan holds all constraints. `devices` are those that break `constraint`; (-1,) means all together."""

    def __init__(self, constraint: str, devices: Iterable[int], message: str) -> None:
        super().__init__(message)
        self.constraint = constraint
        self.devices = tuple(int(d) for d in devices)


@dataclass(frozen=True)
class Devices:
    """The devices of one round; a number where all are alike is repeated for each.

    cycles: what training takes. kappa: J s^2 / cycle. gain: of the channel. values, range: how many values an
    update has, and what they span. weight: of the device in the mean, D_k / D. deadline_s: for training and
    upload. energy_joules: a battery or a budget, inf without.
    """

    cycles: Vector
    kappa: Vector
    min_hz: Vector
    max_hz: Vector
    gain: Vector
    max_watts: Vector
    noise_watts_per_hz: Vector
    values: Vector
    range: Vector
    weight: Vector
    overhead_bits: Vector
    deadline_s: Vector
    energy_joules: Vector

    def __post_init__(self) -> None:
        arrays = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(getattr(self, f.name), float)) for f in fields(self))
        )
        for field, array in zip(fields(self), arrays, strict=True):
            object.__setattr__(self, field.name, array)
        if not len(self):
            raise BadRequest("an empty fleet has no plan")
        positive(self, "cycles", "kappa", "min_hz", "max_hz", "gain", "max_watts", "noise_watts_per_hz", "values")
        positive(self, "weight", "deadline_s")
        not_negative(self, "range", "overhead_bits")
        if (self.min_hz > self.max_hz).any():
            at = int(np.argmax(self.min_hz > self.max_hz))
            raise BadRequest(f"device {at}: min_hz {self.min_hz[at]:g} is above max_hz {self.max_hz[at]:g}")
        if not (self.energy_joules > 0).all():
            raise BadRequest(f"device {int(np.argmin(self.energy_joules))}: energy_joules must be above zero")

    def __len__(self) -> int:
        return int(self.cycles.size)

    def payload_bits(self, bits: Vector) -> Vector:
        """S = d q + overhead."""
        return np.asarray(self.values * bits + self.overhead_bits)


@dataclass(frozen=True)
class Plan:
    """What each device does and spends. Its compute and its radio joules are estimates of the model."""

    bits: Vector
    bandwidth_hz: Vector
    frequency_hz: Vector
    power_watts: Vector
    transmit_s: Vector
    compute_joules: Vector
    radio_joules: Vector
    payload_bits: Vector

    @property
    def joules(self) -> float:
        """Of all devices together."""
        return float(self.compute_joules.sum() + self.radio_joules.sum())


def refuse(infeasible: np.ndarray, constraint: str, message: str, *numbers: Vector) -> None:
    """Infeasible, naming the first device that `infeasible` marks; `message` takes its index and numbers."""
    if infeasible.any():
        at = np.flatnonzero(infeasible)
        first = int(at[0])
        more = f" (and {at.size - 1} further devices)" if at.size > 1 else ""
        raise Infeasible(constraint, at, message.format(first, *(float(x[first]) for x in numbers)) + more)


def seconds_to_upload(devices: Devices) -> Vector:
    """What training at full frequency leaves of each deadline; Infeasible where that is nothing."""
    needed = devices.cycles / devices.max_hz
    left = devices.deadline_s - needed
    refuse(
        left <= 0,
        "computation",
        "device {} needs {:.3g} s to train at full frequency; its deadline is {:.3g} s",
        needed,
        devices.deadline_s,
    )
    return np.asarray(left)
