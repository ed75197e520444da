"""Bringing the compose testbed up: everything that can be wrong is looked at before a container starts."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cli import counts, images, parts, ports, shapers
from cli.compose import (
    COORDINATOR,
    GRAFANA,
    GRAFANA_TARGET,
    GRPC_TARGET,
    HTTP_TARGET,
    PROMETHEUS,
    PROMETHEUS_TARGET,
    Compose,
    Service,
    Stack,
    reached_at,
)
from cli.engine import Client, DockerException, refused
from cli.parts import Part
from fleet.errors import AddressInUse, BadRequest, Unequipped

AGENT_BYTES = 768 << 20
"""What an agent is taken to need that the file reserves nothing for: torch, and a small U-Net in training."""
READY_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Wish:
    """What `wattbed up` was asked for. `agents` in the words of the command line."""

    agents: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    build: bool | None = None
    timeout_s: float = READY_TIMEOUT_S


@dataclass(frozen=True)
class Shown:
    """Who looks on: a line of progress, and the containers as they come."""

    say: Callable[[str], None] = lambda line: None
    parts: Callable[[Sequence[Part]], None] = lambda found: None


@dataclass(frozen=True)
class Started:
    """A compose testbed that is up. `addresses` by what they are for; `secrets` are files that hold passwords."""

    project: str
    folder: str
    files: tuple[str, ...]
    services: Mapping[str, int]
    addresses: Mapping[str, str]
    secrets: tuple[str, ...]
    mended: tuple[str, ...] = ()
    shapers: tuple[str, ...] = field(default=())


def up(
    client: Client, compose: Compose, wish: Wish, shown: Shown, *, here: bool, on_start: Callable[[Stack], None]
) -> Started:
    """The testbed as asked, every container ready. What runs already is left alone; what is broken is mended.

    `here`: the engine shows its ports on this machine. `on_start` hears the resolved file before
    the first container is touched. Nothing was started when BadRequest, AddressInUse or
    Unequipped is raised; HalfStarted and Unreachable leave what runs to be looked at.
    """
    compose.version()
    stack = compose.stack()
    before = parts.parts(client, stack.project)
    parts.refuse_foreign(before, stack.project, stack.folder)
    wanted = choose(stack, wish, parts.running_counts(before))
    services = [stack.services[name] for name, count in wanted.items() if count]
    refuse_too_much_memory(services, wanted, int(client.info()["MemTotal"]))
    ports.refuse_taken(client, compose, stack.project, services, here=here)
    images.provide(client, compose, stack, services, wish.build, shown.say)
    on_start(stack)
    mended = parts.faults(before, {name: min(n, 1) for name, n in wanted.items()}) if before else ()
    _end_shapers_of_none(client, stack, wanted)
    start(client, compose, stack, wanted, shown, keep=False)
    parts.wait(client, stack.project, wanted, wish.timeout_s, shown.parts)
    shaped = shapers.shape_all(client, stack, wanted)
    found = parts.wait(client, stack.project, wanted, wish.timeout_s, shown.parts)
    return Started(
        stack.project,
        str(stack.folder),
        tuple(map(str, compose.files)),
        {name: n for name, n in parts.running_counts(found).items() if n},
        addresses(client, stack.project),
        tuple(str(path) for s in services if s.name == GRAFANA for path in s.secret_files),
        mended,
        tuple(shaped),
    )


def choose(stack: Stack, wish: Wish, present: Mapping[str, int]) -> dict[str, int]:
    """Containers per service; 0 for a kind that shall have none.

    A service that is up keeps its number, unless it is asked otherwise; one that is not has the file's.
    """
    for name in wish.without:
        if name not in stack.services:
            raise BadRequest(f"no service {name!r} to leave out; there are {', '.join(stack.services)}")
    kinds = [stack.kind(k).name for k in wish.kinds] or [s.name for s in stack.kinds.values()]
    number = {name: s.replicas for name, s in stack.services.items()}
    number |= {s.name: present.get(s.name) or s.replicas for s in stack.kinds.values()}
    if wish.agents:
        now = {kind: number[s.name] for kind, s in stack.kinds.items()}
        of = counts.asked(wish.agents, [str(stack.services[n].kind) for n in kinds], now)
        number |= {stack.kind(kind).name: count for kind, count in of.items()}
    elif wish.kinds:
        number |= {s.name: 0 for s in stack.kinds.values() if s.name not in kinds}
    left_out = set(wish.without) | {s.name for s in stack.kinds.values() if not number[s.name]}
    left_out |= {shaper.name for name in left_out for shaper in stack.shapers(name)}
    for name, service in stack.services.items():
        hard = [n for n in service.needs if n in left_out and stack.services[n].shapes is None]
        if name not in left_out and hard:
            raise BadRequest(f"{name} needs {', '.join(hard)}: leave it out too, with --without {name}")
    kinds_of_none = {s.name: 0 for s in stack.kinds.values() if not number[s.name] and s.name not in wish.without}
    return {name: n for name, n in number.items() if name not in left_out} | kinds_of_none


def refuse_too_much_memory(services: Sequence[Service], wanted: Mapping[str, int], memory_bytes: int) -> None:
    """Unequipped when the agents that are asked for cannot all be in the engine's memory."""

    def each(service: Service) -> int:
        return service.memory_reserved_bytes or min(service.memory_limit_bytes or AGENT_BYTES, AGENT_BYTES)

    needs = {s.name: wanted[s.name] * each(s) for s in services if s.kind is not None}
    if sum(needs.values()) > memory_bytes:
        asked = ", ".join(f"{wanted[name]} x {name}" for name in needs)
        raise Unequipped(
            f"{asked} need about {sum(needs.values()) / 1e9:.1f} GB of memory and the Docker engine has "
            f"{memory_bytes / 1e9:.1f} GB: ask for fewer with --agents KIND=N"
        )


