"""`on-demand`: bits by round and device from the error it may make, after Lai et al. (arXiv 2403.04430). [R]

Either each device sends the fewest bits whose error it tolerates at the live range of its update, or all share the
run's error budget and `optimizer.ondemand.budget` splits it so that the joules are least, by each device's fitted
constants. What is left to each device (precision, width, clock, power) is the cheapest that holds the
deadline. A testbed's agents have no lever for transmit power, so that part of the reconstruction stays in the
solvers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fleet.experiment import BITS, Section, parse
from optimizer.fitting import Choice
from optimizer.models.quantisation import BITS as COLUMNS
from optimizer.ondemand import budget
from optimizer.ondemand.problem import Infeasible
from optimizer.policies.base import FittedPolicy, late, taking_part
from optimizer.policies.demand import error, fewest_bits, live_range
from optimizer.policies.options import Bits, Demand, Explore, NetworkSection, Participation, Training
from optimizer.policy import Candidate


class OnDemandOptions(Section):
    """`training` says what else a device may do: of it, the least joules are taken.

    deadline_s: from the first byte down to the last byte up. `late`: what happens to a device that cannot hold it.
    network: makes predictions possible before anything was measured.
    """

    demand: Demand
    training: Training
    bits_down: Bits
    deadline_s: float = Field(gt=0)
    late: Literal["leave out", "fail"]
    network: NetworkSection | None = None
    participation: Participation | None = None
    explore: Explore | None = None


class OnDemandPolicy(FittedPolicy):
    """Bits follow the demand."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = o = parse(OnDemandOptions, options, where="policy.options")
        super().__init__(o.bits_down, o.explore, o.training.widths, o.network.job() if o.network else None)

    def choose(self, round: int, candidates: Sequence[Candidate]) -> Mapping[str, Choice]:
        """See FittedPolicy."""
        o, demand = self._options, self._options.demand
        rows: dict[str, dict[int, Choice]] = {}
        for at, c in enumerate(candidates):
            bits = BITS if demand.of == "run" else (fewest_bits(demand, self.fits, c),)
            possible, least_s = self.in_time(o.training.menu(bits), c, o.deadline_s)
            if possible:
                by_bits = {b: [x for x in possible if x.bits_up == b] for b in bits}
                rows[c.device] = {b: self.cheapest(c, of) for b, of in by_bits.items() if of}
            elif o.late == "fail" or len(candidates) == 1:
                raise Infeasible("deadline", [at], late(c.device, least_s, o.deadline_s))
        if not rows:
            raise Infeasible(
                "deadline",
                range(len(candidates)),
                f"none of {len(candidates)} devices holds the deadline of {o.deadline_s:.3g} s",
            )
        if demand.of == "device":
            chosen = {name: next(iter(row.values())) for name, row in rows.items()}
        else:
            chosen = self._shared([c for c in candidates if c.device in rows], rows)
        return taking_part(o.participation, round, candidates, chosen, self.fits)

    def _shared(
        self, candidates: Sequence[Candidate], rows: Mapping[str, Mapping[int, Choice]]
    ) -> dict[str, Choice]:
        """The bits of least joules with their mean error in the budget; Infeasible names device and constraint."""
        joules, errors = table(candidates, rows, self)
        try:
            picked = budget.choose(joules, errors, len(candidates) * self._options.demand.rms**2)
        except Infeasible as infeasible:
            names = ", ".join(candidates[i].device for i in infeasible.devices)
            raise Infeasible(infeasible.constraint, infeasible.devices, f"{infeasible} ({names})") from None
        return {c.device: rows[c.device][COLUMNS[k]] for c, k in zip(candidates, picked, strict=True)}

    def span(self, device: str) -> float:
        """The live range of a device's update."""
        return live_range(self._options.demand, self.fits, device)


def table(
    candidates: Sequence[Candidate], rows: Mapping[str, Mapping[int, Choice]], policy: "OnDemandPolicy"
) -> tuple[np.ndarray, np.ndarray]:
    """Joules and errors by device and COLUMNS; inf where one cannot. Unless all are known, bits are the price."""
    costs = {
        (c.device, b): policy.fits.cost(c, choice).joules
        for c in candidates
        for b, choice in rows[c.device].items()
    }
    known = all(j is not None for j in costs.values())
    joules = np.full((len(candidates), len(COLUMNS)), np.inf)
    errors = np.zeros_like(joules)
    for at, c in enumerate(candidates):
        for column, bits in enumerate(COLUMNS):
            errors[at, column] = error(policy.span(c.device), bits)
            if bits in rows[c.device]:
                found = costs[c.device, bits]
                joules[at, column] = found if known and found is not None else bits
    return joules, errors
