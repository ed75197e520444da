"""The Docker engine: the one place where the SDK is imported, and what of it the commands use."""
# ruff: noqa: D102

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import docker  # type: ignore[import-untyped]
from docker.context import ContextAPI  # type: ignore[import-untyped]
from docker.errors import DockerException, NotFound  # type: ignore[import-untyped]

from fleet.errors import Unequipped, Unreachable, WattbedError

__all__ = [
    "Client",
    "Container",
    "DockerException",
    "NotFound",
    "Things",
    "connect",
    "engine_address",
    "is_here",
    "refused",
]

ANSWER_TIMEOUT_S = 60
START_IT = "start it (`sudo systemctl start docker`, or Docker Desktop)"


class Container(Protocol):
    """One container, as the SDK shows it; `attrs` is what `docker inspect` prints."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def attrs(self) -> Mapping[str, Any]: ...

    def logs(self, **options: Any) -> Any: ...
    def start(self) -> None: ...
    def restart(self, **options: Any) -> None: ...
    def stop(self, **options: Any) -> None: ...
    def remove(self, **options: Any) -> None: ...


class Things(Protocol):
    """A collection of the SDK: containers, images, networks or volumes."""

    def list(self, **options: Any) -> list[Any]: ...
    def get(self, name: str) -> Any: ...


class Client(Protocol):
    """What the commands use of docker.DockerClient; `api` is its low-level client."""

    @property
    def api(self) -> Any: ...
    @property
    def containers(self) -> Things: ...
    @property
    def images(self) -> Any: ...
    @property
    def networks(self) -> Things: ...
    @property
    def volumes(self) -> Things: ...

    def info(self) -> Mapping[str, Any]: ...


def engine_address(environment: Mapping[str, str]) -> str:
    """Where the engine listens: DOCKER_HOST, else the chosen context of the docker command."""
    if host := environment.get("DOCKER_HOST"):
        return host
    name = environment.get("DOCKER_CONTEXT")
    context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    return str(context.Host) if context is not None and context.Host else "unix:///var/run/docker.sock"


def is_here(address: str) -> bool:
    """Whether an engine at this address publishes its ports on this machine."""
    return address.startswith(("unix://", "npipe://"))


def connect(
    environment: Mapping[str, str] = os.environ, which: Callable[[str], str | None] = shutil.which
) -> Client:
    """A connection to the engine. Unequipped: docker is not installed; Unreachable: it does not answer."""
    address = engine_address(environment)
    socket = Path(address.removeprefix("unix://")) if address.startswith("unix://") else None
    if socket is not None:
        if which("docker") is None and not socket.exists():
            raise Unequipped(
                "Docker is not installed: install Docker Engine with its compose plugin "
                "(https://docs.docker.com/engine/install/), or use `wattbed up --local`"
            )
        if not socket.exists():
            raise Unreachable(f"the Docker engine is not running, there is no {socket}: {START_IT}")
        if not os.access(socket, os.R_OK | os.W_OK):
            raise Unreachable(
                f"this user may not use the Docker engine at {socket}: "
                "`sudo usermod -aG docker $USER`, then log in again"
            )
    try:
        return _client(address, environment)
    except DockerException as error:
        why = f"does not answer: {START_IT} ({_cause(error)})"
        raise Unreachable(f"the Docker engine at {address} {why}") from None


def _client(address: str, environment: Mapping[str, str]) -> Client:
    if environment.get("DOCKER_HOST"):
        client = docker.from_env(environment=dict(environment), timeout=ANSWER_TIMEOUT_S)
    else:
        client = docker.DockerClient(base_url=address, timeout=ANSWER_TIMEOUT_S, use_ssh_client=True)
    client.ping()
    return cast(Client, client)


def _cause(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())


def refused(error: Exception, doing: str) -> WattbedError:
    """An error of the engine as one sentence of ours."""
    why = getattr(error, "explanation", None) or str(error)
    return WattbedError(f"the Docker engine refused to {doing}: {' '.join(str(why).split())}")
