"""Where a payload is written to: in order to a sink, or in place into memory of its full size."""

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from isal import isal_zlib as zlib

from quantizer.chunks import FEW, at_once, in_order

Region = tuple[int, int]
"""Offset in the payload, length."""

Space = Callable[[], np.ndarray]
"""Gives the memory of a region to write to: uint8, at a multiple of 4 where the region is."""


class Sink(Protocol):
    """What a payload is written to: takes all the bytes it is given and keeps no reference to them."""

    def write(self, data: memoryview, /) -> object:
        """Takes all of `data`."""


class Output:
    """A sink, what went into it, and the CRC-32 of that."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.at = 0
        self.crc = 0

    def write(self, data: memoryview | bytes) -> None:
        """Passes `data` on."""
        view = memoryview(data).cast("B")
        self.crc = zlib.crc32(view, self.crc)
        self._sink.write(view)
        self.at += view.nbytes

    def write_at(self, offset: int, data: memoryview | bytes) -> None:
        """Passes `data` on, after zeros up to `offset`."""
        if offset > self.at:
            self.write(bytes(offset - self.at))
        self.write(data)

    def fill(self, regions: Sequence[Region], work: Callable[[int, Space], np.ndarray], each: int = FEW) -> None:
        """Writes `regions`, in rising order, with zeros between; `work(i, space)` gives the bytes of regions[i].

        `work` runs on several threads. It writes into what `space()` gives it or gives an array of its own. Where
        regions are written in place, a thread is woken up for no fewer than `each` of them.
        """
        spare: list[np.ndarray] = []
        longest = max((length for _, length in regions), default=0)

        def one(i: int) -> tuple[int, np.ndarray, np.ndarray | None]:
            taken: np.ndarray | None = None

            def space() -> np.ndarray:
                nonlocal taken
                try:
                    taken = spare.pop()
                except IndexError:
                    taken = np.empty(longest, np.uint8)
                return taken[: regions[i][1]]

            return i, work(i, space), taken

        for i, data, taken in in_order(one, range(len(regions))):
            self.write_at(regions[i][0], data.data)
            if taken is not None:
                spare.append(taken)


class Digest(Protocol):
    """A hash that is fed piece by piece, such as `hashlib.sha256()` or `xxhash.xxh3_128()`."""

    def update(self, data: memoryview | bytes, /) -> object:
        """Takes the next bytes."""

    def hexdigest(self) -> str:
        """The hash of all of them."""


class HashedOutput(Output):
    """The same with a digest, sha256 unless another is given."""

    def __init__(self, sink: Sink, digest: Digest | None = None) -> None:
        super().__init__(sink)
        self.digest: Digest = hashlib.sha256() if digest is None else digest

    def write(self, data: memoryview | bytes) -> None:
        """Passes `data` on."""
        super().write(data)
        self.digest.update(data)


class Placed(Output):
    """Memory of the payload's full size, written in place by all threads at once."""

    def __init__(self, payload_bytes: int) -> None:
        self._buffer = io.BytesIO(bytes(payload_bytes))  # which it takes over and gives back uncopied
        super().__init__(self._buffer)
        # From here on nothing goes through the buffer itself: it refuses while an array still shows a part of it.
        self._whole = self._buffer.getbuffer()

    def write(self, data: memoryview | bytes) -> None:
        """Puts `data` in its place."""
        view = memoryview(data).cast("B")
        self.crc = zlib.crc32(view, self.crc)
        self._whole[self.at : self.at + view.nbytes] = view
        self.at += view.nbytes

    def fill(self, regions: Sequence[Region], work: Callable[[int, Space], np.ndarray], each: int = FEW) -> None:
        """As for every output; what lies between is zero already."""
        if not regions:
            return

        crcs = [0] * len(regions)

        def one(i: int) -> None:
            offset, length = regions[i]
            region = np.frombuffer(self._whole, np.uint8, length, offset)
            data = work(i, lambda: region)
            if data is not region:
                region[:] = data
            crcs[i] = zlib.crc32(region.data)  # while it is in the cache of the thread that wrote it

        at_once(one, range(len(regions)), each)
        for (offset, length), crc in zip(regions, crcs, strict=True):
            self.crc = zlib.crc32(self._whole[self.at : offset], self.crc)
            self.crc = zlib.crc32_combine(self.crc, crc, length)
            self.at = offset + length

    def bytes(self) -> bytes:
        """What was written."""
        self._whole.release()
        return self._buffer.getvalue()
