"""The error that an update of some bits has, and what of it is demanded, per value.

    J(q) / d = R^2 / (4 (2^q - 2)^2)

R is the live range: twice the root mean square, over the blocks of the codec, of their largest magnitude. The
codec `uniform` has 2^q - 2 intervals, an odd number of codes with zero in the middle; a min-max quantiser (the
reconstruction of arXiv 2403.04430 in optimizer.models) has 2^q - 1. Both draw one of two neighbours so that the
mean is right.
"""

from fleet.experiment import BITS
from optimizer.fitting import FleetFit
from optimizer.policies.options import Demand
from optimizer.policy import Candidate


def error(live_range: float, bits: int) -> float:
    """E(Q(x) - x)^2 of one value, at most; zero at 32 bits. Of a sign, it is what the value may be."""
    if bits == 1:
        return (live_range / 2) ** 2
    return 0.0 if bits == 32 else float(live_range / (2 * (2.0**bits - 2))) ** 2


def live_range(demand: Demand, fits: FleetFit, device: str) -> float:
    """What the device's last update spanned, or what one is taken to span at first."""
    known = fits.range(device)
    return demand.first_range if known is None else known


def tolerated(demand: Demand, candidate: Candidate) -> float:
    """Root mean square error of a value that is demanded of the device: by its name, its kind, else of all."""
    by_kind = demand.tolerances.get(candidate.capabilities.kind, demand.rms)
    return demand.tolerances.get(candidate.device, by_kind)


def fewest_bits(demand: Demand, fits: FleetFit, candidate: Candidate) -> int:
    """The fewest bits whose error the device tolerates: ceil(log2(2 + R / (2 rms))), within what there is."""
    rms = tolerated(demand, candidate)
    span = live_range(demand, fits, candidate.device)
    for bits in BITS:
        if error(span, bits) <= rms**2 * (1 + 1e-9):
            return int(bits)
    return 32
