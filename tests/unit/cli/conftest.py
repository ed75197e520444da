"""An Operator service over real gRPC on loopback, that answers from what a test puts into it."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cli.app import main
from cli.local import claim
from fleet import rpc, wire
from fleet.calibration import Calibration, CalibrationProgress, CalibrationRow, UnitJoules, Work
from fleet.domain import (
    Capabilities,
    DeviceProgress,
    DeviceReport,
    DeviceSummary,
    EnergyReading,
    LoggedEvent,
    MeterInfo,
    Metric,
    Origin,
    Phase,
    PhaseReport,
    Power,
    Prediction,
    Progress,
    Quality,
    RoundReport,
    RunReport,
    RunSummary,
)
from fleet.errors import UnknownBlob, UnknownRun, WattbedError
from fleet.generation import GenerationRequest, RequestReport
from fleet.v1 import fleet_pb2, operator_pb2, operator_pb2_grpc

PNG = b"\x89PNG\r\n\x1a\n a grid of samples"
GRID = "ab" * 32
EXPERIMENT = {
    "name": "demo",
    "seed": 1,
    "rounds": 2,
    "shards": 2,
    "workload": {"name": "noop", "options": {}},
    "policy": {"name": "fixed", "options": {"note": "<b>&"}},
    "round": {"mode": "sync", "min_devices": 2, "devices": 2, "quorum": 2, "deadline_s": 60.0},
    "server": {"optimizer": "fedavg", "lr": 1.0},
    "quantizer": {"block_size": 64, "error_feedback": True},
    "evaluate": {"every": 2},
}
RUN = RunSummary("demo-1", "demo", "completed", 2, 2, 1000.0, 2, ended_at_s=1090.0)


def reading(joules: float | None, quality: Quality = Quality.ESTIMATED, source: str = "model") -> EnergyReading:
    bounds = (None, None) if joules is None else (0.5 * joules, 1.5 * joules)
    return EnergyReading(source, "cpu", "board", quality, joules, *bounds)


def device(name: str, bits: int, *joules: float | None) -> DeviceReport:
    """An assignment that arrived; `joules` are those of train, quantize and upload."""
    phases = [Phase.TRAIN, Phase.QUANTIZE, Phase.UPLOAD]
    return DeviceReport(
        *(name, "raspberry-pi-5", "arrived", bits, 32, "fp32", 1.0, 60, 300),
        update_bytes=1000 * bits,
        wire_up_bytes=1100 * bits,
        wire_down_bytes=40_000,
        predicted=Prediction(8.0, 4.0, Origin.FITTED, 3),
        loss=0.25,
        phases=tuple(PhaseReport(p, 1.5, 1, (reading(j),)) for p, j in zip(phases, joules, strict=False)),
    )


def ledger() -> RunReport:
    """Two rounds of two devices; in the second, one upload was not measured."""
    first = (device("agent-1", 4, 6.0, 1.0, 1.0), device("agent-2", 16, 12.0, 2.0, 2.0))
    second = (device("agent-1", 4, 6.0, 1.0, 1.0), device("agent-2", 16, 12.0, 2.0, None))
    rounds = (
        RoundReport(
            *(0, "initial", 1000.0),
            model_sha256="aa" * 32,
            grid_sha256=GRID,
            metrics=(Metric("fid", 90.0, "cnn"),),
        ),
        RoundReport(*(1, "closed", 1001.0, 1040.0, 39.0), model_sha256="bb" * 32, devices=first),
        RoundReport(
            *(2, "closed", 1041.0, 1090.0, 49.0),
            model_sha256="cc" * 32,
            grid_sha256=GRID,
            metrics=(Metric("fid", 30.0, "cnn"),),
            devices=second,
        ),
    )
    return RunReport(RUN, json.dumps(EXPERIMENT), rounds)


class FakeOperator(operator_pb2_grpc.OperatorServicer):
    """Answers from its fields. Setting `error` makes every call fail with it."""

    def __init__(self) -> None:
        self.report = ledger()
        self.error: WattbedError | None = None
        self.started: list[Any] = []
        self.stopped: list[Any] = []
        self.watched_after: list[int] = []
        self.cut_after: int | None = None
        self.calibrated: list[Any] = []
        self.cut_calibration = False
        self.refused: dict[str, WattbedError] = {}
        joules = UnitJoules("rapl:package-0", "cpu", "package", Quality.MEASURED, 2.5, 0.1, 1.5, 0.01, ("gap",))
        train = CalibrationRow(Work.TRAIN, 2, 40.0, 0.125, 0.002, -0.03, 1.0, "fp32", joules=(joules,))
        refused = CalibrationRow(Work.TRAIN, 0, width=1.0, precision="bf16", reason="no bf16 here")
        self.rows: tuple[CalibrationRow, ...] = (train, refused)
        self.requests: list[RequestReport] = []
        self.asked: list[GenerationRequest] = []
        self.cut_generation = False
        self.generation: Callable[[GenerationRequest], Iterator[Any]] = lambda asked: iter(())
        self.same_state = True
        self.blobs = {GRID: PNG}
        kinds = ("RunStarted", "RoundOpened", "ModelEvaluated", "RunEnded")
        self.events = [
            LoggedEvent(3 * i, 1000.0 + i, kind, json.dumps({"run": "demo-1", "n": i}))
            for i, kind in enumerate(kinds, start=1)
        ]
        meter = MeterInfo("model", "cpu", "board", Quality.ESTIMATED, "3.3 W idle")
        able = Capabilities("raspberry-pi-5", "Cortex-A76", 4, 8 << 30, "aarch64", "0.1.0", meters=(meter,))
        power = (Power(3.3, "model", "cpu", Quality.ESTIMATED),)
        self.devices = [
            DeviceSummary("agent-1", able, True, 1000.0, power=power, run="demo-1", round=2),
            DeviceSummary("agent-2", able, False, 1000.0),
        ]

    def _known(self, run: str, context: grpc.ServicerContext) -> None:
        if run != self.report.run.run:
            self._fail(UnknownRun(f"no run {run}"), context)
        if self.error is not None:
            self._fail(self.error, context)

    def _fail(self, error: WattbedError, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(((rpc.ERROR_KEY, type(error).__name__),))
        context.abort(error.status, str(error))

    def StartRun(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._known("demo-1", context)
        self.started.append(request)
        return operator_pb2.StartRunResponse(run="demo-1")

    def StopRun(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._known(request.run, context)
        self.stopped.append(request)
        return operator_pb2.StopRunResponse(run=wire.to_proto(replace(self.report.run, phase="stopped")))

    def ListRuns(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._known("demo-1", context)
        older = replace(self.report.run, run="older-1", started_at_s=10.0)
        return operator_pb2.ListRunsResponse(runs=[wire.to_proto(r) for r in (self.report.run, older)])

    def GetCalibrations(self, request: Any, context: Any) -> Any:
        return operator_pb2.GetCalibrationsResponse()

    def ListDevices(self, request: Any, context: grpc.ServicerContext) -> Any:
        return operator_pb2.ListDevicesResponse(devices=[wire.to_proto(d) for d in self.devices])

    def GetReport(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._known(request.run, context)
        return wire.to_proto(self.report)

    def WatchRun(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._known(request.run, context)
        self.watched_after.append(request.after_seq)
        yield operator_pb2.WatchRunResponse(
            progress=wire.to_proto(DeviceProgress("agent-1", Progress("demo-1", 2, Phase.TRAIN, 3, 60, 0.5)))
        )
        for event in [e for e in self.events if e.seq > request.after_seq]:
            yield operator_pb2.WatchRunResponse(event=wire.to_proto(event))
            if event.seq == self.cut_after:
                self.cut_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "the coordinator was killed")

    def Calibrate(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if error := self.refused.get(request.device, self.error):
            self._fail(error, context)
        self.calibrated.append(request)
        progress = CalibrationProgress(request.calibration, 1, 3, "train width 1 fp32")
        yield operator_pb2.CalibrateResponse(progress=wire.to_proto(progress))
        if self.cut_calibration:
            self.cut_calibration = False
            context.abort(grpc.StatusCode.UNAVAILABLE, "the coordinator was killed")
        plan = wire.from_proto(request.plan)
        found = Calibration(request.calibration, request.device, plan, 1.0, 2.0, 4000, self.rows)
        yield operator_pb2.CalibrateResponse(calibration=wire.to_proto(found))

    def ReplayRun(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._known(request.run, context)
        return operator_pb2.ReplayRunResponse(
            events=4, same_state=self.same_state, state_sha256="ee" * 32, run=wire.to_proto(self.report.run)
        )

    def ListRequests(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._known(request.run, context)
        yield from (wire.to_proto(r) for r in self.requests)

    def Generate(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._known(request.request.run, context)
        self.asked.append(wire.from_proto(request.request))
        if self.cut_generation:
            self.cut_generation = False
            context.abort(grpc.StatusCode.UNAVAILABLE, "the coordinator was killed")
        yield from self.generation(self.asked[-1])

    def GetArtifact(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if request.sha256 not in self.blobs:
            self._fail(UnknownBlob(f"no blob {request.sha256}"), context)
        content = self.blobs[request.sha256]
        yield fleet_pb2.BlobChunk(data=content[:10])
        yield fleet_pb2.BlobChunk(data=content[10:])


@pytest.fixture
def operator() -> FakeOperator:
    return FakeOperator()


@pytest.fixture
def address(operator: FakeOperator) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    operator_pb2_grpc.add_OperatorServicer_to_server(operator, server)
    alive = health.HealthServicer()
    alive.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(alive, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def wattbed(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Runs a command as the shell would, in an empty folder; the coordinator is the fake one, and Docker is off."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    monkeypatch.setenv("WATTBED_COORDINATOR", address)
    monkeypatch.delenv("WATTBED_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Said:
        monkeypatch.setattr("sys.argv", ["wattbed", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def report(operator: FakeOperator) -> RunReport:
    return operator.report


@pytest.fixture
def make_device() -> Callable[..., DeviceReport]:
    return device


@pytest.fixture
def make_reading() -> Callable[..., EnergyReading]:
    return reading


@pytest.fixture
def free_address() -> str:
    return f"127.0.0.1:{claim('127.0.0.1', 0)}"
