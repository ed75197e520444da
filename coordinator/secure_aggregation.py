"""The coordinator's part in secure aggregation: it relays keys and shares that it cannot read; at the end it asks.

What must outlive a crash is in the log: who agreed on which keys (KeysAgreed), and whose updates are in
(RoundClosed) before anyone is asked to reveal a share. A crash before the agreement starts a new one; after it the
round goes on.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from coordinator.events import AssignmentFailed, BytesMoved, Direction, Event, KeysAgreed, MaskingKey, RoundFailed
from coordinator.machine import Run
from coordinator.sessions import Sessions
from fleet import wire
from fleet.domain import CoordinatorMessage
from fleet.masking import (
    KeysOffered,
    KeysWanted,
    MasksReady,
    Member,
    Revealed,
    RevealWanted,
    Sealed,
    SharesDelivered,
    SharesSealed,
    SharesWanted,
)
from fleet.rpc import FRAME_BYTES

log = logging.getLogger(__name__)

Answer = KeysOffered | SharesSealed | MasksReady | Revealed
LOOK_S = 0.1
"""How often an unanswered device is looked for: it may have come back over another stream."""


class Log(Protocol):
    """What is needed of the loop."""

    def post(self, *events: Event) -> None:
        """Enters events."""

    def now_s(self) -> float:
        """The time."""


@dataclass
class _Asking:
    """Answers of one kind that are being waited for."""

    wanted: frozenset[str]
    answers: dict[str, Any] = field(default_factory=dict)
    came: asyncio.Event = field(default_factory=asyncio.Event)


class SecureAggregation:
    """Agreements of keys, and their end, of all runs."""

    def __init__(self, sessions: Sessions, log_: Callable[[], Log]) -> None:
        self._sessions, self._log = sessions, log_
        self._asking: dict[tuple[str, type], _Asking] = {}

    def now_s(self) -> float:
        """The time on the coordinator's clock."""
        return self._log().now_s()

    def take(self, device: str, answer: Answer) -> None:
        """Takes what a device says. What nobody waits for is left: it is of an attempt that is over."""
        self._moved(device, answer.run, answer.round, "up", wire.envelope(answer).ByteSize())
        asking = self._asking.get((answer.attempt, type(answer)))
        if asking is None or device not in asking.wanted:
            log.info("%s: %s of attempt %s, unasked", device, type(answer).__name__, answer.attempt[:40])
        elif device not in asking.answers:
            asking.answers[device] = answer
            asking.came.set()

    async def agree(self, run: Run) -> tuple[Event, ...]:
        """Has the devices of the round agree on keys: KeysAgreed and those that are out of it, or RoundFailed."""
        secure = run.experiment.secure
        assert secure is not None
        name, round, attempt = run.run, run.round, secrets.token_hex(8)
        asked = sorted(run.outstanding)

        async def ask(devices: Iterable[str], what: Callable[[str], CoordinatorMessage], kind: type) -> Any:
            return await self._ask(name, round, attempt, devices, what, kind, secure.phase_s)

        offered = await ask(asked, lambda _: KeysWanted(name, round, attempt, secure.threshold), KeysOffered)
        members = tuple(Member(d, offered[d].sealing_key, offered[d].masking_key) for d in sorted(offered))
        if len(members) < secure.threshold:
            return self._failed(run, f"{len(members)} of {len(asked)} devices offered keys", secure.threshold)
        wanted = SharesWanted(name, round, attempt, members)
        sealed = await ask(offered, lambda _: wanted, SharesSealed)
        if len(sealed) < secure.threshold:
            return self._failed(run, f"{len(sealed)} of {len(members)} devices shared keys", secure.threshold)
        ready = await ask(
            sealed, lambda d: SharesDelivered(name, round, attempt, boxes_for(d, sealed)), MasksReady
        )
        if len(ready) < secure.threshold:
            return self._failed(run, f"{len(ready)} of {len(sealed)} devices got the shares", secure.threshold)
        at_s = self._log().now_s()
        keys = tuple(MaskingKey(m.device, m.masking_key.hex()) for m in members)
        reason = f"it took no part in the agreement of keys within {secure.phase_s:g} s a step"
        return (
            KeysAgreed(at_s, name, round, attempt, keys, tuple(sorted(ready)), tuple(sorted(sealed))),
            *(AssignmentFailed(at_s, name, round, d, reason) for d in asked if d not in ready),
        )

    async def reveal(self, run: Run) -> Mapping[str, Revealed]:
        """What the devices whose updates are in reveal; fewer than the threshold where they do not in time."""
        secure, keys, arrived = run.experiment.secure, run.keys, tuple(sorted(run.closing))
        assert secure is not None
        assert keys is not None
        wanted = RevealWanted(run.run, run.round, keys.attempt, arrived)
        return await self._ask(
            run.run, run.round, keys.attempt, arrived, lambda _: wanted, Revealed, secure.phase_s, secure.threshold
        )

    async def confirm(self, run: Run, device: str, session: str) -> None:
        """Tells a device which keys were agreed on."""
        found, secure = self._sessions.find(device, session), run.experiment.secure
        if found is not None and run.keys is not None and secure is not None:
            found.send(KeysWanted(run.run, run.round, run.keys.attempt, secure.threshold, agreed=True))

    async def _ask(
        self,
        run: str,
        round: int,
        attempt: str,
        devices: Iterable[str],
        what: Callable[[str], CoordinatorMessage],
        kind: type,
        within_s: float,
        enough: int | None = None,
    ) -> dict[str, Any]:
        """The answers of `devices`, all or `enough`, or those that came in time. Asks again over a new stream."""
        asking = _Asking(frozenset(devices))
        self._asking[attempt, kind] = asking
        told: dict[str, str] = {}
        deadline_s = time.monotonic() + within_s
        try:
            while len(asking.answers) < (enough or len(asking.wanted)) and time.monotonic() < deadline_s:
                for device in sorted(asking.wanted - asking.answers.keys()):
                    session = self._sessions.find(device)
                    if session is not None and told.get(device) != session.name:
                        message = what(device)
                        session.send(message)
                        told[device] = session.name
                        self._moved(device, run, round, "down", wire.envelope(message).ByteSize())
                asking.came.clear()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await asking.came.wait()
                except TimeoutError:
                    pass
            return asking.answers
        finally:
            del self._asking[attempt, kind]

    def _failed(self, run: Run, what: str, threshold: int) -> tuple[Event, ...]:
        reason = f"secure aggregation: {what}; {threshold} are needed"
        return (RoundFailed(self._log().now_s(), run.run, run.round, reason),)

    def _moved(self, device: str, run: str, round: int, direction: Direction, message_bytes: int) -> None:
        moved_bytes = FRAME_BYTES + message_bytes
        self._log().post(BytesMoved(self._log().now_s(), run, round, device, direction, moved_bytes))


def boxes_for(device: str, sealed: Mapping[str, SharesSealed]) -> tuple[Sealed, ...]:
    """The boxes that the others sealed for `device`, by who sealed them."""
    return tuple(
        Sealed(other, box.box)
        for other, of in sorted(sealed.items())
        for box in of.boxes
        if box.device == device and other != device
    )
