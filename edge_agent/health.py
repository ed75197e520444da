"""Whether an agent can do its work, as /readyz says: it is attached, its event loop turns, its disk has room."""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from fleet.pages import Checks

BEAT_S = 0.5
BEHIND_S = 5.0
LEAST_FREE_BYTES = 64 << 20


class Health:
    """`attached` is asked whether the coordinator has this agent; until it is set, there is no agent yet."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._turned_s = time.monotonic()
        self.attached: Callable[[], bool] = lambda: False

    async def beat(self) -> None:
        """Never returns: shows that the event loop turns."""
        while True:
            self._turned_s = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def checks(self) -> Checks:
        """What is wrong, by what was looked at. May be called from any thread."""
        behind_s = time.monotonic() - self._turned_s
        free_bytes = shutil.disk_usage(self._state).free
        short = f"{free_bytes >> 20} MiB are free, {LEAST_FREE_BYTES >> 20} are needed"
        return {
            "attached": None if self.attached() else "not attached to the coordinator",
            "loop": f"has not turned for {behind_s:.1f} s" if behind_s > BEHIND_S else None,
            "disk": short if free_bytes < LEAST_FREE_BYTES else None,
        }
