"""With what this user may speak to a coordinator: found by the authority that the coordinator shows.

Looked for in the user's own folder (`wattbed login` puts them there), in `.wattbed/coordinator` where one stands,
and in a coordinator's container on this machine: whoever may use its Docker engine may read them there anyway.
"""

import asyncio
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import typer

from fleet import rpc
from fleet.errors import BadRequest, Unauthenticated, Unreachable, WattbedError
from fleet.identity import Role, fingerprint, role_and_name
from fleet.tls import (
    Credentials,
    PlainText,
    host_and_port,
    is_loopback,
    look,
    parse_bundle,
    read_bundle,
    write_secret,
)

LOCAL = Path(".wattbed/coordinator")
NAMES = ("operator.pem", "viewer.pem")
COORDINATORS = "WATTBED_LISTEN="
"""The variable that a coordinator's image sets and no other of wattbed's does."""
STATE_VARIABLE = "WATTBED_STATE="


@dataclass(frozen=True)
class Kept:
    """Credentials that were put into the user's folder."""

    path: Path
    role: Role
    authority_sha256: str
    expires_at_s: float


def folder() -> Path:
    """The user's folder of credentials, a file for each authority and role."""
    return Path(typer.get_app_dir("wattbed")) / "credentials"


def keep(credentials: Credentials) -> Kept:
    """Puts a copy into the user's folder, readable by the user alone. BadRequest: they are not a person's."""
    certificate = credentials.certificate()
    found = role_and_name(certificate)
    if found is None or found[0] is Role.DEVICE:
        raise BadRequest("these are not the credentials of an operator or a viewer")
    authority = credentials.authority_sha256
    path = folder() / f"{authority[:32]}-{found[0]}.pem"
    write_secret(path, credentials.bundle())
    return Kept(path, found[0], authority, certificate.not_valid_after_utc.timestamp())


async def channel(address: str) -> grpc.aio.Channel:
    """A connection to the coordinator at host:port, with credentials if it speaks TLS.

    Unauthenticated: it asks for some, and there are none. Nothing is said in plain text but on loopback.
    """
    return rpc.channel(address, await asyncio.to_thread(for_address, address))


def for_address(address: str) -> Credentials | None:
    """The credentials for the coordinator at host:port; None where it speaks plain text, or nobody answers."""
    host, _ = host_and_port(address)
    try:
        authority = fingerprint(look(address))
    except Unreachable:
        if is_loopback(host):
            return None
        raise Unreachable(f"no coordinator answers at {address}") from None
    except PlainText:
        if is_loopback(host):
            return None
        raise PlainText(f"what answers at {address} speaks plain text, which is for loopback only") from None
    for path in _files(authority):
        credentials = read_bundle(path)
        if credentials.authority_sha256 == authority:
            return credentials
    found = _in_a_container(authority)
    if found is None:
        raise Unauthenticated(
            f"the coordinator at {address} asks for credentials, and there are none of its authority "
            f"({authority[:16]}...) here: it has them in its folder of state, as operator.pem; "
            "`wattbed login FILE` keeps a copy for you"
        )
    keep(found)
    return found


def _files(authority: str) -> Iterator[Path]:
    own = folder()
    for path in (*(own / f"{authority[:32]}-{name}" for name in NAMES), *(LOCAL / name for name in NAMES)):
        if path.is_file():
            yield path


def _in_a_container(authority: str) -> Credentials | None:
    from cli.engine import DockerException, connect

    try:
        client = connect()
        for container in client.containers.list():
            facts = container.attrs["Config"].get("Env") or ()
            if not any(fact.startswith(COORDINATORS) for fact in facts):
                continue
            state = next((f.removeprefix(STATE_VARIABLE) for f in facts if f.startswith(STATE_VARIABLE)), None)
            found = None if state is None else _read_from(container, f"{state}/{NAMES[0]}")
            if found is not None and found.authority_sha256 == authority:
                return found
    except (WattbedError, DockerException, OSError):
        return None
    return None


def _read_from(container: object, path: str) -> Credentials | None:
    from cli.engine import NotFound

    try:
        pieces, _ = container.get_archive(path)  # type: ignore[attr-defined]
    except NotFound:
        return None
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        file = archive.extractfile(Path(path).name)
        return None if file is None else parse_bundle(file.read(), path)
