"""One coordinator, put together: log, blobs, loop, effects, services and pages."""

import asyncio
import fcntl
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from coordinator.clock import SteadyClock
from coordinator.effects import Effects
from coordinator.enrolment.door import Door, Security
from coordinator.enrolment.gate import Gate
from coordinator.fleet_service import FleetService
from coordinator.generation.intake import Intake
from coordinator.generation.metrics import GenerationCollector
from coordinator.generation.service import GenerationService
from coordinator.http import serve as serve_http
from coordinator.limits import Limits, Refusals, Uses
from coordinator.loop import Loop
from coordinator.noise import Secret
from coordinator.operator_service import Followers, OperatorService
from coordinator.readiness import Readiness
from coordinator.requests import Requests
from coordinator.sessions import Sessions
from coordinator.shelves import Shelves
from coordinator.store import Store
from coordinator.tracing import Tracer
from fleet.bulk import add_fleet_to_server
from fleet.errors import AddressInUse
from fleet.rpc import SERVER_OPTIONS, ErrorInterceptor
from fleet.v1 import fleet_pb2, operator_pb2, operator_pb2_grpc

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Facts of the deployment. `listen` and `http` are host:port; port 0 lets the system choose."""

    listen: str
    http: str
    state: Path
    data: Path | None
    version: str
    limits: Limits = field(default_factory=Limits)
    security: Security = field(default_factory=Security)
    tracer: Tracer | None = None


GRACE_S = 2.0
"""How long transfers and calls that are under way at the end may go on."""


async def run(
    settings: Settings,
    ready: asyncio.Future[tuple[int, int]],
    stopping: asyncio.Event,
    clock: SteadyClock | None = None,
) -> None:
    """Serves until `stopping` is set; `ready` gets the gRPC and HTTP ports.

    AddressInUse: something else listens there, or another coordinator uses the state folder.
    """
    settings.state.mkdir(parents=True, exist_ok=True)
    with _alone_in(settings.state):
        store = Store(settings.state / "log.sqlite")
        shelves = Shelves(settings.state / "blobs")
        followers = Followers()
        sessions = Sessions(followers.progressed)
        effects = Effects(store, shelves, sessions, settings.data, Secret(settings.state / "privacy.key"))
        loop = effects.loop = Loop(store, effects.execute, settings.version, clock, settings.tracer)
        requests, refusals = Requests(), Refusals()
        door = Door(settings.listen, settings.state, settings.security)
        gate = Gate(loop, door.operators)
        interceptors = (requests, ErrorInterceptor(), refusals, gate)
        door.interceptors = interceptors[:-1]
        server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        intake = Intake(loop, shelves)
        generation = GenerationService(loop, shelves, intake)
        fleet = FleetService(
            loop, effects, sessions, shelves, Uses(settings.limits), refusals, intake=intake, gate=gate
        )
        add_fleet_to_server(fleet, server)
        operator_pb2_grpc.add_OperatorServicer_to_server(
            OperatorService(loop, effects, store, sessions, shelves, followers, generation), server
        )
        status = await _describe(server)
        port = door.listen(server)
        door.serve(server, port, loop, sessions, gate)
        readiness = Readiness(loop, settings.state)
        pages, http_port = serve_http(
            settings.http, loop, sessions, readiness, requests, refusals, GenerationCollector(loop)
        )
        await server.start()
        await door.open()
        watchdogs = [
            generation.cancel_the_deserted(),
            sessions.end_the_silent(),
            fleet.stalls.end_the_stalled(),
            readiness.beat(),
        ]
        watching = [asyncio.create_task(watchdog) for watchdog in watchdogs]
        ready.set_result((port, http_port))
        log.info("listening on port %d, pages on port %d", port, http_port)
        await stopping.wait()
        log.info("stopping")
        readiness.stopping = True
        loop.begin_nothing()
        await status.enter_graceful_shutdown()
        for watchdog in watching:
            watchdog.cancel()
        sessions.end_all("the coordinator is stopping")
        followers.end_all()
        await door.close()
        await server.stop(grace=GRACE_S)
        await loop.stop()
        pages.shutdown()
        pages.server_close()
        effects.close()
        store.close()
        if settings.tracer is not None:
            await asyncio.to_thread(settings.tracer.close)
        log.info("stopped")


async def _describe(server: grpc.aio.Server) -> health.HealthServicer:
    """Health checking and reflection."""
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    services = [
        fleet_pb2.DESCRIPTOR.services_by_name["Fleet"].full_name,
        operator_pb2.DESCRIPTOR.services_by_name["Operator"].full_name,
    ]
    for name in ("", *services):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((*services, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
    return status


class _alone_in:  # noqa: N801
    """Holds the state folder: two coordinators on one log would both be the single writer."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise AddressInUse(f"another coordinator uses {self._path.parent}") from error

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._file.close()
