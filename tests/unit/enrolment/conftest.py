"""A whole coordinator with certificates, in this process, and devices that join it."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from coordinator.enrolment.authority import Authority, open_authority
from coordinator.enrolment.door import Security
from coordinator.server import Settings, run
from edge_agent.identity import Identity
from edge_agent.join import joined
from fleet import rpc, wire
from fleet.domain import Capabilities, Hello
from fleet.identity import JoinToken, parse_token
from fleet.tls import Credentials, read_bundle
from fleet.v1 import enrolment_pb2, enrolment_pb2_grpc, fleet_pb2_grpc, operator_pb2_grpc

KIND = "mini-pc-n100"


@dataclass
class Caller:
    """Every service, as somebody in particular; a refused call raises the WattbedError it was."""

    address: str
    credentials: Credentials | None

    def __post_init__(self) -> None:
        self.channel = rpc.channel(self.address, self.credentials)
        self.fleet = fleet_pb2_grpc.FleetStub(self.channel)
        self.operator = operator_pb2_grpc.OperatorStub(self.channel)
        self.enrolment = enrolment_pb2_grpc.EnrolmentStub(self.channel)
        self.administration = enrolment_pb2_grpc.AdministrationStub(self.channel)

    async def ask(self, call):
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise rpc.wattbed_error(error) from None

    async def attach(self, name: str, kind: str = KIND):
        """The stream and the welcome."""
        stream = self.fleet.Attach()
        capabilities = Capabilities(kind, "cpu", 4, 1 << 30, "x86_64", "0")
        # Refused before it was said: reading tells why.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await stream.write(wire.envelope(Hello(rpc.PROTOCOL_VERSION, name, capabilities)))
        message = await self.ask(stream.read())
        if message is grpc.aio.EOF:
            raise rpc.wattbed_error(await _ended(stream))
        return stream, wire.unwrap(message)


async def _ended(call) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


class Coordinator:
    """One that is served, its folder, and who may call it."""

    def __init__(self, port: int, http_port: int, state: Path) -> None:
        self.address, self.http, self.state = f"127.0.0.1:{port}", f"127.0.0.1:{http_port}", state
        self.callers: list[Caller] = []
        self.operator = self.caller(read_bundle(state / "operator.pem"))
        self.viewer = self.caller(read_bundle(state / "viewer.pem"))

    def caller(self, credentials: Credentials | None, address: str | None = None) -> Caller:
        self.callers.append(Caller(address or self.address, credentials))
        return self.callers[-1]

    @property
    def authority(self) -> Authority:
        return open_authority(self.state / "authority", None, None, time.time())

    async def token(self, **wanted) -> JoinToken:
        request = enrolment_pb2.CreateTokenRequest(**({"lives_s": 60.0, "uses": 1} | wanted))
        answer = await self.operator.ask(self.operator.administration.CreateToken(request))
        return parse_token(answer.text)

    async def join(self, folder: Path, name: str, token: JoinToken | None = None, kind: str = KIND) -> Identity:
        token = token or await self.token(benchmark=False)
        found = await joined(folder / name, token, name, kind, None, patience_s=0.0)
        assert found is not None
        return found

    def as_device(self, identity: Identity) -> Caller:
        return self.caller(identity.credentials)


@pytest.fixture
def settings(tmp_path):
    return Settings(
        "127.0.0.1:0", "127.0.0.1:0", tmp_path / "state", Path("/nowhere"), "test", security=Security(tls="on")
    )


@pytest.fixture
async def serving():
    """Serves coordinators with given settings until the test ends."""
    running = []

    async def serve(settings: Settings) -> Coordinator:
        ready, stopping = asyncio.get_running_loop().create_future(), asyncio.Event()
        task = asyncio.create_task(run(settings, ready, stopping))
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        there = Coordinator(*await ready, settings.state)
        running.append((there, task, stopping))
        return there

    async def end(there: Coordinator) -> None:
        entry = next(e for e in running if e[0] is there)
        running.remove(entry)
        for caller in there.callers:
            await caller.channel.close()
        entry[2].set()
        await entry[1]

    serve.end = end
    yield serve
    for there, _, _ in list(running):
        await end(there)


@pytest.fixture
async def coordinator(serving, settings):
    return await serving(settings)


@pytest.fixture
def with_security(settings):
    """The settings with other facts about who may come."""
    return lambda **facts: replace(settings, security=replace(settings.security, **facts))
