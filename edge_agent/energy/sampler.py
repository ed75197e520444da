"""A thread that reads the meter at a steady pace, so that no wrap is missed and every trapezoid is short."""

import threading
import time
from collections.abc import Callable

SAMPLE_HZ = 10.0


class Sampler:
    """Calls `tick` `hz` times a second until it is closed. A late tick is made once, never caught up with."""

    def __init__(self, tick: Callable[[], None], hz: float = SAMPLE_HZ) -> None:
        self._tick = tick
        self._period_s = 1 / hz
        self._stop = threading.Event()
        self._cpu_s = 0.0
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()

    @property
    def cpu_seconds(self) -> float:
        """CPU time the thread has used, as of its last tick."""
        return self._cpu_s

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s = max(due_s + self._period_s, time.monotonic())
            if self._stop.wait(due_s - time.monotonic()):
                return
            self._tick()
            self._cpu_s = time.thread_time()
