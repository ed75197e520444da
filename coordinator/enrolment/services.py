"""The services of joining, renewing and looking after devices. They translate; the machine decides."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from coordinator.enrolment import tokens
from coordinator.enrolment.authority import Authority, requested_key
from coordinator.enrolment.events import (
    CertificateRenewed,
    DeviceDrained,
    DeviceEnrolled,
    DeviceRenamed,
    DeviceRevoked,
    TokenWithdrawn,
)
from coordinator.enrolment.gate import Gate
from coordinator.loop import Loop
from coordinator.machine.enrolment import Token
from coordinator.operator_service import summaries
from coordinator.sessions import Sessions
from coordinator.shelves import checked_name
from fleet import wire
from fleet.domain import TokenSummary
from fleet.errors import BadRequest, ProtocolMismatch, Revoked, Unequipped, UnknownDevice
from fleet.identity import key_fingerprint, secret_hash
from fleet.kinds import kind as kind_named
from fleet.rpc import PROTOCOL_VERSION
from fleet.v1 import enrolment_pb2 as pb
from fleet.v1 import enrolment_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Issuing:
    """With what certificates are issued, how long those of devices live, and where new devices are to call."""

    authority: Authority
    device_lives_s: float
    addresses: Sequence[str]
    fleet_port: int

    async def certificate(self, device: str, key: Any, now_s: float, expires_at_s: float) -> Any:
        """An IssuedCertificate."""
        made = await asyncio.to_thread(self.authority.for_device, device, key, now_s, expires_at_s)
        return pb.IssuedCertificate(
            device=device, certificate_pem=made, issued_at_s=now_s, expires_at_s=expires_at_s
        )


class JoinService(enrolment_pb2_grpc.EnrolmentServicer):
    """Join: on a port of its own, where no certificate is asked for and nothing else is served."""

    def __init__(self, loop: Loop, issuing: Issuing) -> None:
        self._loop = loop
        self._issuing = issuing

    async def Join(self, request: Any, context: Context) -> Any:  # noqa: N802
        """The first certificate of a device; again for the same token and key, as an answer may be lost."""
        if request.protocol_version != PROTOCOL_VERSION:
            raise ProtocolMismatch(
                f"the agent speaks protocol {request.protocol_version}, this coordinator {PROTOCOL_VERSION}"
            )
        device, kind = checked_name("device", request.device), kind_named(request.kind).name
        key = requested_key(request.signing_request)
        now_s = self._loop.now_s()
        expires_at_s = now_s + self._issuing.device_lives_s
        secret = secret_hash(request.secret)
        await self._loop.submit(
            DeviceEnrolled(now_s, device, kind, request.token, secret, key_fingerprint(key), expires_at_s)
        )
        certificate = await self._issuing.certificate(device, key, now_s, expires_at_s)
        return pb.JoinResponse(certificate=certificate, fleet_port=self._issuing.fleet_port)


class RenewService(enrolment_pb2_grpc.EnrolmentServicer):
    """Renew: on the port of the fleet, for who has a certificate."""

    def __init__(self, loop: Loop, issuing: Issuing, gate: Gate) -> None:
        self._loop = loop
        self._issuing = issuing
        self._gate = gate

    async def Renew(self, request: Any, context: Context) -> Any:  # noqa: N802
        """A new certificate for the key of the one that is shown."""
        key = requested_key(request.signing_request)
        sha256 = key_fingerprint(key)
        if sha256 != self._gate.key_of(context):
            raise BadRequest("a certificate is renewed for the key that it has; for another one, join again")
        found = self._loop.state.register.of_key(sha256)
        if found is None:
            raise UnknownDevice(f"no device has the key {sha256[:12]}")
        now_s = self._loop.now_s()
        expires_at_s = now_s + self._issuing.device_lives_s
        await self._loop.submit(CertificateRenewed(now_s, found[0], sha256, expires_at_s))
        return pb.RenewResponse(certificate=await self._issuing.certificate(found[0], key, now_s, expires_at_s))


class AdministrationService(enrolment_pb2_grpc.AdministrationServicer):
    """Tokens and devices, for operators. `issuing` None: plain text, where nobody can join."""

    def __init__(self, loop: Loop, sessions: Sessions, gate: Gate, issuing: Issuing | None) -> None:
        self._loop = loop
        self._sessions = sessions
        self._gate = gate
        self._issuing = issuing

    async def CreateToken(self, request: Any, context: Context) -> Any:  # noqa: N802
        """A join token."""
        issuing = self._issuing
        if issuing is None:
            raise Unequipped(
                "this coordinator listens in plain text, on loopback only: nobody can join it. Start it with "
                "WATTBED_TLS=on, or with `wattbed up --local --tls`, or in containers with `wattbed up`"
            )
        addresses = (*request.addresses, *issuing.addresses)
        token = await tokens.create(
            self._loop,
            issuing.authority.sha256,
            addresses,
            kind=request.kind if request.HasField("kind") else None,
            lives_s=request.lives_s,
            uses=request.uses,
            benchmark=request.benchmark,
        )
        said = _summary(self._loop.state.register.tokens[token.token])
        return pb.CreateTokenResponse(text=token.text(), token=wire.to_proto(said), addresses=token.addresses)

    async def ListTokens(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Every token that has not run out long ago, the oldest first."""
        found = [wire.to_proto(_summary(t)) for t in self._loop.state.register.tokens.values()]
        return pb.ListTokensResponse(tokens=found)

    async def WithdrawToken(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Nobody joins with it any more."""
        await self._loop.submit(TokenWithdrawn(self._loop.now_s(), request.token))
        found = _summary(self._loop.state.register.tokens[request.token])
        return pb.WithdrawTokenResponse(token=wire.to_proto(found))

    async def DrainDevice(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Nothing new for it, or again."""
        await self._loop.submit(DeviceDrained(self._loop.now_s(), request.device, request.drained))
        return pb.DrainDeviceResponse(device=self._device(request.device))

    async def RevokeDevice(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Its certificate is withdrawn, its stream and its calls end."""
        reason = request.reason or "no reason was given"
        await self._loop.submit(DeviceRevoked(self._loop.now_s(), request.device, reason))
        error = Revoked(f"device {request.device} was revoked: {reason}")
        if session := self._sessions.find(request.device):
            session.end(str(error))
        self._gate.cut(self._loop.state.register.devices[request.device].key_sha256, error)
        return pb.RevokeDeviceResponse(device=self._device(request.device))

    async def RenameDevice(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Another name; its stream ends, and it learns the name when it comes back."""
        name = checked_name("device", request.name)
        session = self._sessions.find(request.device)
        await self._loop.submit(DeviceRenamed(self._loop.now_s(), request.device, name))
        if session is not None:
            session.end(f"device {request.device} is {name} now")
        return pb.RenameDeviceResponse(device=self._device(name))

    def _device(self, name: str) -> Any:
        """Its DeviceSummary."""
        return next(wire.to_proto(d) for d in summaries(self._loop.state, self._sessions) if d.device == name)


def _summary(token: Token) -> TokenSummary:
    return TokenSummary(
        token.token, token.kind, token.uses, token.used, token.created_at_s, token.expires_at_s, token.withdrawn
    )
