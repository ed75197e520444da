"""The one thread that computes, so that the event loop goes on beside it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Cancelled(Exception):
    """Raised out of a workload's progress callback: what it does is not wanted any more."""


class WorkThread:
    """Runs one piece of work after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._unwanted = threading.Event()

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs `work` in the thread. When cancelled, waits for the work to notice first."""
        self._unwanted.clear()
        future = asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._unwanted.set()
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({future})
            if not future.cancelled():
                future.exception()  # seen: whatever the thread ended with, the task is cancelled
            raise

    def stop_if_unwanted(self) -> None:
        """Called by the work: Cancelled when nobody waits for it any more."""
        if self._unwanted.is_set():
            raise Cancelled

    def close(self) -> None:
        """Lets the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)
