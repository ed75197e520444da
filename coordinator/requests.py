"""gRPC requests as they were served: how many, how long, and with which status. Gone with the process.

One dictionary look-up and a few additions per call. Streams that stay open for as long as someone listens are
counted, but their length says nothing about the service, so it is in no histogram.
"""

import asyncio
import inspect
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import accumulate
from typing import Any

import grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""From a unary call on loopback to the upload of a model over a slow link."""

LONG_STREAMS = frozenset({"Attach", "Generate", "WatchRun", "Watch", "ServerReflectionInfo"})

_OF_CODE = {code.value[0]: code.name for code in grpc.StatusCode}
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Requests(grpc.aio.ServerInterceptor, Collector):
    """Counts calls by method and status. To be the outermost interceptor, so that it sees the final status."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._served: Counter[tuple[str, str]] = Counter()
        self._running: Counter[str] = Counter()
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call. A method that does not exist has none, and is counted under one name."""
        handler = await continuation(handler_call_details)
        if handler is None:
            self._served["unknown", "UNIMPLEMENTED"] += 1
            return None
        method = str(handler_call_details.method).rpartition("/")[2]
        kind = next(k for k in _KINDS if getattr(handler, k) is not None)
        behaviour = getattr(handler, kind)
        if inspect.isasyncgenfunction(behaviour):
            return handler._replace(**{kind: self._stream(method, behaviour)})
        if inspect.iscoroutinefunction(behaviour):
            return handler._replace(**{kind: self._unary(method, behaviour)})
        return handler  # a synchronous servicer of gRPC's own

    def _unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._counted(method, context):
                return await behaviour(request, context)

        return call

    def _stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any]]
    ) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            with self._counted(method, context):
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response

        return call

    @contextmanager
    def _counted(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
        started_s = self._clock()
        self._running[method] += 1
        status = "OK"
        try:
            yield
            status = _status(context) or "OK"
        except (asyncio.CancelledError, GeneratorExit):
            status = "CANCELLED"
            raise
        except BaseException:
            status = _status(context) or "UNKNOWN"
            raise
        finally:
            self._running[method] -= 1
            self._served[method, status] += 1
            if method not in LONG_STREAMS:
                self._took(method, status, self._clock() - started_s)

    def _took(self, method: str, status: str, seconds: float) -> None:
        counts = self._buckets.setdefault((method, status), [0] * (len(BUCKETS_S) + 1))
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds[method, status] += seconds

    def collect(self) -> Iterator[Metric]:
        """The three families."""
        served = CounterMetricFamily(
            "wattbed_grpc_requests", "Calls that ended, also streams", labels=["method", "status"]
        )
        for key, count in list(self._served.items()):
            served.add_metric(key, count)
        running = GaugeMetricFamily("wattbed_grpc_requests_running", "Calls that are open", labels=["method"])
        for method, count in list(self._running.items()):
            running.add_metric([method], count)
        seconds = HistogramMetricFamily(
            "wattbed_grpc_request_seconds",
            "Time to serve a call; streams that stay open are left out",
            labels=["method", "status"],
        )
        bounds = [*map(str, BUCKETS_S), "+Inf"]
        for key, counts in list(self._buckets.items()):
            buckets = list(zip(bounds, accumulate(list(counts)), strict=True))
            seconds.add_metric(key, buckets, self._seconds[key])
        yield from (served, running, seconds)


def _status(context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    """The status that a servicer set, None where it set none: gRPC keeps it as a number, 0 at first."""
    code: Any = context.code()
    if not code:
        return None
    return code.name if isinstance(code, grpc.StatusCode) else _OF_CODE[code]
