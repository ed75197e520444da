"""A file that grows piece by piece, outlives a crash at any instant and goes on from there.

How much of it counts stands beside it, in NAME.held. So the file may be an old one that is written over:
pages that the kernel has already cost a fraction of fresh ones, which matters where a fleet moves gigabytes.
What a power cut may have spoilt shows at the end, in the payload's own checksum.
"""

import ctypes
import os
import struct
from pathlib import Path

_HELD = struct.Struct("<Q")
_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None)
_WRITE = 2

Chunk = bytes | bytearray | memoryview


def held_bytes(path: Path) -> int:
    """Bytes of the partial file at `path` that count; 0 where there is none."""
    try:
        (held,) = _HELD.unpack(_counter(path).read_bytes())
        return min(int(held), path.stat().st_size)
    except (FileNotFoundError, struct.error):
        return 0


def write_out(file: int, start: int, stop: int) -> None:
    """Lets the kernel begin to put bytes [start, stop) of `file` on the disk, so that a sync has less to wait for.

    It promises nothing: what goes wrong, that sync says. Where the kernel has no such call nothing is done.
    """
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(file, ctypes.c_int64(start), ctypes.c_int64(stop - start), ctypes.c_uint(_WRITE))


class PartialFile:
    """The partial file at `path`, open for more. `held_bytes` of it count."""

    def __init__(self, path: Path, spare: Path, *, ahead: bool = False) -> None:
        """Goes on with the file at `path`, else writes over the one at `spare`, else starts a new one.

        ahead: it is to be on the disk at its end.
        """
        self.path = path
        self._ahead = ahead
        self.held_bytes = held_bytes(path)
        self._counter = os.open(_counter(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._count()  # before a spare takes the name: nothing of that counts
        if not path.exists() and spare.exists():
            spare.rename(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, chunk: Chunk) -> None:
        """Appends `chunk`. OSError, with only what came before kept, where it does not fit on the disk."""
        rest, at = memoryview(chunk).cast("B") if len(chunk) else memoryview(b""), self.held_bytes
        try:
            while rest:
                written = os.pwrite(self._file, rest, at)
                rest, at = rest[written:], at + written
        except OSError:
            os.ftruncate(self._file, self.held_bytes)
            raise
        if self._ahead:
            write_out(self._file, self.held_bytes, at)
        self.held_bytes = at
        self._count()

    def finish(self, target: Path, *, sync: bool) -> None:
        """Moves the file to `target`; with `sync` its bytes are on the disk before it has that name."""
        if os.fstat(self._file).st_size != self.held_bytes:
            os.ftruncate(self._file, self.held_bytes)
        if sync:
            os.fdatasync(self._file)
        self.path.rename(target)
        _counter(self.path).unlink()
        self.close()

    def close(self) -> None:
        """Keeps what came, for another time."""
        if self._file >= 0:
            os.close(self._file)
            os.close(self._counter)
            self._file = -1

    def discard(self) -> None:
        """Keeps nothing."""
        self.close()
        discard(self.path)

    def _count(self) -> None:
        os.pwrite(self._counter, _HELD.pack(self.held_bytes), 0)


def discard(path: Path) -> None:
    """Removes the partial file at `path`, if there is one."""
    path.unlink(missing_ok=True)
    _counter(path).unlink(missing_ok=True)


def _counter(path: Path) -> Path:
    return path.with_name(path.name + ".held")
