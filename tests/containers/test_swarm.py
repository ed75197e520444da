"""deploy/swarm.yml on a swarm of this one engine."""

import json
import subprocess
import urllib.request

import pytest
from docker.errors import APIError

from cli.client import Operator
from coordinator.enrolment.__main__ import prepare

KINDS = {"raspberry-pi-5", "jetson-orin-nano", "mini-pc-n100", "gpu-workstation"}
NAME = "wattbed-test-swarm"
SECRET = "wattbed-grafana-password"
PORTS = ("WATTBED_PORT", "WATTBED_JOIN_PORT", "WATTBED_HTTP_PORT", "WATTBED_PROMETHEUS_PORT")


@pytest.fixture
def deployed(stack, root, free_ports, tmp_path):
    """The stack on a swarm made for it, Grafana left out; gives the ports of the coordinator and of Prometheus."""
    engine = stack.engine
    if engine.info()["Swarm"]["LocalNodeState"] != "inactive":
        pytest.skip("this engine is in a swarm already, whose nodes and secrets are not for a test to change")
    gateway_was_there = bool(engine.networks.list(names=["docker_gwbridge"]))
    engine.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    try:
        (node,) = engine.nodes.list()
        node.update(node.attrs["Spec"] | {"Labels": {"wattbed.state": "true", "wattbed.agents": "true"}})
        engine.secrets.create(name=SECRET, data=b"for a test")
        for path in prepare(tmp_path, ("coordinator:50552",)):
            engine.secrets.create(name=f"wattbed-{path.name}", data=path.read_bytes())
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        command = ["docker", "stack", "deploy", "--resolve-image", "never", "-c", "deploy/swarm.yml", NAME]
        environment = stack.environment | {n: str(p) for n, p in ports.items()} | {"WATTBED_GRAFANA": "0"}
        subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, timeout=120)
        yield ports
    finally:
        subprocess.run(["docker", "stack", "rm", NAME], check=False, capture_output=True, timeout=120)
        own = {"label": f"com.docker.stack.namespace={NAME}"}
        stack.until(
            "the end of the swarm's containers", lambda: not engine.containers.list(all=True, filters=own), 60
        )
        for volume in engine.volumes.list(filters=own):
            volume.remove(force=True)
        engine.swarm.leave(force=True)
        if not gateway_was_there:
            stack.until("the end of the swarm's bridge", lambda: _removed(engine, "docker_gwbridge"), 30)


def _removed(engine, network: str) -> bool:
    try:
        for found in engine.networks.list(names=[network]):
            found.remove()
    except APIError:
        return False
    return True


async def test_swarm_attaches_a_device_of_each_kind_that_prometheus_reaches_and_completes_a_run(
    stack, deployed, noop
):
    coordinator = f"127.0.0.1:{deployed['WATTBED_PORT']}"
    prometheus = f"http://127.0.0.1:{deployed['WATTBED_PROMETHEUS_PORT']}"

    def scraped() -> bool:
        try:
            with urllib.request.urlopen(
                f"{prometheus}/api/v1/query?query=up%7Bjob%3D%22agents%22%7D%3D%3D1", timeout=5
            ) as answer:
                return {r["metric"]["device_kind"] for r in json.load(answer)["data"]["result"]} == KINDS
        except OSError:
            return False

    stack.until("a target of each kind", scraped, 180)
    async with Operator(coordinator) as operator:
        run = await operator.start(noop("swarm", rounds=2), key="swarm")
        async for _ in operator.watch(run):
            pass
        ended = await operator.find(run)
    assert (ended.phase, ended.round) == ("completed", 2)
