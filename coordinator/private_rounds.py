"""What privacy changes in a run's rounds: who takes part, what a task says, and how the updates become one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from coordinator.differential import Private, check_draw, drawn
from coordinator.events import Event, RoundFailed
from coordinator.machine import Run
from coordinator.noise import Secret
from coordinator.robust import Rules
from coordinator.secure_aggregation import SecureAggregation
from coordinator.secure_sum import Masked, fill, opened
from coordinator.shelves import Shelves
from fleet.domain import Metric
from fleet.errors import BadRequest, PlanFailed
from fleet.experiment import AggregationSection
from fleet.masking import Masking
from optimizer.policy import Decision
from quantizer.ring import MOST_BITS, ring_bits

Fill = Callable[[dict[str, np.ndarray], float], None]


@dataclass(frozen=True)
class Closing:
    """How the closing updates become one, see coordinator.aggregate, and what that costs in privacy."""

    rules: Rules | None = None
    instead: Fill | None = None
    noise: Fill | None = None
    spent: tuple[Metric, ...] = ()
    weighed: bool = True


class PrivateRounds:
    """Of all runs."""

    def __init__(self, secure: SecureAggregation, secret: Secret | None, shelves: Shelves) -> None:
        self.secure = secure
        self._secret, self._shelves = secret, shelves

    def draw(self, run: Run, round: int, devices: Sequence[str]) -> list[str]:
        """The devices that take part; PlanFailed where they cannot."""
        section, settings = run.experiment.differential, run.experiment.round
        assert section is not None
        found = drawn(section, self._key(), run.run, round, devices)
        check_draw(found, len(devices), settings.quorum, settings.devices)
        return found

    def task(self, run: Run, bits_up: int) -> tuple[float | None, Masking | None]:
        """What the task of a device says of privacy: the norm to clip to, and how to mask."""
        differential, secure = run.experiment.differential, run.experiment.secure
        clip_norm = differential.clip_norm if differential else None
        if secure is None:
            return clip_norm, None
        return clip_norm, Masking(secure.clip_range, ring_bits(bits_up, run.asked))

    async def closing(self, run: Run, aggregated: int) -> Closing | Event:
        """How to aggregate the closing round, after `aggregated` rounds with a model; or RoundFailed."""
        section, differential = run.experiment.aggregation, run.experiment.differential
        norms = {device: a.norm for device, a in run.closing.items() if a.norm is not None}
        private = None
        if differential:
            private = Private(differential, self._key(), run.run, run.round, run.population)
        noise = private.add_noise if private else None
        spent = private.spent(aggregated + 1) if private else ()
        if run.experiment.secure:
            divisor = private.expected if private else float(len(run.closing))
            instead = await self._secure_sum(run, divisor)
            return Closing(None, instead, noise, spent) if callable(instead) else instead
        if private:
            clip = AggregationSection(rule="mean", clip_norm=private.section.clip_norm)
            rules = Rules(clip, norms, len(run.closing) / private.expected)
            return Closing(rules, None, noise, spent, weighed=False)
        return Closing(Rules(section, norms) if section else None)

    async def _secure_sum(self, run: Run, divisor: float) -> Fill | Event:
        secure, keys = run.experiment.secure, run.keys
        assert secure is not None
        arrived = sorted(run.closing)
        assert keys is not None  # no update is taken before
        revealed = await self.secure.reveal(run)
        try:
            secrets = opened(keys, arrived, revealed, secure.threshold)
        except BadRequest as error:
            return RoundFailed(self.secure.now_s(), run.run, run.round, f"secure aggregation: {error}")
        updates = [Masked(d, self._shelves.updates(run.run, d), run.closing[d].digest) for d in arrived]
        return partial(fill, updates, keys, secrets, secure.clip_range, divisor)

    def _key(self) -> Secret:
        if self._secret is None:
            raise PlanFailed("this coordinator has no folder for the key that privacy needs")
        return self._secret


def check_masked(run: Run, decisions: Sequence[Decision]) -> None:
    """PlanFailed where the updates of `decisions` could not be added up under masks."""
    secure = run.experiment.secure
    if secure is None:
        return
    bits, widths = {d.bits_up for d in decisions}, {d.width for d in decisions}
    if len(bits) > 1 or len(widths) > 1:
        raise PlanFailed(
            f"secure aggregation adds updates of one form; the policy chose bits {sorted(bits)} and widths "
            f"{sorted(widths)}"
        )
    if not secure.threshold <= len(decisions) < 2 * secure.threshold:
        raise PlanFailed(
            f"{len(decisions)} devices with a threshold of {secure.threshold}: it must be more than half of them "
            "and not more than all"
        )
    if not 2 <= max(bits) <= 16 or ring_bits(max(bits), len(decisions)) > MOST_BITS:
        raise PlanFailed(f"updates of {max(bits)} bits cannot be masked; 2 to 16 can")
