"""A testbed of processes on loopback: one coordinator and some agents, found again by a file.

`testbed.json` in the state folder says what runs: for each process its pid and the time it was created,
so that a pid which was given away again is never taken for ours.
"""

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

import psutil

from cli import credentials, energy_process
from cli.client import Operator
from fleet.errors import AddressInUse, BadRequest, Unreachable, WattbedError
from fleet.tls import read_bundle

FILE = "testbed.json"
COORDINATOR = "coordinator"
METER = "meter"
TOKEN = "join-token"
LOOPBACK = "127.0.0.1"
GRPC_PORT = 50551
HTTP_PORT = 9464
READY_TIMEOUT_S = 60.0
GRACE_S = 8.0
POLL_S = 0.1
CREATED_TOLERANCE_S = 2.0
"""The create time of a process moves by this much at most when the clock of the host is corrected."""


@dataclass(frozen=True)
class Spec:
    """A process as it is wanted: its name in the testbed, its Python module and its WATTBED_* facts.

    `by`: a command that is given the process to start, such as nice.
    """

    name: str
    module: str
    facts: Mapping[str, str]
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Running:
    """A process that was started."""

    name: str
    module: str
    facts: Mapping[str, str]
    pid: int
    created_s: float
    log: str

    def process(self) -> psutil.Process | None:
        """The process itself, None if it has ended."""
        try:
            found = psutil.Process(self.pid)
            ours = abs(found.create_time() - self.created_s) < CREATED_TOLERANCE_S
            return found if ours and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class Testbed:
    """What testbed.json says."""

    address: str
    http_address: str
    processes: tuple[Running, ...] = field(default=())

    @property
    def alive(self) -> tuple[Running, ...]:
        """The processes that have not ended."""
        return tuple(p for p in self.processes if p.process() is not None)


