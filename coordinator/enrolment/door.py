"""The ports a coordinator listens on: with certificates, and one for joining; or in plain text, on loopback."""

import asyncio
import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from coordinator.enrolment import names, tokens
from coordinator.enrolment.authority import Authority, is_past, open_authority
from coordinator.enrolment.gate import Gate
from coordinator.enrolment.services import AdministrationService, Issuing, JoinService, RenewService
from coordinator.loop import Loop
from coordinator.sessions import Sessions
from fleet.errors import AddressInUse, BadRequest
from fleet.identity import Role, fingerprint
from fleet.rpc import SERVER_OPTIONS
from fleet.tls import Credentials, host_and_port, joined_address, read_bundle, write_secret
from fleet.v1 import enrolment_pb2_grpc

log = logging.getLogger(__name__)

MODES = ("auto", "on", "off")
DEVICE_LIVES_S = 7 * 86400.0
REVIEWED_S = 30.0
"""How often it is looked whether the own certificate still covers all names, and is young enough."""

PEOPLE = {"operator.pem": Role.OPERATOR, "viewer.pem": Role.VIEWER}


@dataclass(frozen=True)
class Security:
    """Facts of the deployment. `tls` "auto": unless `listen` is on loopback. `join`: host:port for joining.

    `names` are those by which the coordinator is reached besides the machine's own, and `published` its ports
    (fleet, joining) as they are seen from outside, where another machine passes them on. `testbed_token`: a file
    to keep a join token in, for the agents of a testbed.
    """

    tls: str = "auto"
    join: str | None = None
    names: tuple[str, ...] = ()
    published: tuple[int, int] | None = None
    authority_certificate: Path | None = None
    authority_key: Path | None = None
    testbed_token: Path | None = None
    device_lives_s: float = DEVICE_LIVES_S

    def is_on(self, listen: str) -> bool:
        """Whether what listens on host:port speaks TLS. BadRequest: plain text where others can reach it."""
        if self.tls not in MODES:
            raise BadRequest(f"WATTBED_TLS = {self.tls!r}; known are {', '.join(MODES)}")
        if self.tls == "off" and names.needs_tls(listen):
            raise BadRequest(f"plain text is for loopback only, and {listen} can be reached by other machines")
        return self.tls == "on" or names.needs_tls(listen)


class Door:
    """Opened before the services are there, because they say where it is. `authority` None: plain text."""

    def __init__(self, listen: str, state: Path, security: Security) -> None:
        self._listen = listen
        self._security = security
        self._tasks: list[asyncio.Task[None]] = []
        self._joining: grpc.aio.Server | None = None
        self.authority: Authority | None = None
        self.operators: Mapping[str, Role] | None = None
        if security.is_on(listen):
            now_s = time.time()
            self.authority = open_authority(
                state / "authority", security.authority_certificate, security.authority_key, now_s
            )
            self.operators = _people(self.authority, state, now_s)
            self._shown = _Shown(self.authority, security.names)

    def listen(self, server: grpc.aio.Server) -> int:
        """Has `server` listen; the port."""
        if self.authority is not None:
            return _bind(server, self._listen, self._shown.credentials(ask=True))
        log.warning(
            "%s is in plain text: who is on this machine may do everything. WATTBED_TLS=on asks for certificates",
            self._listen,
        )
        return _bind(server, self._listen, None)

    def serve(self, server: grpc.aio.Server, port: int, loop: Loop, sessions: Sessions, gate: Gate) -> None:
        """Adds the services of enrolment: to `server`, which listens on `port`, and to one for joining."""
        issuing = None
        if self.authority is not None:
            self._joining = grpc.aio.server(interceptors=self.interceptors, options=SERVER_OPTIONS)
            host, fleet_port = host_and_port(self._listen)
            at = self._security.join or joined_address(host, fleet_port + 1 if fleet_port else 0)
            join_port = _bind(self._joining, at, self._shown.credentials(ask=False))
            seen = self._security.published or (port, join_port)
            addresses = names.reachable(at, self._security.names, seen[1])
            issuing = Issuing(self.authority, self._security.device_lives_s, addresses, seen[0])
            enrolment_pb2_grpc.add_EnrolmentServicer_to_server(JoinService(loop, issuing), self._joining)
            enrolment_pb2_grpc.add_EnrolmentServicer_to_server(RenewService(loop, issuing, gate), server)
            self._inside = (joined_address(socket.gethostname(), join_port), *addresses)
            log.info("devices join on port %d; tokens say %s", join_port, ", ".join(addresses))
        self._issuing, self._loop, self._gate = issuing, loop, gate
        administration = AdministrationService(loop, sessions, gate, issuing)
        enrolment_pb2_grpc.add_AdministrationServicer_to_server(administration, server)

    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = ()
    """Those of the port for joining."""

    async def open(self) -> None:
        """Opens the port for joining and starts what goes on in the background."""
        if self._joining is None or self.authority is None or self._issuing is None:
            return
        await self._joining.start()
        going_on = [self._shown.review(), self._gate.cut_the_expired()]
        if self._security.testbed_token is not None:
            kept = tokens.keep_in(self._security.testbed_token, self._loop, self.authority.sha256, self._inside)
            going_on.append(kept)
        self._tasks = [asyncio.create_task(work) for work in going_on]

    async def close(self) -> None:
        """Nobody joins any more."""
        for task in self._tasks:
            task.cancel()
        if self._joining is not None:
            await self._joining.stop(grace=1.0)


class _Shown:
    """What the coordinator shows, made anew when its names change or two thirds of its life are over."""

    def __init__(self, authority: Authority, given: tuple[str, ...]) -> None:
        self._authority = authority
        self._given = given
        self._renew(names.covered(given))

    def credentials(self, *, ask: bool) -> grpc.ServerCredentials:
        """For a port; `ask`: the client must show a certificate too. Each handshake sees the newest of ours."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration, lambda: self._configuration, require_client_authentication=ask
        )

    async def review(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(REVIEWED_S)
            now = await asyncio.to_thread(names.covered, self._given)
            if set(now) != set(self._names) or is_past(self._made, self._made_at_s, time.time()):
                log.info("a new certificate for %s", ", ".join(now))
                self._renew(now)

    def _renew(self, covered: tuple[str, ...]) -> None:
        self._names, self._made_at_s = covered, time.time()
        self._made = self._authority.for_coordinator(covered, self._made_at_s)
        pair = (self._made.key_pem or b"", self._made.certificate_pem or b"")
        self._configuration = grpc.ssl_server_certificate_configuration(
            [pair], root_certificates=self._made.authority_pem
        )


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise AddressInUse(f"cannot listen on {address}: the port is in use") from error


def _people(authority: Authority, state: Path, now_s: float) -> Mapping[str, Role]:
    """The credentials of operator and viewer, in files that only the owner may read: made where none is good.

    Those in the files count and no others: who removes one and starts the coordinator anew has withdrawn it.
    """
    found = {}
    for name, role in PEOPLE.items():
        path = state / name
        credentials = _good(path, authority, now_s) or authority.for_operator(role, role.value, now_s)
        if not path.exists() or path.read_bytes() != credentials.bundle():
            write_secret(path, credentials.bundle())
            log.info("the %s's credentials are in %s", role, path)
        found[fingerprint(credentials.certificate())] = role
    return found


def _good(path: Path, authority: Authority, now_s: float) -> Credentials | None:
    try:
        credentials = read_bundle(path)
    except FileNotFoundError:
        return None
    made_at_s = path.stat().st_mtime
    if credentials.authority_sha256 != authority.sha256 or is_past(credentials, made_at_s, now_s):
        return None
    return credentials
