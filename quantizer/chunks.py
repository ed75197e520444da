"""Tensors in bounded pieces, and several pieces at once.

The kernels release the GIL, so plain threads do. numba's own thread pool ends the process when two
threads use it at once and no OpenMP is installed; and the order in which pieces are summed or hashed
would not be ours to keep.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

import numpy as np
from numba import config

T = TypeVar("T")
P = TypeVar("P")
Piece = tuple[int, int]

VALUES = 1 << 17  # 512 KiB of float32: a piece and its result stay in the cache
LONG = 1 << 18  # values where a piece is encoded and nothing else: half as many turns at the GIL
FEW = 8  # pieces take a thread as long as it takes another one to wake up
FEW_LONG = 4  # of LONG values
WORD = 32  # this many codes fill whole bytes, and whole 32-bit words, at every number of bits


def pieces(size: int, block_size: int = 1, values: int | None = None) -> list[Piece]:
    """[start, stop) of pieces that cover `size` values; every start is a multiple of WORD and of `block_size`.

    values: how many a piece has at most, VALUES if None; more only where that is less than one such multiple.
    """
    unit = math.lcm(WORD, block_size)
    step = max((values or VALUES) // unit, 1) * unit
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def frozen(array: np.ndarray) -> np.ndarray:
    """A read-only and aligned view of `array`, or a copy where it is not aligned: what kernels take as input."""
    array = array.view() if array.flags.aligned else array.copy()
    array.flags.writeable = False
    return array


def in_order(work: Callable[[P], T], ranges: Iterable[P]) -> Iterator[T]:
    """`work` of each of `ranges`, in their order; NUMBA_NUM_THREADS at once and never far ahead of the reader."""
    ranges = list(ranges)
    if len(ranges) < 2 or config.NUMBA_NUM_THREADS == 1:
        yield from map(work, ranges)
        return
    pending: deque[Future[T]] = deque()
    try:
        for piece in ranges:
            pending.append(_pool().submit(work, piece))
            if len(pending) > config.NUMBA_NUM_THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        _leave(pending)


def _leave(futures: Iterable[Future[T]]) -> None:
    """Returns when none of `futures` is running: it may be writing to the caller's arrays."""
    for future in futures:
        if not future.cancel():
            future.exception()


def at_once(work: Callable[[P], object], ranges: Sequence[P], each: int = 1) -> None:
    """`work` of each of `ranges` in any order, on NUMBA_NUM_THREADS threads of which this is one; on fewer if they
    would not have `each` of `ranges`.

    The first error ends it. When it returns or raises, nothing is running any more.
    """
    following = iter(ranges)
    failed = False

    def some() -> None:
        nonlocal failed
        while not failed:
            piece = next(following, None)  # one at a time: the GIL is held
            if piece is None:
                return
            try:
                work(piece)
            except BaseException:
                failed = True
                raise

    others = [_Call(some) for _ in range(min(config.NUMBA_NUM_THREADS, len(ranges) // each) - 1)]
    for call in others:
        _helpers().put(call)
    try:
        some()
    finally:
        failed = True
        errors = [call.withdraw() for call in others]
    for error in errors:
        if error is not None:
            raise error


class _Call:
    """Work for a helper, to be taken back while none has begun it."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work, self._turn, self._over = work, Lock(), SimpleQueue[BaseException | None]()

    def __call__(self) -> None:
        """Does the work unless it was withdrawn."""
        if not self._turn.acquire(blocking=False):
            return
        error = None
        try:
            self._work()
        except BaseException as raised:
            error = raised
        self._over.put(error)

    def withdraw(self) -> BaseException | None:
        """Returns once the work is not being done and never will be again; what it raised."""
        if self._turn.acquire(blocking=False):
            del self._work  # and the memory it writes to: nobody may come by for a while
            return None
        return self._over.get()


@cache
def _helpers() -> SimpleQueue[_Call]:
    """What helpers take their calls from: NUMBA_NUM_THREADS threads that wake up in half the time that those of an
    executor take, and cost who calls them a quarter.
    """
    calls = SimpleQueue[_Call]()

    def help() -> None:
        while True:
            calls.get()()

    for number in range(config.NUMBA_NUM_THREADS):
        Thread(target=help, name=f"quantizer-{number}", daemon=True).start()
    return calls


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(config.NUMBA_NUM_THREADS, thread_name_prefix="quantizer")


def _alone() -> None:
    """A process that was forked has none of its parent's threads."""
    _helpers.cache_clear()
    _pool.cache_clear()


os.register_at_fork(after_in_child=_alone)
