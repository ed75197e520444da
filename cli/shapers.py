"""Link shapers for every replica of a device kind.

In a compose file `network_mode: service:KIND` reaches the first container of a service only. For each
further one, a container like the shaper's own is started in its network namespace.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cli.compose import Stack
from cli.engine import Client, Container, DockerException, refused
from cli.parts import NUMBER, SERVICE, containers

WORK_TIMEOUT_S = 60
COPIED_HOST = (
    *("Binds", "Mounts", "ReadonlyRootfs", "SecurityOpt", "Tmpfs", "RestartPolicy", "Init"),
    *("Memory", "NanoCpus", "PidsLimit", "LogConfig", "Devices"),
)
COPIED = ("Image", "Cmd", "Entrypoint", "Env", "User", "WorkingDir", "Healthcheck", "StopSignal")


def shape_all(client: Client, stack: Stack, services: Mapping[str, int]) -> list[str]:
    """Starts a shaper for every container of `services` that has none, and returns the names.

    Ends those whose container is gone, and starts those again whose container was started after them:
    a namespace that was made anew has no queues. Where the first shaper ends when it has done its work, the
    others are waited for.
    """
    every = containers(client, stack.project)
    started: list[str] = []
    try:
        for service in services:
            shaped = [c for c in every if c.labels.get(SERVICE) == service and _runs(c)]
            for shaper in stack.shapers(service):
                started += _one_kind(client, stack, shaper.name, shaped, every)
    except DockerException as error:
        raise refused(error, "start a link shaper") from None
    return started


def _one_kind(
    client: Client, stack: Stack, shaper: str, shaped: list[Container], every: list[Container]
) -> list[str]:
    mine = [c for c in every if c.labels.get(SERVICE) == shaper]
    if not mine:
        return []
    by_target = {c.attrs["HostConfig"]["NetworkMode"].removeprefix("container:"): c for c in mine}
    wanted = {c.id: c for c in shaped}
    started: dict[str, str] = {}
    for target, container in by_target.items():
        if target not in wanted:
            if len(by_target) > 1 and container is not mine[0]:
                container.remove(force=True)
        elif _started_at(container) < _started_at(wanted[target]):
            container.restart(timeout=1)
            started[container.name] = container.id
    used = {int(c.labels.get(NUMBER, "1")) for c in mine}
    for target in wanted.keys() - by_target.keys():
        number = next(n for n in range(2, len(used) + 3) if n not in used)
        used.add(number)
        name = f"{stack.project}-{shaper}-{number}"
        started[name] = _start(client, name, number, mine[0], target)
    if not _runs(mine[0]):
        for container_id in started.values():
            client.api.wait(container_id, timeout=WORK_TIMEOUT_S)
    return list(started)


def _start(client: Client, name: str, number: int, like: Container, target: str) -> str:
    """Starts a container like `like` in the network namespace of `target`, with NET_ADMIN alone; its id."""
    config: Mapping[str, Any] = like.attrs["Config"]
    host: Mapping[str, Any] = like.attrs["HostConfig"]
    body = {key: config[key] for key in COPIED if config.get(key) is not None}
    body["Labels"] = {**config["Labels"], NUMBER: str(number)}
    body["HostConfig"] = {key: host[key] for key in COPIED_HOST if host.get(key) is not None} | {
        "NetworkMode": f"container:{target}",
        "CapDrop": ["ALL"],
        "CapAdd": ["NET_ADMIN"],
    }
    made = client.api.create_container_from_config(body, name)
    client.api.start(made["Id"])
    return str(made["Id"])


def _started_at(container: Container) -> datetime:
    return datetime.fromisoformat(container.attrs["State"]["StartedAt"])


def _runs(container: Container) -> bool:
    return bool(container.attrs["State"]["Status"] == "running")
