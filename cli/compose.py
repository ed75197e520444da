"""The compose file of the testbed, and `docker compose` as a command: it has no SDK.

What is in the file is never guessed: `docker compose config` resolves it, overlays, variables and all.
"""

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from fleet.errors import BadRequest, Unequipped, WattbedError

FILE = "docker-compose.yml"
COORDINATOR, PROMETHEUS, GRAFANA, METER = "coordinator", "prometheus", "grafana", "meter"
GRPC_TARGET, HTTP_TARGET, PROMETHEUS_TARGET, GRAFANA_TARGET = 50551, 9464, 9090, 3000
KIND_VARIABLE = "WATTBED_KIND"
LEAST_VERSION = (2, 20)
"""`depends_on` with `required: false` and `docker compose config --format json` of the whole model."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """What it said last, without colours."""
        lines = [line for line in (self.err or self.out).splitlines() if line.strip()]
        return re.sub(r"\x1b\[[0-9;]*m", "", lines[-1]).strip() if lines else f"exit code {self.code}"


class Run(Protocol):
    """Runs a command; `on_line` hears each line of stderr as it comes."""

    def __call__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Unequipped when there is no such program."""
        ...


def run(
    arguments: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None] | None = None
) -> Outcome:
    """Runs a command to its end. Unequipped when there is no such program."""
    try:
        process = subprocess.Popen(
            list(arguments),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise Unequipped(f"the command `{arguments[0]}` is not installed") from None
    said: list[str] = []

    def listen() -> None:
        for line in process.stderr or ():
            said.append(line)
            if on_line is not None:
                on_line(line.rstrip())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        out = process.stdout.read() if process.stdout else ""
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    listener.join()
    return Outcome(code, out, "".join(said))


@dataclass(frozen=True)
class Port:
    """A port of a service that the host shows. `published` None: the engine picks one."""

    host: str
    published: int | None
    target: int


@dataclass(frozen=True)
class Service:
    """One service of the resolved file. `kind`: the device kind its containers emulate, None for others.

    `shapes` names the service whose network namespace it shares in order to shape its link. `needs` are the
    services it depends on.
    """

    name: str
    image: str
    builds: bool
    replicas: int
    kind: str | None = None
    shapes: str | None = None
    memory_limit_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    ports: tuple[Port, ...] = ()
    needs: tuple[str, ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    secret_files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Stack:
    """A compose file, resolved."""

    project: str
    folder: Path
    services: Mapping[str, Service] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, Service]:
        """The services that emulate devices, by kind."""
        return {s.kind: s for s in self.services.values() if s.kind is not None}

    def kind(self, name: str) -> Service:
        """The service of a kind; BadRequest lists the kinds of the file."""
        if name not in self.kinds:
            raise BadRequest(f"the compose file has no device kind {name!r}; it has {', '.join(self.kinds)}")
        return self.kinds[name]

    def shapers(self, service: str) -> tuple[Service, ...]:
        """The services that shape the link of `service`."""
        return tuple(s for s in self.services.values() if s.shapes == service)


def find(start: Path, checkout: Path) -> Path:
    """wattbed's compose file, looked for from `start` upwards, then in the checkout wattbed runs from."""
    for folder in (start.resolve(), *start.resolve().parents, checkout):
        path = folder / FILE
        if path.is_file() and KIND_VARIABLE in path.read_text(encoding="utf-8", errors="replace"):
            return path
    raise BadRequest(
        f"no {FILE} of wattbed in {start.resolve()}, above it or in {checkout}: "
        "go to a checkout of wattbed, or use `wattbed up --local`"
    )


@dataclass(frozen=True)
class Compose:
    """`docker compose` for some files. `project` None: the name that the file gives itself."""

    files: tuple[Path, ...]
    project: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    run: Run = run

    def _call(self, *arguments: str, on_line: Callable[[str], None] | None = None) -> Outcome:
        files = [part for file in self.files for part in ("-f", str(file))]
        project = ["-p", self.project] if self.project else []
        return self.run(["docker", "compose", *project, *files, *arguments], self.environment, on_line)

    def version(self) -> str:
        """The version of the compose plugin; Unequipped when there is none or it is too old."""
        least = ".".join(map(str, LEAST_VERSION))
        try:
            outcome = self.run(["docker", "compose", "version", "--short"], self.environment)
        except Unequipped:
            raise Unequipped("the command `docker` is not installed, and `docker compose` comes with it") from None
        found = re.match(r"v?(\d+)\.(\d+)", outcome.out.strip())
        if outcome.code != 0 or found is None:
            raise Unequipped(f"`docker compose` is not installed: install the compose plugin, {least} or newer")
        if (int(found[1]), int(found[2])) < LEAST_VERSION:
            raise Unequipped(f"docker compose {outcome.out.strip()} is too old: {least} or newer is needed")
        return outcome.out.strip()

    def stack(self) -> Stack:
        """The resolved file; BadRequest with compose's own words when it is not valid."""
        outcome = self._call("config", "--format", "json")
        if outcome.code != 0:
            files = ", ".join(map(str, self.files))
            raise BadRequest(f"docker compose does not take {files}: {outcome.last_line}")
        return parse(json.loads(outcome.out), self.files[0].parent)

    def build(self, services: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Builds the images of `services`, labelled with the commit of the checkout where it is one."""
        folder = str(self.files[0].parent)
        commit = self.run(["git", "-C", folder, "rev-parse", "HEAD"], self.environment)
        named = {"WATTBED_REVISION": commit.out.strip()} if commit.code == 0 else {}
        labelled = replace(self, environment={**named, **self.environment})
        outcome = labelled._call("--progress", "plain", "build", *services, on_line=on_line)
        if outcome.code != 0:
            raise WattbedError(f"building {', '.join(services)} failed: {outcome.last_line}")

    def up(
        self, services: Sequence[str], counts: Mapping[str, int], on_line: Callable[[str], None], *, keep: bool
    ) -> Outcome:
        """Creates and starts containers of these services, and of no others that they only wait for.

        `keep`: none of the containers that are there is made anew. What a service depends on is part of what
        compose compares, so that it is not left out then.
        """
        scales = [part for name, count in counts.items() for part in ("--scale", f"{name}={count}")]
        how = "--no-recreate" if keep else "--no-deps"
        return self._call("up", "-d", "--no-build", how, *scales, *services, on_line=on_line)

    def variable(self, target: int) -> tuple[str, str | None]:
        """The variable that moves the port which a service knows as `target`, and the value it has by itself."""
        for file in self.files:
            text = file.read_text(encoding="utf-8")
            short = re.search(rf"\$\{{(\w+)(?::?-(\d+))?\}}:{target}\b", text)
            long = re.search(rf"target:\s*\"?{target}\"?\s*\n\s*published:\s*\"?\$\{{(\w+)(?::?-(\d+))?\}}", text)
            if found := short or long:
                return found[1], found[2]
        return "", None


def parse(model: Mapping[str, Any], folder: Path) -> Stack:
    """The Stack of what `docker compose config --format json` prints."""
    project = str(model["name"])
    secrets = {n: Path(s["file"]) for n, s in (model.get("secrets") or {}).items() if s.get("file")}
    services = {n: _service(n, s, project, secrets) for n, s in model["services"].items()}
    return Stack(project, folder, services)


def _service(name: str, model: Mapping[str, Any], project: str, secrets: Mapping[str, Path]) -> Service:
    deploy = model.get("deploy") or {}
    resources = deploy.get("resources") or {}
    mode = str(model.get("network_mode") or "")
    shared = mode.removeprefix("service:") if mode.startswith("service:") else None
    kind = (model.get("environment") or {}).get(KIND_VARIABLE)
    limit = model.get("mem_limit") or (resources.get("limits") or {}).get("memory")
    reserved = model.get("mem_reservation") or (resources.get("reservations") or {}).get("memory")
    depends = model.get("depends_on") or {}
    return Service(
        name,
        image=str(model.get("image") or f"{project}-{name}"),
        builds="build" in model,
        replicas=next((int(n) for n in (deploy.get("replicas"), model.get("scale")) if n is not None), 1),
        kind=str(kind) if kind and shared is None else None,
        shapes=shared if "NET_ADMIN" in (model.get("cap_add") or ()) else None,
        memory_limit_bytes=int(limit) if limit else None,
        memory_reserved_bytes=int(reserved) if reserved else None,
        ports=tuple(_port(p) for p in model.get("ports") or ()),
        needs=tuple(n for n, d in depends.items() if d.get("required", True)),
        mounts=tuple((str(v.get("source", "")), str(v["target"])) for v in model.get("volumes") or ()),
        secret_files=tuple(secrets[s["source"]] for s in model.get("secrets") or () if s["source"] in secrets),
    )


def _port(model: Mapping[str, Any]) -> Port:
    published = str(model.get("published") or "")
    return Port(
        host=str(model.get("host_ip") or "0.0.0.0"),
        published=int(published) if published.isdigit() and int(published) else None,
        target=int(model["target"]),
    )


def project_name(compose: Compose) -> str:
    """The name of the project, without asking the compose plugin where that can be avoided."""
    named = compose.project or compose.environment.get("COMPOSE_PROJECT_NAME")
    if named:
        return named
    text = compose.files[0].read_text(encoding="utf-8")
    said = re.search(r"^name:\s*(?:\$\{(\w+):-)?([\w-]+)\}?\s*$", text, re.MULTILINE)
    if said is None:
        return compose.stack().project
    return (compose.environment.get(said[1]) if said[1] else None) or said[2]


def reached_at(host: str) -> str:
    """The address at which this machine reaches what listens on `host`."""
    return "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
