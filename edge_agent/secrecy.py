"""What an agent does for secure aggregation between its rounds' work: answers, and knows when it may send."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.masking import Attempt
from fleet.domain import AgentMessage
from fleet.errors import BadRequest, Unequipped
from fleet.masking import (
    KeysWanted,
    MasksReady,
    RevealWanted,
    SharesDelivered,
    SharesSealed,
    SharesWanted,
)

log = logging.getLogger(__name__)

Said = KeysWanted | SharesWanted | SharesDelivered | RevealWanted
KEPT = 4
"""Attempts that are remembered: the coordinator may still ask about the one before."""


@dataclass
class _Known:
    attempt: Attempt
    threshold: int
    sealed: tuple[SharesWanted, SharesSealed] | None = None
    opened: SharesDelivered | None = None


@dataclass
class _Round:
    """The keys that were agreed on for one round, once they are; or why this device has none."""

    agreed: asyncio.Future[Attempt] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Secrecy:
    """`report` is called with what the coordinator should hear."""

    def __init__(self, device: str, report: Callable[[AgentMessage], None]) -> None:
        self._device, self._report = device, report
        self._attempts: dict[str, _Known] = {}
        self._rounds: dict[tuple[str, int], _Round] = {}

    async def agreed(self, run: str, round: int) -> Attempt:
        """The keys to mask with, once they are agreed on; Unequipped where that was without this device."""
        return await asyncio.shield(self._round(run, round).agreed)

    def take(self, said: Said) -> None:
        """Answers the coordinator; what it may not ask for is left, and said in the log."""
        try:
            self._take(said)
        except BadRequest as error:
            log.warning("%s round %d: not answered: %s", said.run, said.round, error)

    def _take(self, said: Said) -> None:
        known = self._attempts.get(said.attempt)
        if isinstance(said, KeysWanted):
            if said.agreed:
                self._confirmed(said, known)
                return
            if known is None:
                known = self._known(said)
            self._report(known.attempt.offer())
            return
        if known is None or (known.attempt.run, known.attempt.round) != (said.run, said.round):
            raise BadRequest(f"attempt {said.attempt[:40]!r} is not known here")
        match said:
            case SharesWanted():
                if known.sealed is None or known.sealed[0] != said:
                    known.sealed = said, known.attempt.seal(said, known.threshold)
                self._report(known.sealed[1])
            case SharesDelivered():
                if known.opened != said:
                    if known.opened is not None:
                        raise BadRequest("shares of other members than before")
                    known.attempt.open(said)
                    known.opened = said
                self._report(MasksReady(said.run, said.round, said.attempt))
            case RevealWanted():
                self._report(known.attempt.reveal(said))

    def _known(self, said: KeysWanted) -> _Known:
        known = _Known(Attempt(self._device, said.run, said.round, said.attempt), said.threshold)
        self._attempts[said.attempt] = known
        for old in list(self._attempts)[:-KEPT]:
            del self._attempts[old]
        return known

    def _confirmed(self, said: KeysWanted, known: _Known | None) -> None:
        agreed = self._round(said.run, said.round).agreed
        if agreed.done():
            return
        if known is not None and known.opened is not None:
            agreed.set_result(known.attempt)
        else:
            agreed.set_exception(
                Unequipped(f"keys of round {said.round} of {said.run} were agreed on, and this device has none")
            )
            agreed.exception()  # whoever waits hears of it; nobody has to

    def _round(self, run: str, round: int) -> _Round:
        key = (run, round)
        if key not in self._rounds:
            self._rounds[key] = _Round()
            for old in list(self._rounds)[:-KEPT]:
                self._rounds.pop(old).agreed.cancel()
        return self._rounds[key]
