import asyncio
import contextlib
import hashlib
import time

import grpc
import numpy as np
import pytest
import xxhash

import quantizer
from edge_agent import agent as agent_module
from edge_agent import client, worker
from edge_agent.agent import Agent, Settings
from edge_agent.energy.cpu_time import CpuTimeModel
from edge_agent.energy.meter import Meter
from edge_agent.energy.unwrap import CounterTracker
from fleet import rpc, wire
from fleet.domain import (
    Assignment,
    Capabilities,
    Heartbeat,
    HeartbeatAck,
    Hello,
    MeasurementAck,
    PhaseMeasured,
    Task,
    UpdateHeader,
    Welcome,
)
from fleet.errors import BadRequest, LateUpdate
from fleet.kinds import kind
from fleet.v1 import fleet_pb2, fleet_pb2_grpc
from workloads.protocol import Outcome


class FakeFleet(fleet_pb2_grpc.FleetServicer):
    """A coordinator that does what the test tells it, over real gRPC on loopback."""

    def __init__(self):
        self.blobs = {}
        self.held = {}
        self.tasks = []
        self.hellos, self.messages, self.headers = [], [], []
        self.download_offsets, self.counted = [], []
        self.cut_downloads, self.cut_uploads, self.refusals = [], [], []
        self.hello_error = None
        self.closed_runs = set()
        self.filler_bytes, self.refused_fillers = {"up": 0, "down": 0}, []
        self.acks = self.answers_heartbeats = True
        self.ended = 0
        self.port = 0
        self.outbox = None

    async def start(self):
        self.server = grpc.aio.server(options=rpc.SERVER_OPTIONS, interceptors=[rpc.ErrorInterceptor()])
        fleet_pb2_grpc.add_FleetServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def crash(self):
        await self.server.stop(None)

    def blob(self, payload):
        name = hashlib.sha256(payload).hexdigest()
        self.blobs[name] = payload
        return name

    def push(self, message):
        self.outbox.put_nowait(message)

    def said(self, cls):
        return [m for m in self.messages if isinstance(m, cls)]

    def update(self, number=0):
        return quantizer.decode(bytes(self.held[self.counted[number]]))

    async def Attach(self, requests, context):
        self.hellos.append(wire.unwrap(await anext(requests)))
        if self.hello_error is not None:
            raise self.hello_error
        yield wire.envelope(Welcome(rpc.PROTOCOL_VERSION, 0.05, time.time()))
        outbox = self.outbox = asyncio.Queue()
        for task in self.tasks:
            outbox.put_nowait(task)
        reader = asyncio.create_task(self._read(requests, outbox))
        try:
            while (message := await outbox.get()) is not None:
                yield wire.envelope(message)
        finally:
            reader.cancel()

    async def _read(self, requests, outbox):
        async for request in requests:
            message = wire.unwrap(request)
            self.messages.append(message)
            if isinstance(message, Heartbeat) and self.answers_heartbeats:
                outbox.put_nowait(HeartbeatAck(message.sequence))
            if isinstance(message, PhaseMeasured) and self.acks:
                outbox.put_nowait(MeasurementAck(message.window))
        self.ended += 1
        outbox.put_nowait(None)

    async def StatBlob(self, request, context):
        return fleet_pb2.StatBlobResponse(held_bytes=len(self.held.get(request.digest, b"")))

    async def GetBlob(self, request, context):
        self.download_offsets.append(request.offset_bytes)
        payload = self.blobs[request.sha256][request.offset_bytes :]
        if self.cut_downloads:
            yield fleet_pb2.BlobChunk(data=payload[: self.cut_downloads.pop(0)])
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
        for start in range(0, len(payload), rpc.CHUNK_BYTES):
            yield fleet_pb2.BlobChunk(data=payload[start : start + rpc.CHUNK_BYTES])

    async def PutBlob(self, requests, context):
        header: UpdateHeader = wire.from_proto((await anext(requests)).header)
        self.headers.append(header)
        if header.run in self.closed_runs:
            raise LateUpdate(f"round {header.round} is closed")
        if self.refusals:
            raise self.refusals.pop(0)
        held = self.held.setdefault(header.digest, bytearray())
        assert header.offset_bytes == len(held)
        cut = self.cut_uploads.pop(0) if self.cut_uploads else None
        async for request in requests:
            held += request.data
            if cut is not None and len(held) >= cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
        if xxhash.xxh3_128(held).hexdigest() != header.digest:
            raise BadRequest(f"{len(held)} of {header.size_bytes} bytes")
        fresh = header.digest not in self.counted
        self.counted.append(header.digest)
        return fleet_pb2.PutBlobResponse(fresh=fresh)

    async def GetFiller(self, request, context):
        self.filler_bytes["down"] += request.size_bytes
        for start in range(0, request.size_bytes, rpc.CHUNK_BYTES):
            yield fleet_pb2.BlobChunk(data=bytes(min(rpc.CHUNK_BYTES, request.size_bytes - start)))

    async def PutFiller(self, requests, context):
        if self.refused_fillers:
            raise self.refused_fillers.pop(0)
        received = sum([len(r.data) async for r in requests])
        self.filler_bytes["up"] += received
        return fleet_pb2.PutFillerResponse(received_bytes=received)


