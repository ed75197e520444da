"""What the coordinator orders of a device, and carrying it out: one thing at a time."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.calibrate import Calibrator
from edge_agent.carrier import Carrier
from edge_agent.generation import Generator
from fleet import logs
from fleet.calibration import Calibrate, CalibrationGivenUp
from fleet.domain import AgentMessage, GenerationEnded, GenerationTask, KeepModels, Task, TaskFailed
from fleet.errors import LateUpdate, ProtocolMismatch, StrangerUpdate, UnknownRun, WattbedError

log = logging.getLogger(__name__)

REFUSED = (LateUpdate, StrangerUpdate, UnknownRun)
"""The coordinator knows that this update does not count; there is nothing to tell it."""

Key = tuple[str, int]
CALIBRATION, GENERATION, FETCHING = -1, -2, -3
"""Stand for the round in the key of a calibration, of a batch of images, and of fetching models to keep."""

Order = Task | Calibrate | GenerationTask | KeepModels


@dataclass
class _Job:
    what: Order
    carrying: asyncio.Task[None]


class Orders:
    """Those that wait and the one that is carried out. `device` gives the name to go by, which may change."""

    def __init__(
        self,
        carrier: Carrier,
        calibrator: Calibrator,
        generator: Generator,
        report: Callable[[AgentMessage], None],
        device: Callable[[], str],
    ) -> None:
        self._carrier = carrier
        self._calibrator = calibrator
        self._generator = generator
        self._report = report
        self._device = device
        self._waiting: dict[Key, Order] = {}
        self._job: _Job | None = None
        self._news = asyncio.Event()

    def take(self, what: Order) -> None:
        """What is pushed again goes on as it is; a later round of its run takes the place of earlier ones."""
        key = _key(what)
        known = set(self._waiting)
        if self._job is not None and not self._job.carrying.cancelling():
            known.add(_key(self._job.what))
        if key in known:
            return
        for run, round in known:
            if run == key[0] and round < key[1]:
                self.drop((run, round), f"round {key[1]} has begun")
        self._waiting[key] = what
        self._news.set()

    def drop(self, key: Key, reason: str) -> None:
        """What is no longer wanted is not begun, or cancelled."""
        self._waiting.pop(key, None)
        if self._job is not None and _key(self._job.what) == key:
            log.info("%s is cancelled: %s", _named(key), reason)
            self._job.carrying.cancel()

    async def work(self) -> None:
        """One order after the other, until cancelled."""
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            what = self._waiting.pop(next(iter(self._waiting)))
            carrying = asyncio.create_task(self._do(what))
            self._job = _Job(what, carrying)
            try:
                await carrying
            except asyncio.CancelledError:
                me = asyncio.current_task()
                if me is not None and me.cancelling():
                    raise
            finally:
                self._job = None

    async def _do(self, what: Order) -> None:
        match what:
            case Task():
                await self._carry_out(what)
            case Calibrate():
                await self._calibrate(what)
            case GenerationTask():
                await self._generate(what)
            case KeepModels():
                await self._fetch_kept()

    async def _generate(self, task: GenerationTask) -> None:
        batch = task.batch.batch
        try:
            await self._generator.carry_out(task)
        except ProtocolMismatch:
            raise
        except Exception as error:  # a workload may raise anything; the coordinator should hear of it
            log.warning("batch %s failed", batch, exc_info=not isinstance(error, WattbedError))
            reason = str(error) if isinstance(error, WattbedError) else f"{type(error).__name__}: {error}"
            self._report(GenerationEnded(batch, reason))

    async def _fetch_kept(self) -> None:
        try:
            await self._generator.fetch_kept()
        except WattbedError as error:
            log.warning("a model to be kept could not be fetched: %s", error)

    async def _carry_out(self, task: Task) -> None:
        run, round = _key(task)
        try:
            with logs.fields(run=run, round=round, device=self._device()):
                await self._carrier.carry_out(task)
        except ProtocolMismatch:
            raise
        except REFUSED as error:
            log.warning("%s round %d: update refused: %s", run, round, error)
        except WattbedError as error:
            log.warning("%s round %d failed: %s", run, round, error)
            self._report(TaskFailed(run, round, str(error)))
        except Exception as error:  # a workload may raise anything; the coordinator should hear of it
            log.exception("%s round %d failed", run, round)
            self._report(TaskFailed(run, round, f"{type(error).__name__}: {error}"))

    async def _calibrate(self, order: Calibrate) -> None:
        log.info("%s begins", _named(_key(order)))
        try:
            self._report(await self._calibrator.carry_out(order))
        except Exception as error:  # a workload may raise anything; the coordinator should hear of it
            log.warning("%s failed", _named(_key(order)), exc_info=not isinstance(error, WattbedError))
            reason = str(error) if isinstance(error, WattbedError) else f"{type(error).__name__}: {error}"
            self._report(CalibrationGivenUp(order.calibration, reason))


def _key(what: Order) -> Key:
    match what:
        case Calibrate():
            return what.calibration, CALIBRATION
        case GenerationTask():
            return what.batch.batch, GENERATION
        case KeepModels():
            return "models to keep", FETCHING
    return what.assignment.run, what.assignment.round


def _named(key: Key) -> str:
    kinds = {CALIBRATION: f"calibration {key[0]}", GENERATION: f"batch {key[0]}", FETCHING: key[0]}
    return kinds.get(key[1], f"{key[0]} round {key[1]}")
