"""What one device may take of the coordinator, each a number with a name; and what was refused, for Prometheus.

A device that is broken or hostile is slowed down or refused with a status that says which limit it met; the others
do not notice. Devices nobody knows share one allowance, so that made-up names cost nothing.
"""

import asyncio
import inspect
import math
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.blobs import BlobStore
from fleet.errors import (
    BadRequest,
    CorruptUpdate,
    IllegalMove,
    LateUpdate,
    ProtocolMismatch,
    StorageFull,
    StrangerUpdate,
    TooMany,
    TooMuch,
    TooSlow,
    WattbedError,
)

REASONS: dict[type[WattbedError], str] = {
    TooMuch: "size",
    TooMany: "rate",
    TooSlow: "slow",
    CorruptUpdate: "update",
    LateUpdate: "late",
    StrangerUpdate: "stranger",
    ProtocolMismatch: "protocol",
    StorageFull: "storage",
    IllegalMove: "move",
    BadRequest: "malformed",
}
"""Label of each refusal; an error of another class is in no series."""

DEVICES_CALL = "/fleet.v1.Fleet/"
"""What the methods begin with that devices call."""

UNREADABLE = "a message that is none of the schema"

MEASUREMENT = "measurement"
"""Label of a window of energy that no meter can have read."""


@dataclass(frozen=True)
class Limits:
    """Per device, unless it says otherwise. An honest agent stays an order of magnitude below each.

    message_bytes: one message on Attach. messages_per_s, messages_burst: on Attach. calls_per_s, calls_burst: of
    all other methods. uploads, downloads: at once. updates_held: largest updates that may lie on the disk or be
    announced at once. disk_share: of the whole disk, for the same. hello_s: from connecting to the hello.
    stall_s: for which a stream may neither bring a message nor have one taken; a chunk of 1 MiB over 100 kbit/s
    takes 84 s. unread_messages: waiting for a device that does not read. devices: known at all. refusals_logged:
    of the updates of one round. filler_bytes: of one calibration's transfer.
    """

    message_bytes: int = 1 << 20
    messages_per_s: float = 50.0
    messages_burst: int = 1000
    calls_per_s: float = 20.0
    calls_burst: int = 400
    uploads: int = 4
    downloads: int = 4
    updates_held: int = 3
    disk_share: float = 0.25
    hello_s: float = 10.0
    stall_s: float = 120.0
    unread_messages: int = 2000
    devices: int = 10_000
    refusals_logged: int = 20
    filler_bytes: int = 1 << 30


class Bucket:
    """Lets `per_s` through each second, and up to `burst` at once after a rest."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left, self._at_s = float(burst), clock()

    def take(self) -> bool:
        """Whether one more may go through now."""
        now_s = self._clock()
        self._left = min(self._left + (now_s - self._at_s) * self._per_s, self._burst)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class Use:
    """What one device takes at present."""

    device: str
    limits: Limits
    calls: Bucket
    running: Counter[str] = field(default_factory=Counter)
    announced: dict[str, int] = field(default_factory=dict)
    logged: Counter[tuple[str, int]] = field(default_factory=Counter)

    def may_log(self, run: str, round: int) -> bool:
        """Whether one more refusal in this round goes into the log, which is on the disk for good."""
        self.logged[run, round] += 1
        if len(self.logged) > self.limits.refusals_logged:
            self.logged.pop(next(iter(self.logged)))
        return self.logged[run, round] <= self.limits.refusals_logged

    def call(self) -> None:
        """TooMany where the device calls too often."""
        if not self.calls.take():
            raise TooMany(
                f"{self.device} calls more than {self.limits.calls_per_s:g} times a second, "
                f"beyond a burst of {self.limits.calls_burst}"
            )

    @contextmanager
    def transfer(self, kind: str, most: int) -> Iterator[None]:
        """Counts one transfer of `kind` for the length of the `with`; TooMany beyond `most` at once."""
        if self.running[kind] >= most:
            raise TooMany(f"{self.device} has {self.running[kind]} {kind} under way; at most {most} are served")
        self.running[kind] += 1
        try:
            yield
        finally:
            self.running[kind] -= 1

    @contextmanager
    def upload(self, blobs: BlobStore, digest: str, size_bytes: int, largest_bytes: int) -> Iterator[None]:
        """The same for an upload; TooMuch where the device would hold more of the disk than its share."""
        with self.transfer("uploads", self.limits.uploads):
            announced = sum(n for other, n in self.announced.items() if other != digest)
            allowed = self._allowed_bytes(blobs, largest_bytes)
            if blobs.others_bytes(digest) + announced + size_bytes > allowed:
                blobs.sweep(math.inf)  # what this device began and does not go on with
            wanted = blobs.others_bytes(digest) + announced + size_bytes
            if wanted > allowed:
                raise TooMuch(f"{self.device} would hold {wanted:,} bytes; its share is {allowed:,}")
            self.announced[digest] = size_bytes
            try:
                yield
            finally:
                self.announced.pop(digest, None)

    def _allowed_bytes(self, blobs: BlobStore, largest_bytes: int) -> int:
        share_bytes = int(self.limits.disk_share * shutil.disk_usage(blobs.folder).total)
        return min(self.limits.updates_held * largest_bytes, share_bytes)


class Uses:
    """The use of every device that is known."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._by_device: dict[str, Use] = {}

    def of(self, device: str, known: bool) -> Use:
        """The use of `device`; that of all strangers together where it is not known."""
        name = device if known else "an unknown device"
        if name not in self._by_device:
            bucket = Bucket(self.limits.calls_per_s, self.limits.calls_burst)
            self._by_device[name] = Use(name, self.limits, bucket)
        return self._by_device[name]


