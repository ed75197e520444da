"""The service that the `wattbed` command calls. It translates; it decides nothing and catches nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

import grpc
from pydantic_core import to_jsonable_python

from coordinator.effects import Effects
from coordinator.events import CalibrationFailed, CalibrationRequested, RunEnded, RunStarted, from_json
from coordinator.generation.intake import Intake
from coordinator.generation.service import GenerationService
from coordinator.ledger import summary
from coordinator.loop import Loop
from coordinator.machine import Run, State, fold
from coordinator.machine.calibration import is_known_as, is_pending
from coordinator.sessions import Sessions
from coordinator.shelves import Shelves
from coordinator.store import Store
from coordinator.widths import check_widths
from fleet import wire
from fleet.calibration import CalibrationPlan, CalibrationProgress
from fleet.calibration_plans import check as check_plan
from fleet.domain import DeviceProgress, DeviceSummary, Enrolled, LoggedEvent, Progress
from fleet.errors import BadExperiment, BadRequest, IllegalMove, UnknownBlob, Unreachable, WattbedError
from fleet.experiment import Experiment, parse
from fleet.rpc import CHUNK_BYTES
from fleet.v1 import fleet_pb2, operator_pb2, operator_pb2_grpc
from optimizer.policy import load as load_policy

Context = grpc.aio.ServicerContext[Any, Any]


class Followers:
    """Who wants to see progress: called with each device's, whatever its run."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[LoggedEvent | DeviceProgress | None]] = set()

    def progressed(self, device: str, progress: Progress) -> None:
        """Passes one device's progress on."""
        for queue in self._queues:
            queue.put_nowait(DeviceProgress(device, progress))

    def join(self) -> asyncio.Queue[LoggedEvent | DeviceProgress | None]:
        """A queue that gets all progress from now on, and None at the end of it."""
        queue: asyncio.Queue[LoggedEvent | DeviceProgress | None] = asyncio.Queue()
        self._queues.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[LoggedEvent | DeviceProgress | None]) -> None:
        """Ends it."""
        self._queues.discard(queue)

    def end_all(self) -> None:
        """Tells everybody that nothing more is coming."""
        for queue in self._queues:
            queue.put_nowait(None)