def start(
    client: Client, compose: Compose, stack: Stack, wanted: Mapping[str, int], shown: Shown, *, keep: bool
) -> None:
    """Calls `docker compose up`; HalfStarted names what it left broken when it fails."""
    shown.say("starting " + ", ".join(wanted))
    scales = {s.name: wanted[s.name] for s in stack.kinds.values() if s.name in wanted}
    outcome = compose.up(list(wanted), scales, shown.say, keep=keep)
    if outcome.code == 0:
        return
    if busy := re.search(r"([\d.]*):(\d+)[^\n]*(?:already allocated|already in use)", outcome.err):
        raise AddressInUse(
            f"port {busy[2]} was taken while the testbed started; `wattbed down` cleans up, "
            "and --port, --http-port or a variable of the compose file chooses another"
        )
    found = [p for p in parts.parts(client, stack.project) if p.service in wanted]
    wrong = parts.faults(found, wanted)
    said = f"docker compose said: {outcome.last_line}" if outcome.err.strip() else ""
    raise parts.half_started(wrong or ("docker compose gave up",), parts.last_words(client, found) or said)


def _end_shapers_of_none(client: Client, stack: Stack, wanted: Mapping[str, int]) -> None:
    of_none = {shaper.name for name, count in wanted.items() if not count for shaper in stack.shapers(name)}
    for container in parts.containers(client, stack.project):
        if container.labels.get(parts.SERVICE) in of_none:
            container.remove(force=True)


def addresses(client: Client, project: str) -> dict[str, str]:
    """What a running testbed shows, by what it is for."""
    known = {
        (COORDINATOR, GRPC_TARGET): ("coordinator", "{}"),
        (COORDINATOR, HTTP_TARGET): ("metrics", "http://{}/metrics"),
        (PROMETHEUS, PROMETHEUS_TARGET): ("prometheus", "http://{}"),
        (GRAFANA, GRAFANA_TARGET): ("grafana", "http://{}"),
    }
    found = {}
    for container in parts.containers(client, project):
        shown = container.attrs["NetworkSettings"].get("Ports") or {}
        for port, bindings in shown.items():
            about = known.get((container.labels.get(parts.SERVICE, ""), int(port.partition("/")[0])))
            if about and bindings:
                host = reached_at(bindings[0]["HostIp"])
                found[about[0]] = about[1].format(f"{host}:{bindings[0]['HostPort']}")
    return found


def scale(
    client: Client, compose: Compose, words: Sequence[str], shown: Shown, timeout_s: float
) -> tuple[dict[str, int], list[str]]:
    """Brings kinds of a running testbed to these numbers of agents: the numbers now, and the shapers started."""
    compose.version()
    stack = compose.stack()
    number = {stack.kind(kind).name: n for kind, n in counts.of_kinds(words, "scale takes KIND=N").items()}
    before = parts.parts(client, stack.project)
    if not before:
        raise BadRequest(f"no testbed of project {stack.project!r} runs; `wattbed up` starts one")
    parts.refuse_foreign(before, stack.project, stack.folder)
    have = parts.running_counts(before)
    if wrong := parts.faults([p for p in before if p.service == COORDINATOR], {COORDINATOR: 1}):
        raise parts.half_started(wrong)
    services = [s for s in stack.kinds.values() if number.get(s.name, have.get(s.name, 0))]
    every = {s.name: number.get(s.name, have.get(s.name, 0)) for s in services}
    refuse_too_much_memory(services, every, int(client.info()["MemTotal"]))
    first = [shaper.name for name, n in number.items() if n for shaper in stack.shapers(name)]
    wanted = number | {shaper: 1 for shaper in first if shaper not in have}
    _end_shapers_of_none(client, stack, number)
    start(client, compose, stack, wanted, shown, keep=True)
    parts.wait(client, stack.project, wanted, timeout_s, shown.parts)
    try:
        shaped = shapers.shape_all(client, stack, number)
    except DockerException as error:
        raise refused(error, "start a link shaper") from None
    wanted |= dict.fromkeys(first, 1)
    now = parts.running_counts(parts.wait(client, stack.project, wanted, timeout_s, shown.parts))
    return {name: now.get(name, 0) for name in number}, shaped
