"""A whole coordinator in this process, on real gRPC, and a device that does only what a test says."""

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from coordinator.server import Settings, run
from fleet import rpc, wire
from fleet.domain import Capabilities, Hello, Task, UpdateHeader
from fleet.errors import WattbedError
from fleet.v1 import fleet_pb2, fleet_pb2_grpc, operator_pb2, operator_pb2_grpc
from quantizer import decode, encode_to

EXPERIMENT = {
    "name": "x", "seed": 1, "rounds": 2, "shards": 2,
    "workload": {"name": "noop", "options": {"model_bytes": 4000, "tensors": 2}},
    "policy": {"name": "fixed", "options": {
        "bits_up": [32, 8], "bits_down": 32, "precision": "fp32", "width": 1.0, "train_steps": 1}},
    "round": {"mode": "sync", "min_devices": 2, "devices": 2, "quorum": 2, "deadline_s": 60},
    "server": {"optimizer": "fedavg", "lr": 1.0},
    "quantizer": {"block_size": 64, "error_feedback": False},
    "evaluate": {"every": 1},
}  # fmt: skip


class Coordinator:
    """Calls to a coordinator; every error is the WattbedError it was."""

    def __init__(self, port: int, http_port: int) -> None:
        self.address, self.http = f"127.0.0.1:{port}", f"127.0.0.1:{http_port}"
        self.channel = rpc.channel(self.address)
        self.fleet = fleet_pb2_grpc.FleetStub(self.channel)
        self.operator = operator_pb2_grpc.OperatorStub(self.channel)

    async def start(self, key: str = "", **changes) -> str:
        request = operator_pb2.StartRunRequest(
            experiment_json=json.dumps(EXPERIMENT | changes), idempotency_key=key
        )
        return (await self.ask(self.operator.StartRun(request))).run

    async def ask(self, call):
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise rpc.wattbed_error(error) from None

    async def report(self, run: str):
        return wire.from_proto(await self.ask(self.operator.GetReport(operator_pb2.GetReportRequest(run=run))))

    async def state(self, run: str) -> str:
        replay = await self.ask(self.operator.ReplayRun(operator_pb2.ReplayRunRequest(run=run)))
        assert replay.same_state
        return replay.state_sha256


class Device:
    """One stream to the coordinator, and uploads as wrong as a test wants them."""

    def __init__(self, coordinator: Coordinator, name: str, **hello) -> None:
        self.coordinator, self.name = coordinator, name
        capabilities = Capabilities("mini-pc-n100", "cpu", 4, 1 << 30, "x86_64", "0")
        self.hello = replace(Hello(rpc.PROTOCOL_VERSION, name, capabilities), **hello)

    async def attach(self):
        self.call = self.coordinator.fleet.Attach()
        await self.send(self.hello)
        await self.hear()
        return self

    async def send(self, message) -> None:
        await self.call.write(wire.envelope(message))

    async def hear(self):
        message = await self.coordinator.ask(self.call.read())
        if message is grpc.aio.EOF:
            raise rpc.wattbed_error(
                grpc.aio.AioRpcError(
                    await self.call.code(),
                    await self.call.initial_metadata(),
                    await self.call.trailing_metadata(),
                    await self.call.details(),
                )
            )
        return wire.unwrap(message)

    async def task(self) -> Task:
        while not isinstance(message := await self.hear(), Task):
            pass
        return message

    async def train(self, task: Task) -> bytes:
        """The payload of an honest update."""
        a = task.assignment
        request = fleet_pb2.GetBlobRequest(sha256=a.model_sha256, device=self.name, run=a.run, round=a.round)
        model = b"".join([chunk.data async for chunk in self.coordinator.fleet.GetBlob(request)])
        sink = io.BytesIO()
        encode_to(sink, decode(model), a.bits_up, seed=a.seed, block_size=task.block_size)
        return sink.getvalue()

    async def put(self, task: Task, payload: bytes, digest: str, chunk: int = 1000, **changes):
        a = task.assignment
        header = UpdateHeader(a.run, a.round, self.name, digest, len(payload), 0, 8, 0.5, rpc.PROTOCOL_VERSION)
        header = replace(header, **changes)

        async def requests():
            yield fleet_pb2.PutBlobRequest(header=wire.to_proto(header))
            for start in range(header.offset_bytes, len(payload), chunk):
                yield fleet_pb2.PutBlobRequest(data=payload[start : start + chunk])

        for _ in range(3):
            try:
                return await self.coordinator.ask(self.coordinator.fleet.PutBlob(requests()))
            except WattbedError as error:
                # Refused before all was sent: now and then grpc.aio gives INTERNAL, for the failed write.
                if type(error) is not WattbedError:
                    raise
        raise AssertionError("no answer but INTERNAL")


@pytest.fixture
def settings(tmp_path):
    return Settings("127.0.0.1:0", "127.0.0.1:0", tmp_path / "state", Path("/nowhere"), "test")


@pytest.fixture
async def coordinator(settings):
    ready, stopping = asyncio.get_running_loop().create_future(), asyncio.Event()
    serving = asyncio.create_task(run(settings, ready, stopping))
    await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    there = Coordinator(*await ready)
    yield there
    await there.channel.close()
    stopping.set()
    await serving


@pytest.fixture
async def pair(coordinator):
    """Two devices, attached."""
    return [await Device(coordinator, name).attach() for name in ("a", "b")]


@pytest.fixture
def device_of(coordinator):
    return lambda name, **hello: Device(coordinator, name, **hello)
