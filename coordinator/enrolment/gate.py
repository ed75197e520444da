"""Who calls, and whether they may: one interceptor for roles, one function for the device that a message names.

The identity is that of the client's certificate, which the handshake has checked against the authority. In plain
text, which is for loopback only, everybody is let through as whoever they say they are.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grpc
from cryptography import x509

from coordinator.loop import Loop
from coordinator.machine.enrolment import Enrolment
from fleet.domain import Hello
from fleet.errors import NotAllowed, Revoked, Unauthenticated, WattbedError
from fleet.identity import Role, fingerprint, key_fingerprint, role_and_name

log = logging.getLogger(__name__)

VIEWERS_MAY = frozenset(
    {
        "/fleet.v1.Operator/ListRuns",
        "/fleet.v1.Operator/WatchRun",
        "/fleet.v1.Operator/ListDevices",
        "/fleet.v1.Operator/GetCalibrations",
        "/fleet.v1.Operator/GetReport",
        "/fleet.v1.Operator/ReplayRun",
        "/fleet.v1.Operator/GetArtifact",
        "/fleet.v1.Operator/ListRequests",
        "/fleet.v1.Operator/GetQuality",
        "/fleet.v1.Administration/ListTokens",
    }
)
DEVICES_MAY = ("/fleet.v1.Fleet/", "/fleet.v1.Enrolment/")
EVERYBODY_MAY = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Everybody who has a certificate."""

SWEEP_S = 1.0
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Identity:
    """What a certificate says, and until when."""

    role: Role
    name: str
    key_sha256: str
    sha256: str
    expires_at_s: float


@lru_cache(maxsize=4096)
def identity_of(certificate_pem: bytes) -> Identity | None:
    """The identity in a certificate that was checked; None where the subject is not one of wattbed's."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    found = role_and_name(certificate)
    if found is None:
        return None
    return Identity(
        *found,
        key_fingerprint(certificate.public_key()),
        fingerprint(certificate),
        certificate.not_valid_after_utc.timestamp(),
    )


class Gate(grpc.aio.ServerInterceptor):
    """To be the innermost interceptor: what it raises becomes a status further out.

    `operators` are the certificates (sha256) of people that count, by role; None: plain text, nobody is asked.
    """

    def __init__(
        self, loop: Loop, operators: Mapping[str, Role] | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._loop = loop
        self._operators = operators
        self._clock = clock
        self._running: dict[asyncio.Task[Any], Identity] = {}
        self._cutting: dict[asyncio.Task[Any], WattbedError] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call; in plain text it is left as it is."""
        handler = await continuation(handler_call_details)
        if handler is None or self._operators is None:
            return handler
        method = str(handler_call_details.method)
        kind = next(k for k in _KINDS if getattr(handler, k) is not None)
        behaviour = getattr(handler, kind)
        if inspect.isasyncgenfunction(behaviour):
            return handler._replace(**{kind: self._stream(method, behaviour)})
        if inspect.iscoroutinefunction(behaviour):
            return handler._replace(**{kind: self._unary(method, behaviour)})
        return handler  # a synchronous servicer of gRPC's own

    def device(self, context: Context, named: str) -> str:
        """The name of the device that calls; NotAllowed where its message names another."""
        if self._operators is None:
            return named
        name, _ = self._enrolled(context)
        if named != name:
            raise NotAllowed(f"device {name} speaks for device {named!r}; a device speaks for itself only")
        return name

    def attaching(self, context: Context, hello: Hello) -> str:
        """The same for a hello, in which an agent may say a name that its device had before; the kind must fit."""
        if self._operators is None:
            return hello.device
        name, enrolment = self._enrolled(context)
        if hello.device not in (name, *enrolment.formerly):
            raise NotAllowed(f"device {name} calls itself {hello.device!r}; its certificate is for {name}")
        if hello.capabilities.kind != enrolment.kind:
            raise NotAllowed(f"device {name} joined as a {enrolment.kind} and is a {hello.capabilities.kind} now")
        return name

    def key_of(self, context: Context) -> str:
        """What the calling device is known by; Unauthenticated in plain text."""
        if self._operators is None:
            raise Unauthenticated("there are no certificates on a port in plain text")
        return self._who(context).key_sha256

    def cut(self, key_sha256: str, error: WattbedError) -> int:
        """Ends every call that goes on with this key by `error`; how many they were."""
        tasks = [task for task, identity in self._running.items() if identity.key_sha256 == key_sha256]
        for task in tasks:
            self._end(task, error)
        return len(tasks)

    async def cut_the_expired(self) -> None:
        """Never returns: ends the calls of each certificate that runs out while they go on."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self._clock()
            for task, identity in list(self._running.items()):
                if identity.expires_at_s <= now_s:
                    error = Unauthenticated(f"the certificate of {identity.role} {identity.name} has run out")
                    log.info("%s", error)
                    self._end(task, error)

    def _end(self, task: asyncio.Task[Any], error: WattbedError) -> None:
        """Ends a call by `error`. One that is only cancelled tells the other side nothing, which waits on."""
        if task not in self._cutting:
            self._cutting[task] = error
            task.cancel()

    def _enrolled(self, context: Context) -> tuple[str, Enrolment]:
        identity = self._who(context)
        found = self._loop.state.register.of_key(identity.key_sha256)
        if found is None:
            raise NotAllowed(f"the certificate of device {identity.name} is not one that this coordinator knows")
        return found

    def _who(self, context: Context) -> Identity:
        shown = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        identity = None if shown is None else identity_of(bytes(shown))
        if identity is None:
            raise Unauthenticated("no certificate of wattbed's was shown")
        return identity

    def _admit(self, method: str, context: Context) -> Identity:
        """Unauthenticated, Revoked or NotAllowed: this call is not for whoever makes it."""
        identity = self._who(context)
        if identity.expires_at_s <= self._clock():
            raise Unauthenticated(f"the certificate of {identity.role} {identity.name} has run out")
        match identity.role:
            case Role.DEVICE:
                self._loop.state.register.of_key(identity.key_sha256)
                allowed = method.startswith(DEVICES_MAY)
            case Role.OPERATOR | Role.VIEWER:
                if (self._operators or {}).get(identity.sha256) is not identity.role:
                    raise Revoked(f"these credentials of {identity.role} {identity.name} are not taken any more")
                allowed = not method.startswith(DEVICES_MAY)
                if identity.role is Role.VIEWER:
                    allowed = method in VIEWERS_MAY
        if not allowed and not method.startswith(EVERYBODY_MAY):
            raise NotAllowed(f"{identity.role} {identity.name} may not call {method.rpartition('.')[2]}")
        return identity

    @contextmanager
    def _admitted(self, method: str, context: Context) -> Iterator[None]:
        identity = self._admit(method, context)
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = identity
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cutting:
                raise
            task.uncancel()
            raise self._cutting[task] from None
        finally:
            del self._running[task]
            self._cutting.pop(task, None)

    def _unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            with self._admitted(method, context):
                return await behaviour(request, context)

        return call

    def _stream(
        self, method: str, behaviour: Callable[..., AsyncIterator[Any]]
    ) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._admitted(method, context):
                async for response in behaviour(request, context):
                    yield response

        return call
