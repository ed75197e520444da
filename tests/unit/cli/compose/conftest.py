"""A Docker engine and a `docker compose` that remember what they were asked, and hold containers as dictionaries."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound, NotFound

from cli.compose import Compose, Outcome

PROJECT = "bed"
FILE = """
name: bed
services:
  coordinator:
    ports: ["127.0.0.1:${WATTBED_PORT:-50551}:50551"]
  pi:
    environment: {WATTBED_KIND: raspberry-pi-5}
"""


def service(image: str, **more: Any) -> dict[str, Any]:
    return {"image": image, **more}


def port(target: int, published: int) -> dict[str, Any]:
    return {"host_ip": "127.0.0.1", "target": target, "published": str(published), "protocol": "tcp"}


def model(folder: Path) -> dict[str, Any]:
    """What `docker compose config` says: a coordinator, two kinds, one with a shaper, Prometheus and Grafana."""
    agent = {"image": "agent:1", "depends_on": {"coordinator": {"required": True}}}
    return {
        "name": PROJECT,
        "services": {
            "coordinator": service("coordinator:1", build={}, ports=[port(50551, 50551), port(9464, 9464)]),
            "pi": {
                **agent,
                "build": {},
                "environment": {"WATTBED_KIND": "raspberry-pi-5"},
                "mem_limit": "1000000000",
            },
            "pi-link": {
                "image": "agent:1",
                "environment": {"WATTBED_KIND": "raspberry-pi-5"},
                "network_mode": "service:pi",
                "cap_add": ["NET_ADMIN"],
                "depends_on": {"pi": {"required": True}},
            },
            "mini": {**agent, "environment": {"WATTBED_KIND": "mini-pc-n100"}},
            "relay": service("agent:1", depends_on={"pi-link": {"required": True}}),
            "prometheus": service("prom:1", ports=[port(9090, 9090)]),
            "grafana": service(
                "grafana:1",
                ports=[port(3000, 3000)],
                secrets=[{"source": "password"}],
                depends_on={"prometheus": {"required": True}},
            ),
        },
        "secrets": {"password": {"file": str(folder / "password.txt")}},
    }


@dataclass
class FakeContainer:
    """A container as the SDK shows it; `said` is its log."""

    engine: "FakeEngine"
    name: str
    labels: dict[str, str]
    attrs: dict[str, Any]
    said: bytes = b""
    done: list[str] = field(default_factory=list)
    stubborn: bool = False

    @property
    def id(self) -> str:
        return str(self.attrs["Id"])

    def logs(self, **options: Any) -> Any:
        lines = self.said.splitlines(keepends=True)
        tail = options.get("tail", "all")
        kept = lines if tail == "all" else lines[len(lines) - tail :]
        return iter([b"".join(kept)]) if options.get("stream") else b"".join(kept)

    def start(self) -> None:
        self.done.append("start")

    def restart(self, **options: Any) -> None:
        self.done.append("restart")

    def stop(self, **options: Any) -> None:
        self.engine.order.append(self.name)

    def remove(self, **options: Any) -> None:
        if self.stubborn:
            raise APIError("409", explanation="device is busy")
        self.engine.all.remove(self)


class FakeThings:
    def __init__(self, of: list[Any]) -> None:
        self._of = of

    def list(self, **options: Any) -> list[Any]:
        return list(self._of)


class FakeEngine:
    """Answers like docker.DockerClient; it is its own `containers`, `images` and `api`."""

    def __init__(self) -> None:
        self.all: list[FakeContainer] = []
        self.order: list[str] = []
        self.here = {"coordinator:1", "agent:1", "prom:1", "grafana:1"}
        self.pullable: set[str] = set()
        self.nets: list[Any] = []
        self.vols: list[Any] = []
        self.made: list[Mapping[str, Any]] = []
        self.shaper_ends_with = 0
        self.facts: dict[str, Any] = {"MemTotal": 16_000_000_000}
        self.containers = self.images = self.api = self
        self.networks, self.volumes = FakeThings(self.nets), FakeThings(self.vols)

    def info(self) -> dict[str, Any]:
        return self.facts

    def list(self, **options: Any) -> list[FakeContainer]:
        wanted = [w.split("=", 1) for w in [options.get("filters", {}).get("label")] if w]
        running = [c for c in self.all if options.get("all") or c.attrs["State"]["Status"] == "running"]
        return [c for c in running if all(c.labels.get(k) == v for k, v in wanted)]

    def get(self, name: str) -> Any:
        for container in self.all:
            if name in (container.id, container.name):
                return container
        if name in self.here:
            return type("Image", (), {"attrs": {"Size": 1_570_000_000, "Config": {"Labels": None}}})
        raise ImageNotFound(f"no {name}") if ":" in name else NotFound(f"no {name}")

    def pull(self, name: str, **options: Any) -> Sequence[dict[str, str]]:
        if name not in self.pullable:
            return [{"status": "looking"}, {"error": "no such host."}]
        self.here.add(name)
        return [{"status": "done"}]

    def create_container_from_config(self, body: Mapping[str, Any], name: str) -> dict[str, str]:
        self.made.append({"Name": name, **body})
        labels = body["Labels"]
        made = self.add(labels["com.docker.compose.service"], int(labels["com.docker.compose.container-number"]))
        made.attrs["HostConfig"]["NetworkMode"] = body["HostConfig"]["NetworkMode"]
        made.attrs["State"] |= {"Status": "running", "ExitCode": 0}
        return {"Id": made.id}

    def wait(self, id: str, **options: Any) -> dict[str, int]:
        """The shaper does its work while it is waited for."""
        self.get(id).attrs["State"] |= {"Status": "exited", "ExitCode": self.shaper_ends_with}
        self.get(id).said = b"no such qdisc\n" if self.shaper_ends_with else b""
        return {"StatusCode": self.shaper_ends_with}

    def add(
        self, service: str, number: int = 1, *, folder: str = "", project: str = PROJECT, **state: Any
    ) -> FakeContainer:
        """A container of a service; `state` changes what inspect says of it."""
        name = f"{project}-{service}-{number}"
        labels = {
            "com.docker.compose.project": project,
            "com.docker.compose.service": service,
            "com.docker.compose.container-number": str(number),
            "com.docker.compose.project.working_dir": folder,
        }
        told = {"Status": "running", "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00.5Z"} | state
        attrs = {
            "Id": f"id-of-{name}",
            "State": told,
            "Config": {"Image": "agent:1", "Cmd": ["shape"], "Labels": labels},
            "HostConfig": {"NetworkMode": "bridge", "ReadonlyRootfs": True, "RestartPolicy": {"Name": "no"}},
            "NetworkSettings": {"Ports": {}},
            "RestartCount": 0,
        }
        self.all.append(FakeContainer(self, name, labels, attrs))
        return self.all[-1]

    def start(self, id: str) -> None:
        self.get(id).start()


class FakeDocker:
    """The docker command: `up` makes containers in the engine, `broken` ones end with 1 at once."""

    def __init__(self, engine: FakeEngine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.model = model(folder)
        self.release = "2.26.1-4\n"
        self.calls: list[list[str]] = []
        self.broken: set[str] = set()
        self.up_says = ""

    def __call__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
    ) -> Outcome:
        words = list(arguments)
        self.calls.append(words)
        if "version" in words:
            return Outcome(0 if self.release else 1, self.release, "")
        if "config" in words:
            return Outcome(0, json.dumps(self.model), "")
        if "build" in words:
            built = {self.model["services"][w]["image"] for w in words[words.index("build") + 1 :]}
            self.engine.here |= built
        if "up" in words:
            self._up(words[words.index("up") + 1 :])
            return Outcome(1 if self.up_says or self.broken else 0, "", self.up_says)
        return Outcome(0, "", "")

    def _up(self, words: list[str]) -> None:
        scales = dict(w.split("=") for w in words if "=" in w)
        for name in (w for w in words if w in self.model["services"]):
            have = [c for c in self.engine.all if c.labels["com.docker.compose.service"] == name]
            wanted = int(scales.get(name, 1))
            for container in have[wanted:]:
                container.remove()
            for number in range(len(have) + 1, wanted + 1):
                self._start(name, number)
            for container in have:
                container.attrs["State"] |= {"Status": "running", "ExitCode": 0}
            self._end_what_ends(name)

    def _start(self, name: str, number: int) -> None:
        made = self.engine.add(name, number, folder=str(self.folder))
        if name == "coordinator":
            made.attrs["NetworkSettings"]["Ports"] = {"50551/tcp": [{"HostIp": "127.0.0.1", "HostPort": "50551"}]}
        if name == "grafana":
            made.attrs["NetworkSettings"]["Ports"] = {"3000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "3000"}]}
        if name == "pi-link":
            made.attrs["HostConfig"]["NetworkMode"] = "container:id-of-bed-pi-1"

    def _end_what_ends(self, name: str) -> None:
        for container in self.engine.all:
            if container.labels["com.docker.compose.service"] == name and name in {"pi-link", *self.broken}:
                container.attrs["State"] |= {"Status": "exited", "ExitCode": int(name in self.broken)}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def docker(engine: FakeEngine, tmp_path: Path) -> FakeDocker:
    return FakeDocker(engine, tmp_path)


@pytest.fixture
def compose(docker: FakeDocker, tmp_path: Path) -> Compose:
    (tmp_path / "docker-compose.yml").write_text(FILE)
    return Compose((tmp_path / "docker-compose.yml",), None, {}, docker)
