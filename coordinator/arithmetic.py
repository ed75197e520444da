"""What training would take on a chip with n-bit arithmetic: a row of its own, estimated, and part of no total.

A run in which a device trains at a simulated precision (q1 to q16) has the row for every training in it, at 32
bits for fp32 and at 16 for bf16, so that they compare. The joules of the simulation itself, which are those of
full precision and more, stay where they are.
"""

from collections.abc import Iterable
from dataclasses import replace

from fleet.domain import Assignment, EnergyReading, NetworkSize, Phase, PhaseReport, Quality
from fleet.energy import ARITHMETIC
from optimizer.models.arithmetic import BITS, step_joules

SOURCE = "arithmetic"


def with_arithmetic(
    phases: Iterable[PhaseReport], size: NetworkSize | None, assignment: Assignment
) -> tuple[PhaseReport, ...]:
    """`phases` of one assignment that trained all its steps, the training with a reading of the chip.

    As they are where nobody knows the network's size, or the bits of the precision.
    """
    if size is None or assignment.precision not in BITS:
        return tuple(phases)
    joules = assignment.train_steps * step_joules(size, BITS[assignment.precision], assignment.width)
    found = EnergyReading(SOURCE, ARITHMETIC, ARITHMETIC, Quality.ESTIMATED, joules)
    return tuple(replace(p, readings=(*p.readings, found)) if p.phase is Phase.TRAIN else p for p in phases)
