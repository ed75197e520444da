"""Whether the coordinator can do its work: the loop turns, the log is written, there is room on the disk."""

import asyncio
import time
from pathlib import Path

from coordinator.disk import free_bytes
from coordinator.loop import Loop
from fleet.pages import Checks

BEAT_S = 0.5
BEHIND_S = 3.0
"""An event loop that has not turned for so long keeps agents and operators waiting."""
WAITING_EVENTS = 10_000
LEAST_FREE_BYTES = 64 << 20


class Readiness:
    """What /readyz says. `checks` may be called from any thread."""

    def __init__(self, loop: Loop, state: Path) -> None:
        self._loop = loop
        self._state = state
        self._turned_s = time.monotonic()
        self.stopping = False

    async def beat(self) -> None:
        """Never returns: shows that the event loop turns."""
        while True:
            self._turned_s = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def checks(self) -> Checks:
        """What is wrong, by what was looked at."""
        behind_s = time.monotonic() - self._turned_s
        waiting, free = self._loop.waiting, free_bytes(self._state)
        refused_s = self._loop.refused_s
        return {
            "stopping": "the coordinator is stopping" if self.stopping else None,
            "loop": f"has not turned for {behind_s:.1f} s" if behind_s > BEHIND_S else None,
            "log": f"the disk has taken nothing since {refused_s:.0f}" if refused_s is not None else None,
            "inbox": f"{waiting} events wait to be written" if waiting > WAITING_EVENTS else None,
            "disk": f"{free >> 20} MiB are free, {LEAST_FREE_BYTES >> 20} are needed"
            if free < LEAST_FREE_BYTES
            else None,
        }
