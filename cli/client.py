"""The Operator service as the commands call it: domain objects in and out, WattbedError when it fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli import credentials
from cli.administration import Administration
from fleet import rpc, wire
from fleet.calibration import Calibration, CalibrationPlan, CalibrationProgress
from fleet.domain import DeviceProgress, DeviceSummary, LoggedEvent, Replay, RunReport, RunSummary
from fleet.errors import UnknownDevice, UnknownRun, Unreachable
from fleet.experiment import Experiment
from fleet.v1 import operator_pb2 as pb
from fleet.v1 import operator_pb2_grpc

T = TypeVar("T")

CALL_TIMEOUT_S = 30.0
LATEST = "latest"
"""Stands for the run that was started last."""


class Operator:
    """One connection to a coordinator; use it as an async context manager.

    Every call raises Unreachable, naming the address, when the coordinator does not answer.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    async def __aenter__(self) -> Self:
        self._channel = await credentials.channel(self.address)
        self._stub: Any = operator_pb2_grpc.OperatorStub(self._channel)
        self.administration = Administration(self._channel, self._named)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._channel.close()

    async def _ask(self, method: str, request: Any) -> Any:
        try:
            return await getattr(self._stub, method)(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._named(error) from None

    async def ask(self, method: str, request: Any) -> Any:
        """The answer to one call, as a message."""
        return await self._ask(method, request)

    async def stream(self, method: str, request: Any) -> AsyncIterator[Any]:
        """The answers of a call that gives many, as messages; leaving early ends the call."""
        call = getattr(self._stub, method)(request)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise self._named(error) from None
        finally:
            call.cancel()

    def _named(self, error: grpc.aio.AioRpcError) -> Exception:
        ours = rpc.wattbed_error(error)
        if isinstance(ours, Unreachable):
            return Unreachable(f"no coordinator answers at {self.address} ({ours})")
        return ours

    async def healthy(self, timeout_s: float = 2.0) -> bool:
        """Whether the coordinator answers gRPC health checking with SERVING."""
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def start(self, experiment: Experiment, key: str) -> str:
        """Starts a run and returns its id; asking again with the same `key` starts nothing new."""
        request = pb.StartRunRequest(experiment_json=experiment.model_dump_json(), idempotency_key=key)
        return str((await self._ask("StartRun", request)).run)

    async def stop(self, run: str, reason: str) -> RunSummary:
        """Ends a run."""
        answer = await self._ask("StopRun", pb.StopRunRequest(run=run, reason=reason))
        return _take(RunSummary, answer.run)

    async def runs(self) -> tuple[RunSummary, ...]:
        """Every run, the oldest first."""
        answer = await self._ask("ListRuns", pb.ListRunsRequest())
        return tuple(sorted((_take(RunSummary, r) for r in answer.runs), key=lambda r: r.started_at_s))

    async def find(self, run: str) -> RunSummary:
        """The run with this id, or the last one for LATEST; UnknownRun lists what there is."""
        runs = await self.runs()
        if run == LATEST and runs:
            return runs[-1]
        for found in runs:
            if found.run == run:
                return found
        there_are = ", ".join(r.run for r in runs[-5:]) or "none"
        raise UnknownRun(f"no run {run!r} at {self.address}; the last runs are: {there_are}")

    async def devices(self) -> tuple[DeviceSummary, ...]:
        """Every device the coordinator has ever seen, by name."""
        answer = await self._ask("ListDevices", pb.ListDevicesRequest())
        return tuple(sorted((_take(DeviceSummary, d) for d in answer.devices), key=lambda d: d.device))

    async def device(self, name: str) -> DeviceSummary:
        """The device of this name; UnknownDevice lists what there is."""
        devices = await self.devices()
        for found in devices:
            if found.device == name:
                return found
        there_are = ", ".join(d.device for d in devices) or "none"
        raise UnknownDevice(f"no device {name!r} at {self.address}; known are: {there_are}")

    async def calibrate(
        self, device: str, calibration: str, plan: CalibrationPlan
    ) -> AsyncIterator[CalibrationProgress | Calibration]:
        """Calibrates a device: progress, then what it found. The same id again joins one under way."""
        request = pb.CalibrateRequest(device=device, calibration=calibration, plan=wire.to_proto(plan))
        call = self._stub.Calibrate(request)
        try:
            async for message in call:
                if message.WhichOneof("message") == "progress":
                    yield _take(CalibrationProgress, message.progress)
                elif message.WhichOneof("message") == "calibration":
                    yield _take(Calibration, message.calibration)
        except grpc.aio.AioRpcError as error:
            raise self._named(error) from None
        finally:
            call.cancel()

    async def calibrations(self, device: str) -> tuple[Calibration, ...]:
        """The latest calibrations of a device, one for each workload, the oldest first."""
        answer = await self._ask("GetCalibrations", pb.GetCalibrationsRequest(device=device))
        return tuple(_take(Calibration, c) for c in answer.calibrations)

    async def report(self, run: str) -> RunReport:
        """The ledger of a run."""
        return _take(RunReport, await self._ask("GetReport", pb.GetReportRequest(run=run)))

    async def replay(self, run: str) -> Replay:
        """Folds the run's log anew on the coordinator."""
        answer = await self._ask("ReplayRun", pb.ReplayRunRequest(run=run))
        summary = _take(RunSummary, answer.run)
        return Replay(answer.events, answer.same_state, answer.state_sha256, summary)

    async def artifact(self, run: str, sha256: str) -> bytes:
        """The bytes of a blob that the report of `run` names."""
        try:
            request = pb.GetArtifactRequest(run=run, sha256=sha256)
            return b"".join([chunk.data async for chunk in self._stub.GetArtifact(request)])
        except grpc.aio.AioRpcError as error:
            raise self._named(error) from None

    async def watch(self, run: str, after_seq: int = 0) -> AsyncIterator[LoggedEvent | DeviceProgress]:
        """Events of a run after `after_seq`, then live ones and progress, until the run ends."""
        call = self._stub.WatchRun(pb.WatchRunRequest(run=run, after_seq=after_seq))
        try:
            async for message in call:
                if message.WhichOneof("message") == "event":
                    yield _take(LoggedEvent, message.event)
                elif message.WhichOneof("message") == "progress":
                    yield _take(DeviceProgress, message.progress)
        except grpc.aio.AioRpcError as error:
            raise self._named(error) from None
        finally:
            call.cancel()


def _take(cls: type[T], message: Any) -> T:
    found = wire.from_proto(message)
    assert isinstance(found, cls)
    return found


def ask(address: str, question: Callable[[Operator], Awaitable[T]]) -> T:
    """Connects to `address`, asks one question and hangs up."""

    async def once() -> T:
        async with Operator(address) as operator:
            return await question(operator)

    return asyncio.run(once())
