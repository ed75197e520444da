"""How wattbed uses gRPC: one set of channel options, one interceptor, one translation of errors.

Messages stay below gRPC's default limit of 4 MiB: large things go in chunks of CHUNK_BYTES.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from fleet import errors
from fleet.errors import WattbedError
from fleet.tls import Credentials, server_name

PROTOCOL_VERSION = 1
CHUNK_BYTES = 1 << 20
FRAME_BYTES = 5
"""Length prefix that gRPC puts before every message: part of the bytes counted on the wire."""

ERROR_KEY = "wattbed-error"
"""Trailing metadata that names the error's class."""

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    # What the server reads ahead of one upload is bounded, instead of growing with the speed of the link:
    # memory per agent must not.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", CHUNK_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # What one peer can hold: calls over one connection; a connection without any; one that never speaks HTTP/2.
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_BY_NAME = {c.__name__: c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, WattbedError)}


def channel(address: str, credentials: Credentials | None = None) -> grpc.aio.Channel:
    """A channel to `address` (host:port), of its own connection; without credentials in plain text."""
    options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials.channel_credentials(), options=(*options, server_name()))


def wattbed_error(error: grpc.aio.AioRpcError) -> WattbedError:
    """The error that the other side raised; Unreachable when it was the connection."""
    metadata = error.trailing_metadata() or ()
    name = next((value for key, value in metadata if key == ERROR_KEY), None)
    details = error.details() or error.code().name
    if name in _BY_NAME:
        return _BY_NAME[str(name)](details)
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return errors.Unreachable(details)
    return WattbedError(f"{error.code().name}: {details}")


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: WattbedError) -> NoReturn:
    await context.abort(grpc.StatusCode[error.status], str(error), ((ERROR_KEY, type(error).__name__),))
    raise AssertionError("abort returns never")


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns a WattbedError raised by any servicer into its status. The only place that does."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = next(k for k in _KINDS if getattr(handler, k) is not None)
        behaviour = getattr(handler, kind)
        if not (inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)):
            return handler  # a synchronous servicer of gRPC's own, such as health checking
        wrapped = _stream(behaviour) if inspect.isasyncgenfunction(behaviour) else _unary(behaviour)
        return handler._replace(**{kind: wrapped})


_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def _unary(behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(request, context)
        except WattbedError as error:
            await _abort(context, error)

    return call


def _stream(behaviour: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(request, context):
                yield response
        except WattbedError as error:
            await _abort(context, error)

    return call
