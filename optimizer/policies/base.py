"""What the policies share: they learn from what they are told, price choices with it, and explore now and then."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from fleet.errors import BadRequest
from optimizer.fitting import Choice, FleetFit, Job, Setting
from optimizer.ondemand.problem import Infeasible
from optimizer.policies import draw
from optimizer.policies.options import Explore, Menu, Participation
from optimizer.policy import Candidate, Decision, Told

log = logging.getLogger(__name__)

EXPLORES = "explores"
"""The note of what a device does to learn from it, not because it is best."""


class FittedPolicy:
    """Asked, it either explores or does what `choose` says; told, it refits."""

    def __init__(
        self, bits_down: int, explore: Explore | None, widths: Iterable[float], job: Job | None = None
    ) -> None:
        """`widths`: those that `choose` may ask for."""
        self.fits = FleetFit(job)
        self.widths = frozenset((*widths, *(explore.menu.widths if explore else ())))
        self._bits_down = bits_down
        self._explore = explore

    def ask(self, round: int, candidates: Sequence[Candidate]) -> tuple[Decision, ...]:
        """See Policy. BadRequest for an empty fleet; Infeasible where no choice holds what the options demand."""
        if not candidates:
            raise BadRequest(f"round {round}: an empty fleet has no plan")
        self.fits.meet(candidates)
        tried = self.explored(round, candidates)
        chosen, note = (tried, EXPLORES) if tried else (self.choose(round, candidates), "")
        return tuple(self._decision(c, chosen[c.device], note) for c in candidates if c.device in chosen)

    def tell(self, told: Told) -> None:
        """See Policy."""
        self.fits.add(told)

    def choose(self, round: int, candidates: Sequence[Candidate]) -> Mapping[str, Choice]:
        """What each device does that takes part."""
        raise NotImplementedError

    def explored(self, round: int, candidates: Sequence[Candidate]) -> dict[str, Choice]:
        """What each device tries in a round of exploring; empty in any other round."""
        explore = self._explore
        if explore is None or not draw.falls_on(explore.share, explore.seed, round):
            return {}
        chosen = {}
        for c in candidates:
            fit = self.fits.device(c)
            chosen[c.device] = min(
                self.choices(explore.menu, c),
                key=lambda choice: (fit.tried(choice), draw.number(explore.seed, round, c.device, choice)),
            )
        tried = "; ".join(f"{name}: {_said(choice)}" for name, choice in chosen.items())
        log.info("round %d explores (%g of the rounds do): %s", round, explore.share, tried)
        return chosen

    def choices(self, menu: Menu, candidate: Candidate) -> list[Choice]:
        """What of `menu` the device can do; Infeasible if it is nothing."""
        return choices(menu, candidate, self.fits, self._bits_down)

    def in_time(self, menu: Menu, candidate: Candidate, deadline_s: float) -> tuple[list[Choice], float | None]:
        """The choices that hold the deadline, or of which nothing is known; and the least seconds of any."""
        kept, least = [], None
        for choice in self.choices(menu, candidate):
            seconds = self.fits.cost(candidate, choice).seconds
            if seconds is None or seconds <= deadline_s:
                kept.append(choice)
            if seconds is not None:
                least = seconds if least is None else min(least, seconds)
        return kept, least

    def cheapest(self, candidate: Candidate, of: Sequence[Choice]) -> Choice:
        """The choice of least joules."""
        fit = self.fits.device(candidate)
        return min(of, key=fit.rank)

    def _decision(self, candidate: Candidate, choice: Choice, note: str) -> Decision:
        return Decision(
            device=candidate.device,
            bits_up=choice.bits_up,
            bits_down=choice.bits_down,
            precision=choice.setting.precision,
            width=choice.setting.width,
            train_steps=choice.steps,
            predicted=self.fits.predict(candidate, choice),
            power_limit_watts=choice.setting.power_limit_watts,
            frequency_hz=choice.setting.frequency_hz,
            note=note,
        )


def choices(menu: Menu, candidate: Candidate, fits: FleetFit, bits_down: int) -> list[Choice]:
    """Every choice of `menu` that `candidate` can carry out; Infeasible if there is none."""
    start = fits.device(candidate).start
    precisions = [p for p in menu.precisions if start.can(p) is not False]
    if not precisions:
        raise Infeasible(
            "precision", [], f"device {candidate.device} trains at none of {', '.join(menu.precisions)}"
        )
    clocks, limits = (
        list(dict.fromkeys(_pulled(candidate, fits, unit, parts)))
        for unit, parts in (("Hz", menu.frequencies), ("W", menu.power_limits))
    )
    return [
        Choice(Setting(width, precision, clock, limit), steps, bits, bits_down)
        for width, precision, clock, limit, steps, bits in product(
            menu.widths, precisions, clocks, limits, menu.train_steps, menu.bits_up
        )
    ]


def _pulled(candidate: Candidate, fits: FleetFit, unit: str, parts: Sequence[float]) -> Iterator[float | None]:
    """What a lever is set to for each part of its greatest value; None leaves it alone."""
    lever = fits.device(candidate).start.lever(unit)
    for part in parts:
        yield None if lever is None or part == 1.0 else max(lever.minimum, part * lever.maximum)


def late(device: str, least_s: float | None, deadline_s: float) -> str:
    """Why a device cannot take part."""
    return f"device {device} needs {least_s:.3g} s at the least; its deadline is {deadline_s:.3g} s"


def taking_part(
    rule: Participation | None,
    round: int,
    candidates: Sequence[Candidate],
    chosen: Mapping[str, Choice],
    fits: FleetFit,
) -> dict[str, Choice]:
    """Those of `chosen` that a round takes."""
    if rule is None or rule.devices >= len(chosen):
        return dict(chosen)
    if rule.seed is not None:
        return {name: chosen[name] for name in draw.some(list(chosen), rule.devices, rule.seed, round, "part")}
    rank = {c.device: fits.device(c).rank(chosen[c.device]) for c in candidates if c.device in chosen}
    return {name: chosen[name] for name in sorted(rank, key=lambda n: (rank[n], n))[: rule.devices]}


def _said(choice: Choice) -> str:
    s = choice.setting
    levers = "".join(
        f", {value:g} {unit}" for value, unit in ((s.frequency_hz, "Hz"), (s.power_limit_watts, "W")) if value
    )
    return f"{choice.bits_up} bits, {s.precision}, width {s.width:g}, {choice.steps} steps{levers}"
