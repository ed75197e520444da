"""Processes of a bench: started with a log each, watched, and ended by their ids, with all they started.

Memory is VmHWM of /proc, the kernel's own high-water mark, so that no peak falls between two samples.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import aside  # noqa: F401
import psutil


class Processes:
    """Processes that live as long as a `with` block. `folder` takes their logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for process in self._running.values():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
            deadline = time.monotonic() + 5
            for process in self._running.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> int:
        """Starts `command` in a process group of its own, with `env` added to ours. Returns its id."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=os.environ | env,
                cwd=cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._running[name].pid

    def log(self, name: str) -> str:
        """What the process has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def check(self) -> None:
        """Raises RuntimeError with the end of its log if a process has failed."""
        for name, process in self._running.items():
            if process.poll():
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name)[-3000:]}")

    def wait_for(self, what: str, ready: Callable[[], bool], timeout_s: float) -> None:
        """Until `ready()`; RuntimeError when a process fails, TimeoutError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} after {timeout_s:.0f} s; logs are in {self.folder}")
            time.sleep(0.05)


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(address: str) -> bool:
    """Whether something accepts connections at `address` (host:port)."""
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, int(port))) == 0


def peak_bytes(pid: int) -> int:
    """The most physical memory that process `pid` has held since its start or the last `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def forget_peak(pid: int) -> None:
    """Starts the high-water mark of process `pid` anew from what it holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_s(pid: int) -> float:
    """CPU seconds that process `pid` and the children it has now have used."""
    process = psutil.Process(pid)
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)
