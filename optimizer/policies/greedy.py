"""`greedy`: each device does what is cheapest by its own constants, within a deadline and above some bits."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fleet.experiment import Section, parse
from optimizer.fitting import Choice
from optimizer.ondemand.problem import Infeasible
from optimizer.policies.base import FittedPolicy, late, taking_part
from optimizer.policies.options import Bits, Explore, Menu, Participation
from optimizer.policy import Candidate


class GreedyOptions(Section):
    """`menu` says what is good enough: of it, the least joules are taken.

    bits_floor: nothing below it is taken. deadline_s: from the first byte down to the last byte up. `late`: what
    happens to a device that cannot hold it.
    """

    menu: Menu
    bits_down: Bits
    bits_floor: Bits
    deadline_s: float = Field(gt=0)
    late: Literal["leave out", "fail"]
    participation: Participation | None = None
    explore: Explore | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if max(self.menu.bits_up) < self.bits_floor:
            raise ValueError(f"no bits_up of the menu reaches bits_floor {self.bits_floor}")
        return self


class GreedyPolicy(FittedPolicy):
    """No device looks at another, but for who takes part."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = o = parse(GreedyOptions, options, where="policy.options")
        super().__init__(o.bits_down, o.explore, o.menu.widths)
        fine = tuple(b for b in o.menu.bits_up if b >= o.bits_floor)
        self._menu = o.menu.model_copy(update={"bits_up": fine})

    def choose(self, round: int, candidates: Sequence[Candidate]) -> Mapping[str, Choice]:
        """See FittedPolicy."""
        o, chosen, reasons = self._options, dict[str, Choice](), list[str]()
        for at, c in enumerate(candidates):
            possible, least_s = self.in_time(self._menu, c, o.deadline_s)
            if possible:
                chosen[c.device] = self.cheapest(c, possible)
                continue
            reasons.append(late(c.device, least_s, o.deadline_s))
            if o.late == "fail":
                raise Infeasible("deadline", [at], reasons[-1])
        if not chosen:
            raise Infeasible("deadline", range(len(candidates)), "; ".join(reasons))
        return taking_part(o.participation, round, candidates, chosen, self.fits)
