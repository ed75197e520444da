"""The schemes that are compared: on-demand, by each device's tolerance or a shared budget, and fixed bits. [R]"""

from collections.abc import Mapping

import numpy as np

from optimizer.models.quantisation import bits_for_error
from optimizer.ondemand.allocate import allocate
from optimizer.ondemand.bandwidth import share
from optimizer.ondemand.budget import shared_bits
from optimizer.ondemand.problem import Devices, Plan, Vector


def by_tolerance(devices: Devices, tolerated: Vector, total_hz: float, *, share_band: bool = False) -> Plan:
    """Each device sends the fewest bits whose error it tolerates: `tolerated` (N,), a bound on J."""
    return _at(devices, bits_for_error(devices.values, devices.range, tolerated), total_hz, share_band)


def by_budget(devices: Devices, budget: float, total_hz: float, *, share_band: bool = False) -> Plan:
    """The bits of least energy for which the error of the mean, sum_k w_k^2 J_k, is at most `budget`.

    The bits are chosen for equal parts of the band; with `share_band` the band is shared out for them after.
    """
    equal = np.full(len(devices), total_hz / len(devices))
    return _at(devices, shared_bits(devices, equal, budget), total_hz, share_band)


def fixed(devices: Devices, bits: int, total_hz: float, *, share_band: bool = False) -> Plan:
    """The same bits for all; 32 is the baseline that does not quantise."""
    return _at(devices, np.full(len(devices), bits), total_hz, share_band)


def _at(devices: Devices, bits: Vector, total_hz: float, share_band: bool) -> Plan:
    q = np.asarray(bits, float)
    band = share(devices, q, total_hz) if share_band else np.full(len(devices), total_hz / len(devices))
    return allocate(devices, q, band)


def totals(plan: Plan) -> Mapping[str, float]:
    """A plan in one line: joules by part, and bits sent."""
    return {
        "compute_joules": float(plan.compute_joules.sum()),
        "radio_joules": float(plan.radio_joules.sum()),
        "joules": plan.joules,
        "transmitted_bits": float(plan.payload_bits.sum()),
    }
