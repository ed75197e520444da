"""`exhaustive`: every combination of a small menu over a small fleet is priced, and the cheapest one taken.

Slow and plainly right: the judge of `greedy` and of `on-demand`, and a policy for a handful of devices.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from pydantic import Field

from fleet.errors import BadRequest
from fleet.experiment import Section, parse
from optimizer.fitting import Choice
from optimizer.ondemand.problem import Infeasible
from optimizer.policies.base import FittedPolicy, late
from optimizer.policies.demand import error, live_range, tolerated
from optimizer.policies.options import Bits, Demand, Explore, Menu
from optimizer.policy import Candidate

COMBINATIONS = 2_000_000
"""More than these are refused: 16 MB an array of them."""


class ExhaustiveOptions(Section):
    """The least joules of all devices together, of `menu`, within the deadline and within `demand` of the run."""

    menu: Menu
    bits_down: Bits
    deadline_s: float = Field(gt=0)
    demand: Demand | None = None
    explore: Explore | None = None


class ExhaustivePolicy(FittedPolicy):
    """Every device takes part."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = o = parse(ExhaustiveOptions, options, where="policy.options")
        super().__init__(o.bits_down, o.explore, o.menu.widths)

    def choose(self, round: int, candidates: Sequence[Candidate]) -> Mapping[str, Choice]:
        """See FittedPolicy. BadRequest where there are more than COMBINATIONS."""
        o = self._options
        possible = []
        for at, c in enumerate(candidates):
            kept, least_s = self.in_time(o.menu, c, o.deadline_s)
            if not kept:
                raise Infeasible("deadline", [at], late(c.device, least_s, o.deadline_s))
            possible.append(kept)
        count = prod(map(len, possible))
        if count > COMBINATIONS:
            sizes = " x ".join(str(len(of)) for of in possible)
            raise BadRequest(f"{sizes} = {count:,} combinations; exhaustive tries {COMBINATIONS:,} at most")
        joules = self._summed(
            [[self.fits.device(c).rank(x) for x in of] for c, of in zip(candidates, possible, strict=True)]
        )
        if o.demand is not None:
            errors = self._errors(o.demand, candidates, possible)
            joules = np.where(errors <= 1 + 1e-12, joules, np.inf)
            if not np.isfinite(joules).any():
                raise Infeasible(
                    "error budget", [-1], f"none of {count:,} combinations keeps the error within {o.demand.rms:g}"
                )
        best = np.unravel_index(int(np.argmin(joules)), joules.shape)
        return {c.device: of[i] for c, of, i in zip(candidates, possible, best, strict=True)}

    def _errors(
        self, demand: Demand, candidates: Sequence[Candidate], possible: Sequence[Sequence[Choice]]
    ) -> np.ndarray:
        """Of each combination, the largest part of what is demanded: of the run's mean, or of any device."""
        shares = []
        for c, of in zip(candidates, possible, strict=True):
            rms = tolerated(demand, c)
            span = live_range(demand, self.fits, c.device)
            shares.append([error(span, x.bits_up) / rms**2 for x in of])
        if demand.of == "run":
            return self._summed(shares) / len(candidates)
        return reduce(np.maximum.outer, map(np.asarray, shares))

    @staticmethod
    def _summed(rows: Sequence[Sequence[float]]) -> np.ndarray:
        return np.asarray(reduce(np.add.outer, map(np.asarray, rows)))
