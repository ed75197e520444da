"""`learned`: each device does what a trained network says, from what its own assignments came to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from fleet.experiment import Section, parse
from optimizer.fitting import Choice
from optimizer.learned import network
from optimizer.learned.memory import entries, remembered
from optimizer.ondemand.problem import Infeasible
from optimizer.policies.base import FittedPolicy
from optimizer.policies.options import Bits, Menu
from optimizer.policy import Candidate


class LearnedOptions(Section):
    """`file`: what `wattbed learn` wrote for this `menu` and `bits_down`. deadline_s: from byte down to byte up.

    `seed` is that of the training; acting draws nothing.
    """

    menu: Menu
    bits_down: Bits
    deadline_s: float = Field(gt=0)
    file: Path
    seed: int = Field(ge=0)


class LearnedPolicy(FittedPolicy):
    """Every device takes part. Its predictions are those of the fitted constants, as with every policy."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = o = parse(LearnedOptions, options, where="policy.options")
        super().__init__(o.bits_down, None, o.menu.widths)
        self._menu = entries(o.menu, o.bits_down)
        self._network: network.Network | None = None

    def choose(self, round: int, candidates: Sequence[Candidate]) -> Mapping[str, Choice]:
        """See FittedPolicy. BadRequest where `file` holds nothing for this menu."""
        if self._network is None:
            self._network = network.load(self._options.file, self._menu)
        return {c.device: self._best(self._network, c) for c in candidates}

    def _best(self, trained: network.Network, candidate: Candidate) -> Choice:
        fit = self.fits.device(candidate)
        can = np.array([fit.start.can(choice.setting.precision) is not False for choice in self._menu])
        if not can.any():
            precisions = ", ".join(self._options.menu.precisions)
            raise Infeasible("precision", [], f"device {candidate.device} trains at none of {precisions}")
        memory = remembered(fit.samples, self._menu, fit.energy)
        wanted = trained.preferences(memory.seen(self._options.deadline_s))
        return self._menu[int(np.argmax(np.where(can, wanted, -np.inf)))]
