"""Time for the relay, and waking up at a moment to some 50 microseconds.

asyncio's own timers wait in epoll, which counts whole milliseconds: too coarse for a delay of two. A timerfd of
the kernel is exact; Python has it from 3.13 on, the C library has it on every Linux.
"""

import asyncio
import ctypes
import heapq
import itertools
import os
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_NANO = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Clock:
    """Seconds since it was made, and calls at a later moment, in the running loop."""

    def __init__(self) -> None:
        self._began_ns = time.monotonic_ns()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ring)

    def now(self) -> float:
        """Seconds since the clock was made."""
        return (time.monotonic_ns() - self._began_ns) / _NANO

    def call_at(self, t_s: float, call: Callable[[], None]) -> None:
        """Calls once at `t_s`, or at the loop's next turn if that has passed. There is no taking back."""
        heapq.heappush(self._due, (t_s, next(self._order), call))
        if self._due[0][2] is call and self._fd >= 0:
            self._set(t_s)

    def close(self) -> None:
        """Calls nothing any more. A second time does nothing."""
        self._due.clear()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _set(self, t_s: float) -> None:
        at_ns = self._began_ns + max(int(t_s * _NANO), 1)
        value = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(at_ns, _NANO)))
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(value), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew in between
        now_s = self.now()
        try:
            while self._due and self._due[0][0] <= now_s:
                heapq.heappop(self._due)[2]()
        finally:
            if self._due and self._fd >= 0:
                self._set(self._due[0][0])