class LateMeter(Meter):
    """Its windows are known as late as the interface allows: when somebody asks it to settle."""

    def __init__(self, trackers):
        super().__init__(trackers)
        self._late = []

    def phase(self, phase, done):
        return super().phase(phase, lambda window: self._late.append((done, window)))

    def settle(self):
        while self._late:
            done, window = self._late.pop(0)
            done(window)


class Recorded:
    """A workload whose training the test holds, fails or lets go on."""

    def __init__(self):
        self.trained = []
        self.hold = False
        self.error = None
        self.stopped_by = None

    def check(self):
        if self.error is not None:
            raise self.error

    def initial(self, seed):
        return {"w": np.linspace(-1, 1, 1000, dtype=np.float32)}

    def train(self, params, shard, assignment, progress):
        self.trained.append((assignment.run, assignment.round))
        try:
            step = 0
            while self.hold or step < assignment.train_steps:
                step += 1
                progress(min(step, assignment.train_steps), 0.5)
                if self.hold:
                    time.sleep(0.002)
        except BaseException as error:
            self.stopped_by = type(error).__name__
            raise
        return Outcome({name: value + assignment.round for name, value in params.items()}, samples=7, loss=0.5)


async def until(condition, within_s=20.0):
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def fleet(monkeypatch):
    monkeypatch.setattr(agent_module, "HEARTBEAT_INTERVAL_S", 0.05)
    monkeypatch.setattr(client, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(client, "LONGEST_DELAY_S", 0.05)
    fake = FakeFleet()
    fake.until = until
    await fake.start()
    yield fake
    await fake.crash()


@pytest.fixture
def workload(monkeypatch):
    recorded = Recorded()
    monkeypatch.setattr(worker.protocol, "load", lambda name, options, data: recorded)
    return recorded


@pytest.fixture
def params():
    return {"w": np.linspace(-1, 1, 1000, dtype=np.float32)}


@pytest.fixture
def make_task(fleet):
    def make(params, run="r1", round=1, bits_up=32, error_feedback=False, residual_round=None, hertz=None):
        payload = quantizer.encode(params, 32, seed=0)
        assignment = Assignment(
            run, round, "d1", fleet.blob(payload), len(payload), 0, bits_up, 32, "fp32", 1.0, 3, 11, 0.0,
            residual_round, None, hertz,
        )  # fmt: skip
        return Task(assignment, "recorded", "{}", 1, 64, error_feedback)

    return make


@pytest.fixture
def late_meter():
    return LateMeter([CounterTracker(CpuTimeModel(kind("raspberry-pi-5")))])


@pytest.fixture
async def attach(fleet, tmp_path):
    """Starts an agent; at the end of the test all are stopped."""
    running = []

    async def start(state="agent", levers=None):
        device_kind = kind("raspberry-pi-5")
        meter = LateMeter([CounterTracker(CpuTimeModel(device_kind))])
        hello = Hello(rpc.PROTOCOL_VERSION, "d1", Capabilities(device_kind.name, "cpu", 1, 1, "m", "0"))
        stop = asyncio.Event()
        agent = Agent(Settings(f"127.0.0.1:{fleet.port}", tmp_path / state), hello, meter, levers)
        run = asyncio.create_task(agent.run(stop))
        running.append((run, stop))
        return run, stop

    yield start
    for run, stop in running:
        stop.set()
        with contextlib.suppress(Exception):
            await run
