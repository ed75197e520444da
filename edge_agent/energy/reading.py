"""One reading becomes one step: what may go wrong with it, and the word that is counted for it."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge_agent.energy.counter import EnergyCounter, Failed, PowerSensor, Raw, ReadFailed, Step

Clock = Callable[[], int]
"""Nanoseconds of the monotonic clock."""


class SourceFailed(ReadFailed):
    """A reading failed for `reason`: one short word of a small set, so that it can be a metric's label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def reason_of(error: ReadFailed | OSError) -> str:
    """The short word for why a reading failed: the kernel's (EIO, ENODATA, EACCES), or the source's own."""
    if isinstance(error, SourceFailed):
        return error.reason
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, "OSError")
    return type(error).__name__


class Memory(Protocol):
    """What a tracker keeps between readings."""

    def forget(self) -> None:
        """The next reading is a first one."""

    def update(self, raw: Raw) -> Step:
        """What came since the reading before."""


def advance(source: EnergyCounter | PowerSensor, memory: Memory) -> Step:
    """Reads `source` into `memory`. After a failure the next good reading is a first one: it is never a wrap."""
    try:
        raw = source.read()
    except (ReadFailed, OSError) as error:
        memory.forget()
        return Failed(reason_of(error))
    return memory.update(raw)


def text(path: Path) -> str:
    """A small file of sysfs in one read, without its newline."""
    content = _content(path)
    for _ in range(5):
        if content:
            break
        time.sleep(0.001)  # where an ordinary file stands in for sysfs, it is empty while it is written anew
        content = _content(path)
    return content.decode("utf-8", errors="replace").strip()


def _content(path: Path) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def number(path: Path) -> int:
    """A whole number in a file of sysfs; SourceFailed("garbled") when it holds something else."""
    content = text(path)
    try:
        return int(content)
    except ValueError:
        raise SourceFailed("garbled", f"{path}: {content[:40]!r} is not a whole number") from None


def text_or_none(path: Path) -> str | None:
    """The content of a file of sysfs, None where it is absent or cannot be read."""
    try:
        return text(path)
    except OSError:
        return None


def number_or_none(path: Path) -> int | None:
    """The number in a file of sysfs, None where it is absent, cannot be read or is no number."""
    try:
        return number(path)
    except (OSError, SourceFailed):
        return None