def load(state: Path) -> Testbed | None:
    """The testbed in the folder `state`, None where there is none."""
    path = state / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Testbed(values["address"], values["http_address"], tuple(Running(**p) for p in values["processes"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{path} is not a testbed file: {error!r}") from None


def save(state: Path, testbed: Testbed) -> None:
    """Writes testbed.json, wholly or not at all."""
    state.mkdir(parents=True, exist_ok=True)
    draft = state / f"{FILE}.draft"
    draft.write_text(json.dumps(asdict(testbed), indent=2) + "\n", encoding="utf-8")
    draft.replace(state / FILE)


def specs(
    state: Path,
    address: str,
    http_address: str,
    kinds: Sequence[str],
    agents: int,
    data: Path | None,
    tls: bool = False,
    meter: bool = False,
) -> tuple[Spec, ...]:
    """A coordinator, the host's meter if one is wanted, and `agents` agents named agent-1.., whose kinds go round
    `kinds`.
    """
    token = state / COORDINATOR / TOKEN
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = {} if data is None else {"WATTBED_DATA": str(data.resolve())}
    facts = {
        "WATTBED_LISTEN": address,
        "WATTBED_HTTP": http_address,
        "WATTBED_STATE": str(state / COORDINATOR),
        **({"WATTBED_TLS": "on", "WATTBED_TESTBED_TOKEN": str(token)} if tls else {}),
    }
    wanted = [Spec(COORDINATOR, "coordinator", facts | shared)]
    metered = {"WATTBED_METER": str(state / METER / "meter.sock")} if meter else {}
    if meter:
        wanted.append(Spec(METER, "edge_agent.meterd", {"WATTBED_STATE": str(state / METER)} | metered))
    for number, kind in enumerate(islice(cycle(kinds), agents), start=1):
        name = f"agent-{number}"
        facts = {
            "WATTBED_COORDINATOR": address,
            "WATTBED_DEVICE": name,
            "WATTBED_KIND": kind,
            "WATTBED_STATE": str(state / name),
            "WATTBED_THREADS": str(max(1, cores // agents)),
            **({"WATTBED_TOKEN_FILE": str(token)} if tls else {}),
            **metered,
        }
        wanted.append(Spec(name, "edge_agent", facts | shared))
    return tuple(wanted)


def claim(host: str, port: int) -> int:
    """`port` if nobody listens there, or a free one for 0; AddressInUse names a port that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise BadRequest(f"cannot listen on {host}:{port}: {error.strerror}") from error
            raise AddressInUse(f"port {port} on {host} is in use; choose another, or 0 for a free one") from None
        return int(probe.getsockname()[1])


def up(
    state: Path,
    *,
    agents: int,
    kinds: Sequence[str],
    data: Path | None,
    port: int | None,
    http_port: int | None,
    tls: bool = False,
    ready_timeout_s: float = READY_TIMEOUT_S,
    each: Callable[[Spec], Spec] = lambda spec: spec,
    counters: Callable[[], bool] = energy_process.any_counter,
) -> tuple[Testbed, tuple[str, ...]]:
    """The testbed as asked, every agent attached, and the names of what had to be started for it.

    `each` may give a process more facts, or another way to be started. Where `counters` finds energy counters on
    this host and there is more than one agent, a meter shares them out: an agent that read them itself would take
    the others' joules for its own.

    What runs already is left alone; BadRequest if it runs otherwise than asked. When anything fails,
    whatever this call started is ended again. A port of None: the one used before, else the standard one.
    """
    state = state.resolve()
    before = load(state)
    address, http_address = _addresses(before, port, http_port)
    meter = agents > 1 and counters()
    wanted = tuple(map(each, specs(state, address, http_address, kinds, agents, data, tls, meter)))
    alive = {p.name: p for p in before.alive} if before else {}
    _agree(wanted, alive)
    missing = tuple(s for s in wanted if s.name not in alive)
    if COORDINATOR not in alive:
        for taken in (address, http_address):
            host, _, number = taken.rpartition(":")
            claim(host, int(number))
    testbed = Testbed(address, http_address, tuple(alive.values()))
    started: list[Running] = []
    try:
        for spec in missing:
            started.append(start(state, spec))
            testbed = replace(testbed, processes=(*testbed.processes, started[-1]))
            save(state, testbed)
            if tls and spec.name == COORDINATOR:
                _take_credentials(started[-1], ready_timeout_s)
        asyncio.run(_ready(testbed, ready_timeout_s))
    except BaseException:
        end(started)
        save(state, replace(testbed, processes=tuple(alive.values())))
        raise
    return testbed, tuple(s.name for s in missing)


def _addresses(before: Testbed | None, port: int | None, http_port: int | None) -> tuple[str, str]:
    def choose(asked: int | None, used: str | None, standard: int) -> str:
        if asked == 0 and (used is None or not before or not before.alive):
            return f"{LOOPBACK}:{claim(LOOPBACK, 0)}"
        if used is not None and not asked:
            return used
        return f"{LOOPBACK}:{asked or standard}"

    return (
        choose(port, before.address if before else None, GRPC_PORT),
        choose(http_port, before.http_address if before else None, HTTP_PORT),
    )


def _agree(wanted: Sequence[Spec], alive: Mapping[str, Running]) -> None:
    """BadRequest where a running process is not the one that is wanted."""
    advice = "`wattbed down` first"
    if extra := sorted(alive.keys() - {s.name for s in wanted}):
        raise BadRequest(f"{', '.join(extra)} run here already and were not asked for; {advice}")
    for spec in wanted:
        facts = alive[spec.name].facts if spec.name in alive else spec.facts
        for key in ("WATTBED_LISTEN", "WATTBED_HTTP", "WATTBED_KIND", "WATTBED_DATA", "WATTBED_TLS"):
            if facts.get(key) != spec.facts.get(key):
                has, asked = facts.get(key), spec.facts.get(key)
                raise BadRequest(f"{spec.name} runs here already with {key}={has}, not {asked}; {advice}")


def start(state: Path, spec: Spec) -> Running:
    """Starts a process of its own session, that writes to logs/NAME.log and outlives the command."""
    log = state / "logs" / f"{spec.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    Path(spec.facts["WATTBED_STATE"]).mkdir(parents=True, exist_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("WATTBED_")}
    with log.open("ab") as out:
        child = subprocess.Popen(
            [*spec.by, sys.executable, "-m", spec.module],
            env=inherited | dict(spec.facts),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    created_s = psutil.Process(child.pid).create_time()
    return Running(spec.name, spec.module, dict(spec.facts), child.pid, created_s, str(log))


def _take_credentials(coordinator: Running, timeout_s: float) -> None:
    """Waits for the token that agents join with; keeps the operator's credentials where commands find them."""
    folder = Path(coordinator.facts["WATTBED_STATE"])
    give_up_s = time.monotonic() + timeout_s
    while not ((folder / TOKEN).exists() and (folder / credentials.NAMES[0]).exists()):
        if coordinator.process() is None:
            raise WattbedError(f"{COORDINATOR} ended at once; {last_words(Path(coordinator.log))}")
        if time.monotonic() > give_up_s:
            raise Unreachable(f"waited {timeout_s:.0f} s for the coordinator to give out a token")
        time.sleep(POLL_S)
    if folder != credentials.LOCAL.resolve():
        credentials.keep(read_bundle(folder / credentials.NAMES[0]))


async def _ready(testbed: Testbed, timeout_s: float) -> None:
    """Waits until the coordinator is healthy and every agent attached; raises when one ends or time is up."""
    agents = {p.name for p in testbed.processes} - {COORDINATOR, METER}
    waiting = f"the coordinator to answer at {testbed.address}"
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + timeout_s
    async with Operator(testbed.address) as operator:
        while clock() < give_up_at:
            for process in testbed.processes:
                if process.process() is None:
                    raise WattbedError(f"{process.name} ended at once; {last_words(Path(process.log))}")
            if await operator.healthy(timeout_s=1.0):
                away = agents - {d.device for d in await operator.devices() if d.attached}
                if not away:
                    return
                waiting = f"{', '.join(sorted(away))} to attach"
            await asyncio.sleep(POLL_S)
    raise Unreachable(f"waited {timeout_s:.0f} s for {waiting}")


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log, for an error message."""
    words = [w for w in log.read_text(encoding="utf-8", errors="replace").splitlines() if w.strip()]
    return f"the end of {log}: " + " | ".join(words[-lines:]) if words else f"{log} is empty"


def end(processes: Sequence[Running], grace_s: float = GRACE_S) -> tuple[str, ...]:
    """Ends these processes, by SIGTERM and after `grace_s` by SIGKILL; the names of those that ran."""
    found = {p.name: process for p in processes if (process := p.process()) is not None}
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for process in found.values():
            try:
                process.send_signal(sign)  # psutil looks at the create time again
            except psutil.NoSuchProcess:
                continue
        _, left = psutil.wait_procs(list(found.values()), timeout=grace_s)
        if not left:
            break
    return tuple(found)


def down(state: Path, *, purge: bool = False, grace_s: float = GRACE_S) -> tuple[str, ...]:
    """Ends what `up` started in the folder `state` and returns the names; `purge` deletes their data too."""
    state = state.resolve()
    testbed = load(state)
    if testbed is None:
        return ()
    ended = end(testbed.processes, grace_s)
    if not purge:
        save(state, replace(testbed, processes=()))
        return ended
    for folder in ("logs", COORDINATOR, METER, *(p.name for p in state.glob("agent-*"))):
        shutil.rmtree(state / folder, ignore_errors=True)
    (state / FILE).unlink()
    if not any(state.iterdir()):
        state.rmdir()
    return ended