class OperatorService(operator_pb2_grpc.OperatorServicer):
    """Runs, devices, reports."""

    def __init__(
        self,
        loop: Loop,
        effects: Effects,
        store: Store,
        sessions: Sessions,
        shelves: Shelves,
        followers: Followers,
        generation: GenerationService | None = None,
    ) -> None:
        self._loop = loop
        self._effects = effects
        self._store = store
        self._sessions = sessions
        self._shelves = shelves
        self._followers = followers
        self.generation = generation or GenerationService(loop, shelves, Intake(loop, shelves))

    async def StartRun(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Starts an experiment, once it is sure that it can be read and that its data are here."""
        for run in self._loop.state.runs.values():
            if request.idempotency_key and run.key == request.idempotency_key:
                return operator_pb2.StartRunResponse(run=run.run)
        try:
            values = json.loads(request.experiment_json)
        except json.JSONDecodeError as error:
            raise BadExperiment(f"the experiment is not JSON: {error}") from error
        experiment = parse(Experiment, values, where="experiment")
        policy = load_policy(experiment.policy.name, experiment.policy.options)
        workload = self._effects.workload(experiment)
        await asyncio.to_thread(check_widths, workload, policy, experiment)
        await asyncio.to_thread(workload.check)
        name = f"{experiment.name}-{len(self._loop.state.runs) + 1}"
        await self._loop.submit(RunStarted(self._loop.now_s(), name, request.idempotency_key, experiment))
        return operator_pb2.StartRunResponse(run=name)

    async def StopRun(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Stops a run; IllegalMove if it is over."""
        run = self._loop.state.run(request.run)
        if run.phase.ended:
            raise IllegalMove(f"run {run.run} is over: {run.phase}")
        await self._loop.submit(RunEnded(self._loop.now_s(), run.run, "stopped", request.reason or None))
        return operator_pb2.StopRunResponse(run=wire.to_proto(summary(self._loop.state.run(request.run))))

    async def ListRuns(self, request: Any, context: Context) -> Any:  # noqa: N802
        """All runs, the oldest first."""
        runs = [wire.to_proto(summary(run)) for run in self._loop.state.runs.values()]
        return operator_pb2.ListRunsResponse(runs=runs)

    async def WatchRun(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """The run's story from `after_seq` on, until it ends."""
        self._loop.state.run(request.run)
        queue = self._followers.join()
        unwatch = self._loop.watch(request.run, queue.put_nowait)
        try:
            last = request.after_seq
            for event in list(self._store.read(request.run, request.after_seq)):
                yield operator_pb2.WatchRunResponse(event=wire.to_proto(event))
                last = event.seq
            while not (self._loop.state.run(request.run).phase.ended and queue.empty()):
                message = await queue.get()
                if message is None:
                    raise Unreachable("the coordinator is stopping")
                if isinstance(message, LoggedEvent):
                    if message.seq > last:
                        yield operator_pb2.WatchRunResponse(event=wire.to_proto(message))
                elif message.progress.run == request.run:
                    yield operator_pb2.WatchRunResponse(progress=wire.to_proto(message))
        finally:
            unwatch()
            self._followers.leave(queue)

    async def ListDevices(self, request: Any, context: Context) -> Any:  # noqa: N802
        """All devices that were ever here, and those that joined and were not."""
        devices = [wire.to_proto(d) for d in summaries(self._loop.state, self._sessions)]
        return operator_pb2.ListDevicesResponse(devices=devices)

    async def Calibrate(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """Asks for a calibration, or joins it; its progress until it is over, and then what it found."""
        device, name = request.device, request.calibration
        plan: CalibrationPlan = wire.from_proto(request.plan)
        if not name:
            raise BadRequest(f"the calibration of {device!r} has no id")
        check_plan(plan)
        self._effects.workload_named(plan.workload, _options(plan.options_json))
        news: asyncio.Queue[LoggedEvent | CalibrationProgress] = asyncio.Queue()
        endings = (
            self._loop.watch("", news.put_nowait),
            self._sessions.watch_calibration(name, news.put_nowait),
        )
        try:
            state = self._loop.state
            if not is_pending(state, device, name) and not is_known_as(state, device, name):
                await self._loop.submit(CalibrationRequested(self._loop.now_s(), device, name, plan))
            while not is_known_as(self._loop.state, device, name):
                message = await news.get()
                if isinstance(message, CalibrationProgress):
                    yield operator_pb2.CalibrateResponse(progress=wire.to_proto(message))
                elif message.kind == CalibrationFailed.__name__:
                    failed = from_json(message.kind, message.json)
                    if isinstance(failed, CalibrationFailed) and failed.calibration == name:
                        raise WattbedError(f"device {device} could not be calibrated: {failed.reason}")
            found = next(c for c in self._loop.state.calibrated[device] if c.calibration == name)
            yield operator_pb2.CalibrateResponse(calibration=wire.to_proto(found))
        finally:
            for end in endings:
                end()

    async def GetCalibrations(self, request: Any, context: Context) -> Any:  # noqa: N802
        """What was found out about a device, the oldest first."""
        self._loop.state.device(request.device)
        found = self._loop.state.calibrated.get(request.device, ())
        return operator_pb2.GetCalibrationsResponse(calibrations=[wire.to_proto(c) for c in found])

    async def GetReport(self, request: Any, context: Context) -> Any:  # noqa: N802
        """The ledger of a run."""
        run = self._loop.state.run(request.run)
        report = self._effects.ledger(request.run).report(run, self._loop.state.devices)
        return wire.to_proto(report)

    async def ReplayRun(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Folds the run's log anew."""
        live = self._loop.state.run(request.run)
        events = list(self._store.events(request.run))
        anew = fold(events).run(request.run)
        return operator_pb2.ReplayRunResponse(
            events=len(events),
            same_state=digest(anew) == digest(live),
            state_sha256=digest(anew),
            run=wire.to_proto(summary(anew)),
        )

    async def GetArtifact(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """A blob that the run's report names: a grid or a model."""
        self._loop.state.run(request.run)
        shelves = (self._shelves.artifacts, self._shelves.models, self._shelves.images)
        store = next((s for shelf in shelves if (s := shelf(request.run)).has(request.sha256)), None)
        if store is None:
            raise UnknownBlob(f"run {request.run} keeps no blob {request.sha256}; only its last model is kept")
        for chunk in store.read(request.sha256, 0, CHUNK_BYTES):
            yield fleet_pb2.BlobChunk(data=chunk)

    async def Generate(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """Images of a run's last model, from where they are made to what they took."""
        async for answer in self.generation.generate(request):
            yield answer

    async def CancelRequest(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Ends a request that nobody wants any more."""
        return await self.generation.cancel(request)

    async def ListRequests(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """The requests of one run, the oldest first."""
        for report in self.generation.reports(request):
            yield wire.to_proto(report)

    async def KeepQuality(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Enters what a model is worth."""
        return await self.generation.keep_quality(request)

    async def GetQuality(self, request: Any, context: Context) -> Any:  # noqa: N802
        """What a model is known to be worth."""
        return self.generation.quality(request)


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadExperiment(f"the options of the workload are not JSON: {error}") from error
    if not isinstance(options, dict):
        raise BadExperiment(f"the options of the workload are a {type(options).__name__}, not a table")
    return options


def digest(run: Run) -> str:
    """sha256 of a run's state, the same for the same state."""
    values = to_jsonable_python(asdict(replace(run, experiment=run.experiment.model_dump(mode="json"))))  # type: ignore[arg-type]
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def summaries(state: State, sessions: Sessions) -> list[DeviceSummary]:
    """One line about each device, with its latest power and what it works on; last those that never attached."""
    lines = []
    for device in state.devices.values():
        session = sessions.find(device.name, device.session) if device.session else None
        working = _working_on(state, device.name) if session else None
        lines.append(
            DeviceSummary(
                device=device.name,
                capabilities=device.capabilities,
                attached=session is not None,
                changed_at_s=device.changed_at_s,
                metrics_address=device.metrics_address,
                power=session.heartbeat.power if session and session.heartbeat else (),
                run=working[0] if working else None,
                round=working[1] if working else None,
                calibrating=device.name in state.calibrating,
                enrolled=_enrolled(state, device.name),
                clock_skew_s=session.clock_skew_s if session else None,
                drained=device.name in state.register.drained,
            )
        )
    for name, enrolment in state.register.devices.items():
        if name not in state.devices:
            lines.append(DeviceSummary(name, None, False, enrolment.at_s, enrolled=_enrolled(state, name)))
    return lines


def _enrolled(state: State, device: str) -> Enrolled | None:
    found = state.register.devices.get(device)
    if found is None:
        return None
    return Enrolled(
        found.at_s,
        found.token,
        found.key_sha256,
        found.expires_at_s,
        found.revoked_at_s,
        found.reason,
        found.formerly,
        found.kind,
    )


def _working_on(state: State, device: str) -> tuple[str, int] | None:
    waiting = [
        (run.outstanding[device].at_s, run.run, run.outstanding[device].assignment.round)
        for run in state.runs.values()
        if device in run.outstanding
    ]
    return min(waiting)[1:] if waiting else None
