"""What training takes on a chip with n-bit arithmetic, by arXiv 2207.09387, for a workload that says its size.

Hardware without such arithmetic simulates it, and spends as much as at full precision. These joules are spent
nowhere: they say what the same steps would take on the paper's chip, at the n that they were trained at.
"""

from fleet.domain import NetworkSize
from fleet.experiment import SIMULATED_PRECISIONS
from optimizer.models.presets import GREEN_CHIP
from optimizer.models.training import Network, iteration_energy

NATIVE_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8}
"""The n that a precision stands for: the bits of its storage, as in the paper [R: it has fixed point only]."""

BITS = NATIVE_BITS | {name: n for n, name in enumerate(SIMULATED_PRECISIONS, 1)}
"""The n of every precision there is."""


def step_joules(size: NetworkSize, n: int, width: float = 1.0) -> float:
    """E_train(n) of one step of a network of `size` [P]; 1 to 32 bits.

    At a width below 1, MACs and parameters go with its square and outputs with it [R: DDSM's law].
    """
    network = Network(
        max(1, round(size.parameters * width**2)),
        size.macs * width**2,
        max(1, round(size.outputs * width)),
        size.inputs,
    )
    return float(iteration_energy(network, GREEN_CHIP, n, size.batch))
