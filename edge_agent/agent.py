"""The agent: one stream to the coordinator that is always made again, and one task at a time.

Nothing here has to survive a crash. What the coordinator wants it says again when the agent is back; what it
has not acknowledged the agent says again when the coordinator is back.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from edge_agent.cache import ModelCache
from edge_agent.calibrate import Calibrator
from edge_agent.carrier import Carrier
from edge_agent.client import FleetClient, Stream, delays
from edge_agent.energy.cpu_time import cpu_seconds
from edge_agent.energy.meter import DeviceMeter
from edge_agent.generation import Generator
from edge_agent.levers.request import DeviceLevers
from edge_agent.link.route import Way
from edge_agent.model_shelf import ModelShelf
from edge_agent.orders import CALIBRATION, GENERATION, Orders
from edge_agent.renew import Keeper
from edge_agent.secrecy import Secrecy
from edge_agent.worker import Worker
from fleet.calibration import Calibrate, Calibration, CalibrationAck, CalibrationGivenUp, CancelCalibration
from fleet.domain import (
    AgentMessage,
    Cancel,
    CancelGeneration,
    CoordinatorMessage,
    GenerationMeasured,
    GenerationTask,
    Heartbeat,
    HeartbeatAck,
    Hello,
    KeepModels,
    KeysWanted,
    MeasurementAck,
    PhaseMeasured,
    RevealWanted,
    SharesDelivered,
    SharesWanted,
    Task,
    Welcome,
)
from fleet.errors import (
    BadRequest,
    NotAllowed,
    ProtocolMismatch,
    Unreachable,
    WattbedError,
)
from fleet.rpc import PROTOCOL_VERSION
from fleet.tls import Credentials

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S = 2.0
"""Until the coordinator says otherwise."""

SILENCE_S = 6.0
"""Without any word from the coordinator for this long, or for three heartbeats, its stream is given up."""

LASTING_S = 10.0
"""A stream that lasted this long was a good one: the next attempts start with a short delay again."""

WAY_CHECK_S = 2.0
"""How often an attached agent looks whether its link is still emulated as it was."""

FAREWELL_S = 2.0
MODELS_KEPT = 2

FATAL = (ProtocolMismatch, BadRequest, NotAllowed)
"""What the coordinator answers to a hello that no repetition makes better."""


@dataclass(frozen=True)
class Settings:
    """Where the coordinator is (host:port), and where this agent keeps its state and finds its data.

    `route` is asked which way to go there; None: straight. `keeper` has the certificate; None: plain text.
    """

    coordinator: str
    state: Path
    data: Path | None = None
    route: Callable[[], Way] | None = None
    keeper: Keeper | None = None


class Agent:
    """One device. `hello` is said at the beginning of every stream."""

    def __init__(
        self, settings: Settings, hello: Hello, meter: DeviceMeter, levers: DeviceLevers | None = None
    ) -> None:
        self._hello = hello
        self._meter = meter
        self._route = settings.route or partial(Way, settings.coordinator)
        self._keeper = settings.keeper
        self._client = FleetClient(settings.coordinator, self._credentials())
        self._carrier = Carrier(
            self._client,
            ModelCache(settings.state / "models", MODELS_KEPT),
            Worker(settings.state, settings.data),
            meter,
            self._report,
            levers,
            Secrecy(hello.device, self._report),
        )
        self._calibrator = Calibrator(
            self._client,
            hello.device,
            settings.state,
            settings.data,
            meter,
            self._carrier.thread,
            self._report,
        )
        self._generator = Generator(
            self._client,
            hello.device,
            ModelShelf(settings.state / "generation", hello.capabilities.model_storage_bytes or 0),
            settings.data,
            meter,
            self._carrier.thread,
            self._report,
        )
        self._interval_s = HEARTBEAT_INTERVAL_S
        self._outbox: asyncio.Queue[AgentMessage | None] | None = None
        self._unacked: dict[str, PhaseMeasured | GenerationMeasured | Calibration | CalibrationGivenUp] = {}
        self._orders = Orders(
            self._carrier, self._calibrator, self._generator, self._report, lambda: self._hello.device
        )
        self._stopping = asyncio.Event()

    @property
    def attached(self) -> bool:
        """Whether the coordinator has this agent now."""
        return self._outbox is not None

    async def run(self, stop: asyncio.Event) -> None:
        """Returns after `stop` is set and the coordinator has been told. Raises FATAL errors."""
        attached = asyncio.create_task(self._stay_attached())
        beating = asyncio.create_task(self._beat())
        working = asyncio.create_task(self._orders.work())
        stopped = asyncio.create_task(stop.wait())
        keeping = asyncio.create_task(self._keep_certificate())
        tasks = (attached, beating, working, stopped, keeping)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            await _cancelled(working)
            if self._outbox is not None:
                self._outbox.put_nowait(None)
                await asyncio.wait({attached}, timeout=FAREWELL_S)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                await _cancelled(task)
            self._carrier.close()
            await self._client.close()

    # The stream

    async def _stay_attached(self) -> None:
        waits = delays()
        said = ""
        while not self._stopping.is_set():
            began_s = time.monotonic()
            way = self._route()
            await self._client.go_by(way.address, self._credentials())
            stream = self._client.attach()
            try:
                await self._session(stream, way)
            except FATAL:
                raise
            except WattbedError as error:
                if self._stopping.is_set():
                    return
                if str(error) != said:
                    log.warning("not attached, trying on: %s%s", error, self._age())
                said = str(error)
            finally:
                stream.close()
                self._outbox = None
            if time.monotonic() - began_s > LASTING_S:
                waits = delays()
            await asyncio.sleep(next(waits))

    async def _session(self, stream: Stream, way: Way) -> None:
        await stream.send(replace(self._hello, capabilities=replace(self._hello.capabilities, link=way.link)))
        welcome = await self._receive(stream)
        if not isinstance(welcome, Welcome):
            raise Unreachable(f"the coordinator answered hello with {type(welcome).__name__}")
        if welcome.protocol_version != PROTOCOL_VERSION:
            raise ProtocolMismatch(
                f"the coordinator speaks protocol {welcome.protocol_version}, this agent {PROTOCOL_VERSION}"
            )
        self._interval_s = welcome.heartbeat_interval_s
        self._note(welcome)
        outbox: asyncio.Queue[AgentMessage | None] = asyncio.Queue()
        for unacked in self._unacked.values():
            outbox.put_nowait(unacked)
        if self._hello.capabilities.model_storage_bytes:
            outbox.put_nowait(self._generator.held())
        self._outbox = outbox
        log.info("attached as %s", self._hello.device)
        await _until_first(self._send_all(stream, outbox), self._receive_all(stream), self._keep_to(way))

    async def _keep_to(self, way: Way) -> None:
        shown = self._credentials()
        while True:
            await asyncio.sleep(WAY_CHECK_S)
            if self._route() != way:
                raise Unreachable("the link is emulated in another way now")
            if self._credentials() != shown:
                raise Unreachable("there is a new certificate")

    async def _send_all(self, stream: Stream, outbox: "asyncio.Queue[AgentMessage | None]") -> None:
        while (message := await outbox.get()) is not None:
            await stream.send(message)
        await stream.end()
        await asyncio.Event().wait()  # the coordinator ends the stream now

    async def _receive_all(self, stream: Stream) -> None:
        while True:
            self._take(await self._receive(stream))

    async def _receive(self, stream: Stream) -> CoordinatorMessage:
        silence_s = max(SILENCE_S, 3 * self._interval_s)
        try:
            async with asyncio.timeout(silence_s):
                return await stream.receive()
        except TimeoutError:
            raise Unreachable(f"the coordinator said nothing for {silence_s:g} s") from None

    def _report(self, message: AgentMessage) -> None:
        match message:
            case PhaseMeasured(window=name) | GenerationMeasured(window=name):
                self._unacked[name] = message
            case Calibration(calibration=name) | CalibrationGivenUp(calibration=name):
                self._unacked[name] = message
        if self._outbox is not None:
            self._outbox.put_nowait(message)

    async def _beat(self) -> None:
        process = psutil.Process()
        sequence = 0
        while True:
            await asyncio.sleep(self._interval_s)
            sequence += 1
            self._meter.sample()
            memory_bytes = process.memory_info().rss
            power, totals = self._meter.power(), self._meter.totals()
            self._report(Heartbeat(sequence, time.time(), cpu_seconds(), memory_bytes, power, totals))

    # The certificate

    def _credentials(self) -> Credentials | None:
        return None if self._keeper is None else self._keeper.identity.credentials

    async def _keep_certificate(self) -> None:
        if self._keeper is None:
            await asyncio.Event().wait()
        else:
            await self._keeper.keep(lambda: self._route().address)

    def _note(self, welcome: Welcome) -> None:
        """The time at the coordinator, and the name that this device goes by there."""
        if self._keeper is not None:
            self._keeper.skew_s = welcome.coordinator_time_s - time.time()
            if welcome.device is not None:
                self._keeper.rename(welcome.device)
                self._hello = replace(self._hello, device=welcome.device)
                self._calibrator.go_by(welcome.device)
                self._generator.go_by(welcome.device)

    def _age(self) -> str:
        if self._keeper is None or time.time() + self._keeper.skew_s < self._keeper.identity.expires_at_s:
            return ""
        return "; this device's certificate has run out, if its clock is right: join again with a new token"

    # What the coordinator says

    def _take(self, message: CoordinatorMessage) -> None:
        match message:
            case Task():
                self._orders.take(message)
            case Cancel(run=run, round=round, reason=reason):
                self._orders.drop((run, round), reason)
            case Calibrate(calibration=calibration):
                if calibration not in self._unacked:  # else its outcome is on its way
                    self._orders.take(message)
            case CancelCalibration(calibration=calibration, reason=reason):
                self._orders.drop((calibration, CALIBRATION), reason)
            case GenerationTask():
                self._orders.take(message)
            case CancelGeneration(batch=batch, reason=reason):
                self._orders.drop((batch, GENERATION), reason)
            case KeepModels():
                if self._generator.keep(message):
                    self._orders.take(message)
            case MeasurementAck(window=said) | CalibrationAck(calibration=said):
                self._unacked.pop(said, None)
            case KeysWanted() | SharesWanted() | SharesDelivered() | RevealWanted():
                self._carrier.secrecy.take(message)
            case HeartbeatAck():
                pass
            case Welcome():
                log.warning("a second welcome")


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


async def _until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs all until one returns or raises, which ends the others too."""
    tasks = [asyncio.create_task(c) for c in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            await _cancelled(task)
