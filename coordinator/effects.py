"""How each effect is carried out. Every function here may be repeated after a crash and gives the same.

What blocks or computes runs in threads, so that the event loop goes on; the policies, the ledgers and
the sessions are touched on the event loop only.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256 as sha256_of
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from coordinator.aggregate import Weighted, aggregate, prepare, shapes
from coordinator.decided import assignments_of, check, check_codec, sampled, seed_for
from coordinator.events import (
    BlobsDropped,
    DevicesAssigned,
    Event,
    ModelAggregated,
    ModelEvaluated,
    ModelInitialised,
    RoundOpened,
    from_json,
)
from coordinator.generation.due import PlaceRequests, PushBatch, PushKept, ReviewModels
from coordinator.generation.effects import GenerationEffects
from coordinator.ledger import RunLedger
from coordinator.loop import Loop
from coordinator.machine import Run
from coordinator.machine.calibration import is_known_as, is_pending
from coordinator.machine.todo import (
    Aggregate,
    AgreeKeys,
    ConfirmKeys,
    Drop,
    Effect,
    Evaluate,
    Initialise,
    Plan,
    Push,
    PushCalibration,
)
from coordinator.noise import Secret
from coordinator.private_rounds import Closing, PrivateRounds, check_masked
from coordinator.secure_aggregation import SecureAggregation
from coordinator.sessions import Sessions
from coordinator.shelves import Shelves
from coordinator.store import Store
from coordinator.widths import parts_by_width
from fleet.calibration import Calibrate, Calibration, CancelCalibration
from fleet.calibration_plans import options_json
from fleet.domain import Assignment, Cancel, Evaluation, NetworkSize, Phase, Task
from fleet.experiment import Experiment
from fleet.generation import ModelRef
from optimizer import recall
from optimizer.policy import Candidate, Policy, Told
from optimizer.policy import load as load_policy
from quantizer import decode, encode_to
from workloads import Workload
from workloads import load as load_workload
from workloads.narrow import parts_of
from workloads.protocol import Sized

T = TypeVar("T")

THREADS = "effect"
"""What the names of the threads that compute begin with."""

KEPT_RUNS = 8
"""Ended runs whose ledger stays in memory: their last measurements are still coming in."""


@dataclass
class Live:
    """What is kept of a run between effects, and made anew from the log after a restart."""

    ledger: RunLedger
    policy: Policy
    workload: Workload
    seq: int = 0
    told: set[tuple[int, str]] = field(default_factory=set)
    recalled: bool = False


class Effects:
    """Carries out what the machine says is due."""

    def __init__(
        self,
        store: Store,
        shelves: Shelves,
        sessions: Sessions,
        data: Path | None,
        secret: Secret | None = None,
    ) -> None:
        self._store = store
        self._shelves = shelves
        self._sessions = sessions
        self._data = data
        self._live: dict[str, Live] = {}
        self._threads = ThreadPoolExecutor(4, thread_name_prefix=THREADS)
        self.generation = GenerationEffects(lambda: self.loop, sessions, self._macs_of)
        self.secure = SecureAggregation(sessions, lambda: self.loop)
        self._private = PrivateRounds(self.secure, secret, shelves)
        self.loop: Loop

    async def execute(self, effect: Effect) -> Sequence[Event]:
        """The events that `effect` led to."""
        match effect:
            case Initialise():
                return await self._initialise(self.loop.state.run(effect.run))
            case Plan():
                return await self._plan(self.loop.state.run(effect.run), effect)
            case Aggregate():
                return await self._aggregate(self.loop.state.run(effect.run))
            case Evaluate():
                return await self._evaluate(self.loop.state.run(effect.run))
            case Push():
                await self._push(effect)
            case AgreeKeys():
                return await self.secure.agree(self.loop.state.run(effect.run))
            case ConfirmKeys():
                run = self.loop.state.run(effect.run)
                await self.secure.confirm(run, effect.device, effect.session)
            case PushCalibration():
                await self._push_calibration(effect)
            case Drop():
                async with self._shelves.hold.free():
                    for path in effect.blobs:
                        self._shelves.drop(effect.run, path)
                    if self.loop.state.run(effect.run).phase.ended:
                        self._shelves.tidy(effect.run)
                return (BlobsDropped(self.loop.now_s(), effect.run, effect.blobs),)
            case PlaceRequests() | PushBatch() | ReviewModels() | PushKept():
                return await self.generation.execute(effect)
        return ()

    def close(self) -> None:
        """Computes nothing more. What a thread is at goes on for nothing, until the process ends."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def ledger(self, name: str) -> RunLedger:
        """The ledger of a run up to now."""
        return self._read_on(self.loop.state.run(name)).ledger

    async def update_shapes(self, run: Run, assignment: Assignment) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors of the update that `assignment` asks for. Reads the model's header."""
        workload, models = self._read_on(run).workload, self._shelves.models(run.run)

        def work() -> dict[str, tuple[int, ...]]:
            whole, parts = shapes(models, run.model_sha256), parts_of(workload, assignment.width)
            return whole if parts is None else {name: parts[name].kept for name in whole}

        return await self._in_thread(work)

    def workload(self, experiment: Experiment) -> Workload:
        """The workload of an experiment; BadExperiment where its options are wrong."""
        return self.workload_named(experiment.workload.name, experiment.workload.options)

    def workload_named(self, name: str, options: Mapping[str, Any]) -> Workload:
        """The workload called `name`; BadExperiment where there is none, or its options are wrong."""
        return load_workload(name, options, self._data)

    def _macs_of(self, model: ModelRef) -> float | None:
        """Multiplications of a forward pass of one image; None where the workload cannot say."""
        workload = self.workload_named(model.workload, json.loads(model.options_json))
        return workload.network_size().macs if isinstance(workload, Sized) else None

    def _read_on(self, run: Run) -> Live:
        if run.run not in self._live:
            experiment = run.experiment
            policy = load_policy(experiment.policy.name, experiment.policy.options)
            self._live[run.run] = Live(RunLedger(), policy, self.workload(experiment))
            self._forget_the_oldest()
        live = self._live[run.run]
        for logged in self._store.read(run.run, live.seq):
            live.ledger.add(from_json(logged.kind, logged.json))
            live.seq = logged.seq
        return live

    def _forget_the_oldest(self) -> None:
        ended = [name for name in self._live if self.loop.state.run(name).phase.ended]
        for name in ended[:-KEPT_RUNS]:
            del self._live[name]

    async def _initialise(self, run: Run) -> Sequence[Event]:
        workload = self._read_on(run).workload
        models = self._shelves.models(run.run)

        def work() -> tuple[str, int, NetworkSize | None]:
            with models.create() as sink:
                params = workload.initial(run.experiment.seed)
                sink.digest = encode_to(sink, params, 32, seed=0, block_size=run.experiment.quantizer.block_size)
            network = workload.network_size() if isinstance(workload, Sized) else None
            return sink.digest, models.size(sink.digest), network

        return (ModelInitialised(self.loop.now_s(), run.run, *await self._in_thread(work)),)

    async def _plan(self, run: Run, plan: Plan) -> Sequence[Event]:
        live = self._read_on(run)
        if not live.recalled:
            for told in await self._in_thread(lambda: tuple(self._earlier(run))):
                live.policy.tell(told)
            live.recalled = True
        for told in _untold(live, run):
            live.policy.tell(told)
            live.told.add((told.assignment.round, told.assignment.device))
        private = run.experiment.differential is not None
        names = self._private.draw(run, plan.round, plan.devices) if private else sampled(run, plan)
        candidates = [self._candidate(run, name) for name in names]
        decisions = await self._in_thread(partial(live.policy.ask, plan.round, candidates)) if candidates else ()
        check(decisions, candidates)
        check_codec(decisions, run.experiment.quantizer)
        check_masked(run, decisions)
        parts = parts_by_width(live.workload, {d.width for d in decisions}, run.experiment)
        models = self._shelves.models(run.run)
        payloads: dict[tuple[int, float], tuple[str, int]] = {}
        for bits, width in sorted({(d.bits_down, d.width) for d in decisions}):
            seed, block_size = seed_for(run, plan.round, "down"), run.experiment.quantizer.block_size
            payload = partial(prepare, models, run.model_sha256, bits, seed, block_size, parts.get(width))
            payloads[bits, width] = await self._in_thread(payload)
        now_s = self.loop.now_s()
        deadline_at_s = now_s + run.experiment.round.deadline_s
        assignments = assignments_of(run, plan.round, decisions, payloads, deadline_at_s)
        if plan.opens:
            population = len(plan.devices) if private else 0
            return (RoundOpened(now_s, run.run, plan.round, assignments, deadline_at_s, population),)
        return (DevicesAssigned(now_s, run.run, plan.round, assignments),)

    def _earlier(self, run: Run) -> Iterator[Told]:
        """What earlier runs of the workload came to, as it was when this one began: the same after a restart."""
        began_seq = next(iter(self._store.read(run.run))).seq
        names = list(self.loop.state.runs)
        earlier = [(name, self.loop.state.runs[name].experiment) for name in names[: names.index(run.run)]]
        for name in recall.recalled(run.experiment, earlier):
            ledger = RunLedger()
            for logged in takewhile(lambda line: line.seq < began_seq, self._store.read(name)):
                ledger.add(from_json(logged.kind, logged.json))
            for round in sorted(ledger.pages)[-recall.ROUNDS :]:
                yield from ledger.told(round)

    def _candidate(self, run: Run, name: str) -> Candidate:
        """A device with its calibration for the workload of `run`, where there is one."""
        wanted = (run.experiment.workload.name, options_json(run.experiment.workload))
        found: Calibration | None = None
        for calibration in self.loop.state.calibrated.get(name, ()):
            if (calibration.plan.workload, calibration.plan.options_json) == wanted:
                found = calibration
        return Candidate(name, self.loop.state.devices[name].capabilities, found)

    async def _push_calibration(self, push: PushCalibration) -> None:
        """Has the calibration with the device until it is no longer due; one that failed here is withdrawn."""
        session = self._sessions.find(push.device, push.session)
        if session is None:
            return
        session.send(Calibrate(push.calibration, self.loop.state.calibrating[push.device].plan))
        try:
            await asyncio.Event().wait()
        finally:
            state = self.loop.state
            if not is_pending(state, push.device, push.calibration) and not is_known_as(
                state, push.device, push.calibration
            ):
                session.send(CancelCalibration(push.calibration, "it has been given up"))

    async def _push(self, push: Push) -> None:
        """Has the task with the device until it is no longer due, then withdraws what was not delivered."""
        session = self._sessions.find(push.device, push.session)
        if session is None:
            return
        run = self.loop.state.run(push.run)
        experiment = run.experiment
        assignment = run.outstanding[push.device].assignment
        clip_norm, masking = self._private.task(run, assignment.bits_up)
        session.send(
            Task(
                assignment=assignment,
                workload=experiment.workload.name,
                options_json=json.dumps(experiment.workload.options),
                shards=experiment.shards,
                block_size=experiment.quantizer.block_size,
                error_feedback=experiment.quantizer.error_feedback,
                codec=experiment.quantizer.codec,
                keep=experiment.quantizer.keep,
                entropy=experiment.quantizer.entropy,
                clip_norm=clip_norm,
                masking=masking,
            )
        )
        try:
            await asyncio.Event().wait()
        finally:
            run = self.loop.state.run(push.run)
            arrivals = (
                run.arrived.get(push.device),
                run.closing.get(push.device),
                run.counted.get(push.device),
            )
            if not any(a and a.round == push.round for a in arrivals):
                session.send(Cancel(push.run, push.round, f"round {run.round} of {run.run} is {run.phase}"))

    async def _aggregate(self, run: Run) -> Sequence[Event]:
        started_s = time.monotonic()
        pages = self._read_on(run).ledger.pages.values()
        closing = await self._private.closing(run, sum(p.round > 0 and p.model_sha256 is not None for p in pages))
        if not isinstance(closing, Closing):
            return (closing,)
        updates = [
            Weighted(
                device,
                self._shelves.updates(run.run, device),
                arrival.digest,
                arrival.samples / math.sqrt(1 + run.round - arrival.round) if closing.weighed else 1.0,
                arrival.width,
            )
            for device, arrival in run.closing.items()
        ]
        models, workload = self._shelves.models(run.run), self._read_on(run).workload
        widths = parts_by_width(workload, {u.width for u in updates}, run.experiment)
        last = run.round == run.experiment.rounds
        made = await self._in_thread(
            lambda: aggregate(
                models,
                run.model_sha256,
                updates,
                run.experiment.server,
                run.optimizer_state,
                closing.rules,
                closing.instead,
                closing.noise,
                widths=widths,
                last=last,
            )
        )
        return (
            ModelAggregated(
                at_s=self.loop.now_s(),
                run=run.run,
                round=run.round,
                sha256=made.model_sha256,
                size_bytes=made.model_bytes,
                optimizer_state=made.optimizer_state,
                seconds=time.monotonic() - started_s,
                metrics=closing.spent,
            ),
        )

    async def _evaluate(self, run: Run) -> Sequence[Event]:
        started_s = time.monotonic()
        workload = self._read_on(run).workload
        models = self._shelves.models(run.run)
        artifacts = self._shelves.artifacts(run.run)

        def work() -> tuple[Evaluation, str | None]:
            with models.mapped(run.model_sha256) as payload:
                params = decode(payload, verify=False)
            evaluation = workload.evaluate(params, run.experiment.seed)
            if evaluation.grid_png is None:
                return evaluation, None
            with artifacts.create() as sink:
                sink.write(evaluation.grid_png)
                sink.digest = sha256_of(evaluation.grid_png).hexdigest()
            return evaluation, sink.digest

        evaluation, grid_sha256 = await self._in_thread(work)
        seconds = time.monotonic() - started_s
        return (ModelEvaluated(self.loop.now_s(), run.run, run.round, evaluation.metrics, grid_sha256, seconds),)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)


def _untold(live: Live, run: Run) -> Iterator[Told]:
    """Assignments that are over and that the policy was not told of. The last round's wait for their upload."""
    for round in sorted(live.ledger.pages):
        for told in live.ledger.told(round):
            key = (round, told.assignment.device)
            whole = any(p.phase == Phase.UPLOAD for p in told.phases)
            if key not in live.told and (whole or round < run.round):
                yield told
