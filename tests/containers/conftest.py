"""The emulated testbed of docker-compose.yml, brought up once for all tests of this folder."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from cli.client import Operator
from fleet.domain import LoggedEvent
from fleet.experiment import Experiment, parse

ROOT = Path(__file__).parents[2]
BASE_IMAGES = ("python:3.11-slim-bookworm", "debian:bookworm-slim", "prom/prometheus:v2.42.0")
UP_TIMEOUT_S = 900
"""With nothing built yet, on two cores that others use as well."""
WITHOUT = {"grafana"}
"""Services whose image cannot be had where there is no registry."""
PORTS = (
    "WATTBED_PORT",
    "WATTBED_JOIN_PORT",
    "WATTBED_HTTP_PORT",
    "WATTBED_PROMETHEUS_PORT",
    "WATTBED_GRAFANA_PORT",
)


@dataclass(frozen=True)
class Stack:
    """A running testbed.

    `coordinator` and `http` are where gRPC (host:port) and the coordinator's pages (URL) are, `prometheus` is a URL,
    `engine` the Docker SDK's client, `environment` what `docker compose` and `wattbed` need to find this project.
    """

    project: str
    coordinator: str
    http: str
    prometheus: str
    engine: docker.DockerClient
    environment: Mapping[str, str]

    def compose(self, *args: str, check: bool = True, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """`docker compose ARGS` for this project; what it said is in the error when it fails and `check` is set."""
        done = subprocess.run(
            ["docker", "compose", *args], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"docker compose {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def containers(self, service: str) -> list[Any]:
        """The containers of a service, running or not, by number."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        found = self.engine.containers.list(all=True, filters={"label": labels})
        return sorted(found, key=lambda c: int(c.labels["com.docker.compose.container-number"]))

    def everything(self) -> list[Any]:
        """All containers of the project, running or not."""
        return self.engine.containers.list(
            all=True, filters={"label": f"com.docker.compose.project={self.project}"}
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        url = f"{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=10) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def until(self, what: str, true: Callable[[], object], timeout_s: float, poll_s: float = 0.5) -> float:
        """Waits until `true()` is, and gives the seconds it took; TimeoutError names `what`."""
        started_s = time.monotonic()
        while time.monotonic() - started_s < timeout_s:
            if true():
                return time.monotonic() - started_s
            time.sleep(poll_s)
        raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")

    def attached(self, count: int, timeout_s: float = 60) -> None:
        """Waits until that many devices are attached to the coordinator."""

        def enough() -> bool:
            with urllib.request.urlopen(f"{self.http}/sd", timeout=10) as answer:
                return len(json.load(answer)) == count

        self.until(f"{count} attached devices", enough, timeout_s)

    def shape(self, kind: str) -> None:
        """Shapes the link of the first container of a kind again: a container that was started anew is not."""
        self.compose("up", "--detach", "--no-deps", "--force-recreate", f"{kind}-link")
        (shaper,) = self.containers(f"{kind}-link")
        assert shaper.wait(timeout=30)["StatusCode"] == 0, shaper.logs()

    async def begin(self, experiment: Experiment) -> str:
        """Starts a run."""
        async with Operator(self.coordinator) as operator:
            return await operator.start(experiment, key=uuid.uuid4().hex)

    async def event(self, run: str, kind: str, contains: str = "", timeout_s: float = 120) -> LoggedEvent:
        """The first event of this kind, told the moment it is in the log."""
        async with Operator(self.coordinator) as operator, asyncio.timeout(timeout_s):
            async for message in operator.watch(run):
                if isinstance(message, LoggedEvent) and message.kind == kind and contains in message.json:
                    return message
        raise AssertionError(f"{run} ended without {kind} {contains}")

    async def story(self, run: str) -> list[LoggedEvent]:
        """All events of a run that has ended."""
        async with Operator(self.coordinator) as operator:
            return [m async for m in operator.watch(run) if isinstance(m, LoggedEvent)]

    def left(self) -> list[str]:
        """Containers, networks and volumes of this project."""
        own = {"label": f"com.docker.compose.project={self.project}"}
        things = (
            *self.engine.containers.list(all=True, filters=own),
            *self.engine.networks.list(filters=own),
            *self.engine.volumes.list(filters=own),
        )
        return [f"{type(t).__name__} {t.name}" for t in things]


@pytest.fixture(scope="session")
def engine():
    """The Docker engine; skips where there is none, or where it lacks an image and no registry is to be had."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    missing = [name for name in BASE_IMAGES if not client.images.list(name)]
    for name in missing:
        try:
            client.images.pull(*name.split(":"))
        except DockerException as error:
            pytest.skip(f"image {name} is not here and cannot be pulled: {error}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """Finds that many free ports on loopback."""
    return _free_ports


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="session")
def stack(engine):
    """All services but Grafana, healthy, in a project of their own; taken down with its volumes at the end."""
    project = f"wattbed-test-{uuid.uuid4().hex[:8]}"
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    environment = os.environ | {name: str(port) for name, port in ports.items()} | {"WATTBED_PROJECT": project}
    bed = Stack(
        project,
        f"127.0.0.1:{ports['WATTBED_PORT']}",
        f"http://127.0.0.1:{ports['WATTBED_HTTP_PORT']}",
        f"http://127.0.0.1:{ports['WATTBED_PROMETHEUS_PORT']}",
        engine,
        environment,
    )
    services = sorted(set(bed.compose("config", "--services").stdout.split()) - WITHOUT)
    volumes: set[str] = set()
    try:
        bed.compose("up", "--build", "--detach", "--wait", *services, timeout_s=UP_TIMEOUT_S)
        yield bed
    finally:
        volumes = {m["Name"] for c in bed.everything() for m in c.attrs["Mounts"] if m["Type"] == "volume"}
        bed.compose("down", "--volumes", "--timeout", "3", check=False)
    left = [*bed.left(), *(v.name for v in engine.volumes.list() if v.name in volumes)]
    assert left == [], "what `docker compose down -v` left"


@dataclass(frozen=True)
class Ran:
    """A run that has ended, and the Unix time at which it was about to begin."""

    run: str
    began_s: float


@pytest.fixture(scope="session")
def emulated(stack):
    """experiments/emulated.toml, run once as a user would."""
    stack.attached(4)
    began_s = time.time()
    done = subprocess.run(
        [sys.executable, "-c", "from cli.app import main; main()", "run", "experiments/emulated.toml", "--json"],
        cwd=ROOT,
        env=stack.environment | {"WATTBED_COORDINATOR": stack.coordinator},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    async def latest() -> str:
        async with Operator(stack.coordinator) as operator:
            return (await operator.find("latest")).run

    return Ran(asyncio.run(latest()), began_s)


@pytest.fixture(scope="session")
def noop():
    """Makes an experiment in which four devices move bytes at 4, 8, 16 and 32 bits and compute nothing."""

    def make(name: str, rounds: int = 3, step_s: float = 0.0, train_steps: int = 1, **round: Any) -> Experiment:
        settings = {"mode": "sync", "min_devices": 4, "devices": 4, "quorum": 4, "deadline_s": 120} | round
        return parse(
            Experiment,
            {
                "name": name,
                "seed": 11,
                "rounds": rounds,
                "shards": 4,
                "workload": {"name": "noop", "options": {"model_bytes": 400_000, "tensors": 5, "step_s": step_s}},
                "policy": {
                    "name": "fixed",
                    "options": {
                        "bits_up": [4, 8, 16, 32],
                        "bits_down": 8,
                        "precision": "fp32",
                        "width": 1.0,
                        "train_steps": train_steps,
                    },
                },
                "round": settings,
                "server": {"optimizer": "fedavg", "lr": 1.0},
                "quantizer": {"block_size": 512, "error_feedback": True},
                "evaluate": {"every": 1},
            },
            where=name,
        )

    return make
