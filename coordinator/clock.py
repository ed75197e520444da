"""Unix time that nobody can set: no deadline moves because the host's clock was corrected."""

import time
from collections.abc import Callable


class SteadyClock:
    """Starts from the wall clock and goes on by the monotonic one.

    A step of the wall clock shows in `off_s` and is taken on by `follow`, which is for moments at which nothing
    waits for a time to come.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead_s = wall() - steady()

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self._steady() + self._ahead_s

    @property
    def off_s(self) -> float:
        """By how much the wall clock is ahead of this one."""
        return self._wall() - self()

    def not_before(self, at_s: float) -> None:
        """Is `at_s` or later from now on: a log may end with a time that the wall clock has been set back from."""
        self._ahead_s = max(self._ahead_s, at_s - self._steady())

    def follow(self, at_s: float) -> None:
        """Takes the wall clock's time on, but none before `at_s`."""
        self._ahead_s = max(self._wall(), at_s) - self._steady()
