"""Ports that a testbed wants to show on this machine, and who has them."""

import errno
import socket
from collections.abc import Iterable

import psutil

from cli.compose import Compose, Service
from cli.engine import Client, DockerException, refused
from cli.parts import PROJECT
from fleet.errors import AddressInUse

OPTIONS = {"WATTBED_PORT": "--port", "WATTBED_HTTP_PORT": "--http-port"}
"""What `wattbed up` has an option for; the other ports are moved by their variable alone."""


def listener(port: int) -> str:
    """Who listens on a TCP port of this machine, as far as this user may see."""
    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port:
                if found.pid is None:
                    break
                return f"{psutil.Process(found.pid).name()}, pid {found.pid}"
    except (psutil.Error, OSError):
        pass
    return "a process that this user may not see"


def taken(host: str, port: int) -> bool:
    """Whether nothing more can listen on `host`:`port`. A host that is not this machine's is not taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False


def publisher(client: Client, port: int) -> tuple[str, str] | None:
    """The running container that shows `port`, and its project."""
    try:
        running = client.containers.list(ignore_removed=True)
    except DockerException as error:
        raise refused(error, "list containers") from None
    for container in running:
        shown = (container.attrs["NetworkSettings"].get("Ports") or {}).values()
        if any(int(b["HostPort"]) == port for bindings in shown for b in bindings or ()):
            return container.name, container.labels.get(PROJECT, "")
    return None


def refuse_taken(
    client: Client, compose: Compose, project: str, services: Iterable[Service], *, here: bool
) -> None:
    """AddressInUse for a port that another process or another project's container has.

    `here`: the engine shows its ports on this machine, so that they can be tried.
    """
    for service in services:
        for port in service.ports:
            if port.published is None:
                continue
            holder = publisher(client, port.published)
            if holder is not None and holder[1] == project:
                continue
            if holder is None and not (here and taken(port.host, port.published)):
                continue
            who = f"container {holder[0]}" if holder else listener(port.published)
            raise AddressInUse(
                f"port {port.published} on {port.host}, which {service.name} needs, is in use by {who}: "
                f"end it, or {advice(compose, port.target, port.published)}"
            )


def advice(compose: Compose, target: int, published: int) -> str:
    """How to move a port that is shown as `published`."""
    variable, _ = compose.variable(target)
    if not variable:
        return "change the port in the compose file"
    option = f"`{OPTIONS[variable]} N` or " if variable in OPTIONS else ""
    return f"choose another with {option}{variable}={published + 1}"