class Stalls:
    """Ends calls whose other side does not read."""

    def __init__(self, stall_s: float, refusals: "Refusals") -> None:
        self._stall_s, self._refusals = stall_s, refusals
        self._giving: dict[asyncio.Task[Any], float] = {}

    @contextmanager
    def giving(self) -> Iterator[None]:
        """Around a `yield` of a servicer: the call is cancelled if nobody takes what it gives for `stall_s`."""
        task = asyncio.current_task()
        assert task is not None
        self._giving[task] = time.monotonic()
        try:
            yield
        finally:
            self._giving.pop(task, None)

    async def end_the_stalled(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(min(1.0, self._stall_s / 4))
            oldest_s = time.monotonic() - self._stall_s
            for task in [t for t, since_s in self._giving.items() if since_s < oldest_s]:
                self._giving.pop(task)
                self._refusals.count(REASONS[TooSlow])
                task.cancel()


class Refusals(grpc.aio.ServerInterceptor, Collector):
    """Counts what was refused, by reason. To be inside of what turns errors into statuses."""

    def __init__(self) -> None:
        self._counts = Counter(dict.fromkeys((*REASONS.values(), MEASUREMENT), 0))

    def count(self, reason: str) -> None:
        """One more."""
        self._counts[reason] += 1

    def counts(self) -> dict[str, int]:
        """By reason."""
        return dict(self._counts)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None or not str(handler_call_details.method).startswith(DEVICES_CALL):
            return handler
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if inspect.isasyncgenfunction(behaviour):
                return handler._replace(**{kind: self._stream(behaviour)})
            if inspect.iscoroutinefunction(behaviour):
                return handler._replace(**{kind: self._unary(behaviour)})
        return handler

    def _unary(self, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            with self._counting():
                return await behaviour(_readable(request), context)

        return call

    def _stream(self, behaviour: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._counting():
                async for response in behaviour(_readable(request), context):
                    yield response

        return call

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except WattbedError as error:
            if reason := next((REASONS[c] for c in type(error).__mro__ if c in REASONS), None):
                self.count(reason)
            raise

    def collect(self) -> Iterator[Metric]:
        """The one family."""
        refused = CounterMetricFamily(
            "wattbed_refused", "Calls and messages of devices that were refused", labels=["reason"]
        )
        for reason, count in list(self._counts.items()):
            refused.add_metric([reason], count)
        yield refused


def _readable(request: Any) -> Any:
    """A request, or a stream of them; BadRequest where one is no message of the schema."""
    if hasattr(request, "__aiter__"):
        return _each_readable(request)
    if request is None:
        raise BadRequest(UNREADABLE)
    return request


async def _each_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if request is None:
            raise BadRequest(UNREADABLE)
        yield request
