"""`random`: any setting of a menu, each as likely, for every device and round. A baseline, and a way to learn."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from fleet.experiment import Section, parse
from optimizer.fitting import Choice
from optimizer.policies import draw
from optimizer.policies.base import FittedPolicy
from optimizer.policies.options import Bits, Menu
from optimizer.policy import Candidate


class RandomOptions(Section):
    """What is drawn from, and the seed."""

    seed: int = Field(ge=0)
    bits_down: Bits
    menu: Menu


class RandomPolicy(FittedPolicy):
    """Every device takes part."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = o = parse(RandomOptions, options, where="policy.options")
        super().__init__(o.bits_down, None, o.menu.widths)

    def choose(self, round: int, candidates: Sequence[Candidate]) -> Mapping[str, Choice]:
        """See FittedPolicy."""
        o = self._options
        return {c.device: draw.one(self.choices(o.menu, c), o.seed, round, c.device) for c in candidates}
