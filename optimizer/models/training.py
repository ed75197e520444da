"""Energy of training a quantised network on a chip with n-bit arithmetic, counted in MACs and memory accesses.

[P] Kim, Saad, Mozaffari, Debbah, "Green, Quantized Federated Learning over Wireless Networks" (arXiv
2207.09387), from the authors' public code; the energy of a MAC after Moons et al. 2017. On hardware without
n-bit arithmetic these joules are not spent: they are an estimate for a chip that has it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from optimizer.models.checks import positive


@dataclass(frozen=True)
class Network:
    """What is trained: parameters, MACs of a forward pass, outputs of all its layers, inputs of one sample."""

    parameters: int
    macs: float
    outputs: int
    inputs: int

    def __post_init__(self) -> None:
        positive(self, "parameters", "macs", "outputs", "inputs")


@dataclass(frozen=True)
class Chip:
    """An accelerator: a MAC at `full_bits` takes `mac_joules`, at n bits (n / full_bits) ** alpha of it.

    One access to DRAM takes `dram_factor` MACs at the same bits; `units` MACs run at once and share what they
    load; `sram_bits` fit on the chip.
    """

    mac_joules: float
    alpha: float
    dram_factor: float
    units: float
    sram_bits: float
    full_bits: int = 32

    def __post_init__(self) -> None:
        positive(self, "mac_joules", "alpha", "dram_factor", "units", "full_bits")

    def mac(self, bits: ArrayLike) -> np.ndarray:
        """Joules of one MAC at `bits`."""
        return np.asarray(self.mac_joules * (np.asarray(bits, float) / self.full_bits) ** self.alpha)


@dataclass(frozen=True)
class StepEnergy:
    """Joules of one sample in one training step, by part; each has the shape of the bits asked for."""

    compute: np.ndarray
    weights: np.ndarray
    activations: np.ndarray
    dram: np.ndarray
    backward: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """All parts."""
        return np.asarray(self.compute + self.weights + self.activations + self.dram + self.backward)


def sample_energy(network: Network, chip: Chip, bits: ArrayLike, *, as_published: bool = False) -> StepEnergy:
    """Joules per sample with weights and activations of `bits` (any shape, 1 to full_bits) in the forward pass.

    as_published: with the slip in the authors' code, which multiplies two terms of the backward pass where a sum
    is meant; only to compare with their numbers.
    """
    n = np.asarray(bits, float)
    e, full, f = chip.mac(n), chip.mac(chip.full_bits), chip.full_bits
    d, macs, out = network.parameters, network.macs, network.outputs
    reuse = macs * e * np.sqrt(n / (chip.units * f))
    spilled = np.maximum(d * n + 2 * out * n - chip.sram_bits, 0)
    small = (4 * full * out) * (2 * full * d) if as_published else full * (4 * out + 2 * d)
    backward = full * 2 * macs + small + full * 2 * macs / np.sqrt(chip.units)
    backward = backward + chip.dram_factor * full * max(f * d + 2 * f * out - chip.sram_bits, 0)
    return StepEnergy(
        compute=macs * e + 2 * out * full,
        weights=2 * d * e + reuse,
        activations=4 * out * e + reuse,
        dram=chip.dram_factor * full * network.inputs + 2 * chip.dram_factor * e * spilled,
        backward=np.broadcast_to(backward, n.shape),
    )


def iteration_energy(
    network: Network, chip: Chip, bits: ArrayLike, batch: int, *, as_published: bool = False
) -> np.ndarray:
    """E_train(n): joules of one local iteration over `batch` samples."""
    return np.asarray(batch * sample_energy(network, chip, bits, as_published=as_published).total)


def dynamic_energy(cycles: ArrayLike, frequency_hz: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    """kappa C f^2: joules of `cycles` at `frequency_hz`; kappa is the switched capacitance in J s^2 / cycle.

    [R] the standard model of mobile edge computing, used where CMOS voltage follows frequency.
    """
    return np.asarray(np.asarray(kappa) * np.asarray(cycles, float) * np.square(np.asarray(frequency_hz, float)))
