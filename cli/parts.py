"""The containers of a compose testbed as they are, and what is wrong with them."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.engine import Client, Container, DockerException, NotFound, refused
from fleet.errors import BadRequest, HalfStarted, Unreachable

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
FOLDER = "com.docker.compose.project.working_dir"
FILES = "com.docker.compose.project.config_files"
POLL_S = 0.5
RESTARTS_TO_GIVE_UP = 3
"""A container that its restart policy has started anew this often is taken for broken."""


@dataclass(frozen=True)
class Part:
    """One container. `state` and `health` are Docker's words, `health` None without a healthcheck.

    `one_shot`: it is meant to end, and has done its work when it ended with 0.
    """

    service: str
    number: int
    name: str
    id: str
    state: str
    health: str | None
    exit_code: int
    one_shot: bool
    restarts: int
    folder: str
    files: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether it does its work, or has done it."""
        if self.state == "running":
            return self.health in (None, "healthy")
        return self.state == "exited" and self.one_shot and self.exit_code == 0

    @property
    def fault(self) -> str | None:
        """What is wrong with it; None also while it is starting."""
        if self.state in ("exited", "dead") and not self.ready:
            return f"{self.name} exited with {self.exit_code}"
        if self.state in ("paused", "removing"):
            return f"{self.name} is {self.state}"
        if self.restarts >= RESTARTS_TO_GIVE_UP and self.state != "running":
            return f"{self.name} was restarted {self.restarts} times and ended with {self.exit_code}"
        if self.state == "running" and self.health == "unhealthy":
            return f"{self.name} is unhealthy"
        return None


def containers(client: Client, project: str) -> list[Container]:
    """The containers of a project, whether they run or not, in the order of their names."""
    found = _ask(client, {"label": f"{PROJECT}={project}"})
    return sorted(found, key=lambda c: (c.labels.get(SERVICE, ""), len(c.name), c.name))


def _ask(client: Client, filters: Mapping[str, str]) -> list[Container]:
    try:
        return client.containers.list(all=True, filters=dict(filters), ignore_removed=True)
    except DockerException as error:
        raise refused(error, "list containers") from None


def parts(client: Client, project: str) -> tuple[Part, ...]:
    """The parts of a project."""
    return tuple(part(c) for c in containers(client, project))


def part(container: Container) -> Part:
    """What is worth knowing of a container."""
    state: Mapping[str, Any] = container.attrs["State"]
    policy = (container.attrs["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no"
    health = (state.get("Health") or {}).get("Status")
    labels = container.labels
    return Part(
        labels.get(SERVICE, container.name),
        int(labels.get(NUMBER, "1")),
        container.name,
        container.id,
        state=str(state["Status"]),
        health=None if health in (None, "none") else str(health),
        exit_code=int(state.get("ExitCode") or 0),
        one_shot=policy in ("no", "on-failure") and health in (None, "none"),
        restarts=int(container.attrs.get("RestartCount") or 0),
        folder=labels.get(FOLDER, ""),
        files=tuple(f for f in labels.get(FILES, "").split(",") if f),
    )


def running_counts(found: Sequence[Part]) -> dict[str, int]:
    """How many containers each service has."""
    return dict(Counter(p.service for p in found))


def faults(found: Sequence[Part], wanted: Mapping[str, int]) -> tuple[str, ...]:
    """What keeps a testbed of `wanted` containers per service from being whole; containers that start count."""
    have = running_counts(found)
    missing = [
        f"{name} is missing" if not have.get(name) else f"{name} has {have[name]} of {count} containers"
        for name, count in wanted.items()
        if have.get(name, 0) < count
    ]
    return (*missing, *(f for p in found if (f := p.fault) is not None))


def half_started(found: Sequence[str], said: str = "") -> HalfStarted:
    """The error for a testbed with these faults."""
    words = f" ({said})" if said else ""
    return HalfStarted(
        f"the testbed is half-started: {'; '.join(found)}{words}; "
        "`wattbed logs` shows why, `wattbed up` mends it, `wattbed down` cleans up"
    )


def refuse_foreign(found: Sequence[Part], project: str, folder: Path) -> None:
    """BadRequest when a project of this name was started from another folder."""
    others = sorted({p.folder for p in found if p.folder and Path(p.folder).resolve() != folder.resolve()})
    if others:
        raise BadRequest(
            f"project {project!r} was started from {', '.join(others)} and has {len(found)} containers: "
            f"choose another name with --project, or `wattbed down --project {project}` first"
        )


def wait(
    client: Client,
    project: str,
    wanted: Mapping[str, int],
    timeout_s: float,
    show: Callable[[Sequence[Part]], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Part, ...]:
    """The parts, once all are there and ready. HalfStarted as soon as one is broken, Unreachable in the end."""
    give_up_at = clock() + timeout_s
    while True:
        found = parts(client, project)
        show(found)
        here = [p for p in found if p.service in wanted]
        if wrong := faults(here, wanted):
            raise half_started(wrong, last_words(client, here))
        waiting = [f"{p.name} ({p.health or p.state})" for p in here if not p.ready]
        if not waiting:
            return found
        if clock() >= give_up_at:
            raise Unreachable(
                f"waited {timeout_s:.0f} s for {', '.join(waiting)}; `wattbed logs` shows what they do, "
                "`wattbed up` waits on, `wattbed down` cleans up"
            )
        sleep(POLL_S)


def last_words(client: Client, found: Sequence[Part]) -> str:
    """The last line of the first broken container's log."""
    for broken in (p for p in found if p.fault is not None):
        try:
            said = client.containers.get(broken.id).logs(tail=3).decode("utf-8", "replace")
        except NotFound:
            continue
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if lines:
            return f"{broken.name} said: {lines[-1]}"
    return ""
