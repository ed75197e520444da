"""Power, frequency and time of each device for a payload and a bandwidth that are given.

    min_t  (N0 b / h) (2^(S / (b t)) - 1) t + kappa C^3 / (T - t)^2

over the seconds t of the upload. It is convex, and its derivative is

    (N0 b / h) (2^x (1 - x ln 2) - 1) + 2 kappa C^3 / (T - t)^3        x = S / (b t)

whose root is the optimum unless full power, full frequency or the least frequency come first. [R]
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import elementwise

from optimizer.ondemand.problem import Devices, Plan, Vector, refuse, seconds_to_upload

LN2 = np.log(2)


@dataclass(frozen=True)
class Windows:
    """From the fewest to the most seconds that each upload may take; empty where `fewest_s` > `most_s`."""

    fewest_s: Vector
    most_s: Vector

    @property
    def empty(self) -> np.ndarray:
        """Where the deadline cannot be held."""
        return np.asarray(self.fewest_s > self.most_s)


def windows(devices: Devices, payload_bits: Vector, bandwidth_hz: Vector) -> Windows:
    """What full power, full frequency and the least frequency leave. Arguments are broadcast with the devices.

    Below the least frequency's end a device would only wait, so the upload starts no later than that.
    """
    top_rate = bandwidth_hz * np.log2(
        1 + devices.max_watts * devices.gain / (devices.noise_watts_per_hz * bandwidth_hz)
    )
    at_full_power = payload_bits / top_rate
    most = devices.deadline_s - devices.cycles / devices.max_hz
    slowest = devices.deadline_s - devices.cycles / devices.min_hz
    return Windows(np.maximum(at_full_power, slowest), most)


def upload_seconds(devices: Devices, payload_bits: Vector, bandwidth_hz: Vector) -> Vector:
    """The t of least energy; nan where the deadline cannot be held."""
    window = windows(devices, payload_bits, bandwidth_hz)
    fewest, most = np.broadcast_arrays(window.fewest_s, window.most_s)
    possible = ~window.empty & (most > 0)
    low, high = np.where(possible, fewest, 1.0), np.where(possible, most, 2.0)
    noise = devices.noise_watts_per_hz * bandwidth_hz / devices.gain
    terms = np.broadcast_arrays(
        noise, payload_bits / bandwidth_hz, devices.kappa * devices.cycles**3, devices.deadline_s, low
    )[:-1]
    rises_at_once = _slope(low, *terms) >= 0
    falls_to_the_end = _slope(high, *terms) <= 0
    inside = possible & ~rises_at_once & ~falls_to_the_end
    t = np.where(rises_at_once, low, high).astype(float)
    if inside.any():
        picked = tuple(term[inside] for term in terms)
        found = elementwise.find_root(_slope, (low[inside], high[inside]), args=picked)
        t[inside] = found.x
    return np.where(possible, t, np.nan)


def _slope(t: Vector, noise: Vector, bits_per_hz: Vector, cubes: Vector, deadline_s: Vector) -> Vector:
    x = bits_per_hz / t
    with np.errstate(over="ignore", invalid="ignore"):
        radio = noise * (np.exp2(x) * (1 - x * LN2) - 1)
    return np.asarray(np.nan_to_num(radio, nan=-np.inf) + 2 * cubes / (deadline_s - t) ** 3)


def energy(devices: Devices, payload_bits: Vector, bandwidth_hz: Vector) -> tuple[Vector, Vector, Vector]:
    """Seconds of the upload, and joules of computing and of the radio; nan where the deadline cannot be held."""
    t = upload_seconds(devices, payload_bits, bandwidth_hz)
    frequency = np.clip(devices.cycles / (devices.deadline_s - t), devices.min_hz, devices.max_hz)
    power = (
        devices.noise_watts_per_hz * bandwidth_hz / devices.gain * np.expm1(payload_bits / bandwidth_hz / t * LN2)
    )
    return t, devices.kappa * devices.cycles * frequency**2, power * t


def allocate(devices: Devices, bits: Vector, bandwidth_hz: Vector) -> Plan:
    """The plan of least energy at `bits` (N,) on `bandwidth_hz` (N,) each.

    Infeasible names the first device that cannot compute, cannot upload in time, or has not the energy.
    """
    payload = devices.payload_bits(bits)
    window = windows(devices, payload, bandwidth_hz)
    seconds_to_upload(devices)
    refuse(
        window.empty,
        "upload",
        "device {} needs {:.3g} s to upload {:.3g} bits at full power; {:.3g} s are left of its deadline",
        window.fewest_s,
        payload,
        window.most_s,
    )
    t, compute, radio = energy(devices, payload, bandwidth_hz)
    refuse(
        compute + radio > devices.energy_joules,
        "energy",
        "device {} spends at least {:.3g} J in this round; it has {:.3g} J",
        compute + radio,
        devices.energy_joules,
    )
    frequency = np.clip(devices.cycles / (devices.deadline_s - t), devices.min_hz, devices.max_hz)
    bits, bandwidth_hz = (np.broadcast_to(x, t.shape) for x in (bits, bandwidth_hz))
    return Plan(bits, bandwidth_hz, frequency, radio / t, t, compute, radio, payload)
