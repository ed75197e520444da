"""The command against a real engine: on the testbed that is up, and on a small one of its own that breaks."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.kinds import kind

KIND = "mini-pc-n100"
SMALL = """
name: {project}
services:
  coordinator:
    image: debian:bookworm-slim
    init: true
    command: [sleep, "600"]
    ports: ["127.0.0.1:${{WATTBED_PORT:-50551}}:50551"]
    volumes: [kept:/kept]
  pi:
    image: debian:bookworm-slim
    init: true
    command: [sh, -c, "test ! -e /kept/broken || {{ echo no room for the log; exit 7; }}; sleep 600"]
    environment: {{WATTBED_KIND: raspberry-pi-5}}
    volumes: [kept:/kept]
    depends_on: [coordinator]
volumes: {{kept: }}
"""

Wattbed = Callable[..., subprocess.CompletedProcess[str]]


def command(folder: Path, environment: Mapping[str, str]) -> Wattbed:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli.app", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


@pytest.fixture
def wattbed(stack: Any, tmp_path: Path) -> Wattbed:
    """The command in an empty folder, which finds the project of the testbed that is up."""
    return command(tmp_path, stack.environment)


@pytest.fixture
def project(engine: Any) -> Any:
    """A name for a project, of which nothing is left in the end whatever happens."""
    name = f"wattbed-cli-{uuid.uuid4().hex[:8]}"
    own = {"label": f"com.docker.compose.project={name}"}
    yield name
    for container in engine.containers.list(all=True, filters=own):
        container.remove(force=True)
    for thing in (*engine.networks.list(filters=own), *engine.volumes.list(filters=own)):
        thing.remove()


@pytest.fixture
def small(project: str, tmp_path: Path) -> Wattbed:
    """The command in the folder of a testbed of two services, which starts in seconds."""
    (tmp_path / "docker-compose.yml").write_text(SMALL.format(project=project))
    unset = {k: v for k, v in os.environ.items() if not k.startswith(("WATTBED_", "COMPOSE_"))}
    return command(tmp_path, unset)


def qdiscs(engine: Any, container: Any, image: str) -> str:
    """The queues in a container's network namespace, looked at from outside."""
    shown: bytes = engine.containers.run(
        image, ["qdisc", "show"], entrypoint="tc", network_mode=f"container:{container.id}", remove=True
    )
    return shown.decode()


def rates(queues: str) -> set[str]:
    """The rates of the token buckets among the queues that tc prints."""
    return set(re.findall(r"qdisc tbf .* rate (\S+)", queues))


def test_every_replica_of_a_scaled_kind_is_behind_its_link(wattbed: Wattbed, stack: Any) -> None:
    try:
        said = wattbed("scale", f"{KIND}=2", "--json")
        assert said.returncode == 0, said.stderr
        replicas = stack.containers(KIND)
        image = replicas[0].attrs["Config"]["Image"]
        link = kind(KIND).link
        declared = {f"{link.rate_up_bps / 1e6:g}Mbit", f"{link.rate_down_bps / 1e6:g}Mbit"}
        shaped = [rates(qdiscs(stack.engine, container, image)) for container in replicas]
        shapers = stack.containers(f"{KIND}-link")
        assert (json.loads(said.stdout)["agents"], shaped, len(shapers)) == ({KIND: 2}, [declared, declared], 2)
        host = shapers[1].attrs["HostConfig"]
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], ["NET_ADMIN"], False)
    finally:
        again = wattbed("scale", f"{KIND}=1")
    assert (again.returncode, len(stack.containers(KIND)), len(stack.containers(f"{KIND}-link"))) == (0, 1, 1)


def test_the_doctor_finds_engine_testbed_and_how_the_meter_sees_the_counters(wattbed: Wattbed) -> None:
    found = {c["subject"]: c for c in json.loads(wattbed("doctor", "--json").stdout)["checks"]}
    words = ("docker engine", "docker compose", "cgroup", "testbed", "counters in containers")
    assert ({found[w]["finding"] for w in words}, "/host/sys" in found["counters in containers"]["detail"]) == (
        {"ok"},
        True,
    )


def test_the_logs_of_a_service_are_its_own(wattbed: Wattbed) -> None:
    lines = [
        json.loads(line) for line in wattbed("logs", "coordinator", "--tail", "3", "--json").stdout.splitlines()
    ]
    assert ({line["part"] for line in lines}, 1 <= len(lines) <= 3) == ({"coordinator-1"}, True)


def test_a_port_that_the_running_testbed_has_is_named_with_its_holder(small: Wattbed, stack: Any) -> None:
    port = stack.coordinator.rpartition(":")[2]
    said = small("up", "--port", port)
    holder = stack.containers("coordinator")[0].name
    assert (said.returncode, f"port {port} on 127.0.0.1" in said.stderr, holder in said.stderr) == (1, True, True)


def test_a_half_started_testbed_is_named_mended_and_taken_away(small: Wattbed, engine: Any, project: str) -> None:
    assert small("up", "--port", "0").returncode == 0
    agent, coordinator = (engine.containers.get(f"{project}-{name}-1") for name in ("pi", "coordinator"))
    agent.exec_run(["touch", "/kept/broken"])
    agent.restart(timeout=1)
    agent.wait(timeout=20)
    broken = small("up")
    coordinator.exec_run(["rm", "/kept/broken"])
    mended = small("up")
    agent.kill()
    ended = small("down", "--purge", "--json")
    assert (broken.returncode, f"{project}-pi-1 exited with 7 ({project}-pi-1 said: no room for the log)") == (
        1,
        broken.stderr.partition("half-started: ")[2].partition(";")[0],
    )
    assert (mended.returncode, f"mended: {project}-pi-1 exited with 7" in mended.stdout) == (0, True)
    own = {"label": f"com.docker.compose.project={project}"}
    left = [
        *engine.containers.list(all=True, filters=own),
        *engine.networks.list(filters=own),
        *engine.volumes.list(filters=own),
    ]
    assert (ended.returncode, len(json.loads(ended.stdout)["ended"]), left) == (0, 2, [])


def test_another_folder_with_a_project_of_the_same_name_is_refused(
    small: Wattbed, project: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small("up", "--port", "0")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "docker-compose.yml").write_text(SMALL.format(project=project))
    said = command(elsewhere, dict(os.environ))("up", "--port", "0")
    assert (said.returncode, f"{project!r} was started from {tmp_path}" in said.stderr) == (2, True)
