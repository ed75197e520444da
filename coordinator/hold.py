"""Keeps blobs where they are for as long as a backup reads them: a lock on a file, gone with whoever holds it."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

HOLD = "backup.lock"
"""Its name in the folder of the state."""
LOOK_AGAIN_S = 0.1


class Hold:
    """`path` is the file that is locked; it is made where it is missing, and empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the backup: nothing is deleted inside of the `with`. Waits for what is being deleted."""
        with self._path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @asynccontextmanager
    async def free(self) -> AsyncIterator[None]:
        """For the coordinator, around each deletion. Waits for a backup to end."""
        with self._path.open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(LOOK_AGAIN_S)
            yield
