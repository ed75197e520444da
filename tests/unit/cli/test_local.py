"""Real processes on loopback; the coordinator and the agents are small ones that import nothing heavy."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cli import local
from fleet.errors import AddressInUse, BadRequest, Unreachable, WattbedError

pytestmark = pytest.mark.slow

COORDINATOR = """
import os, pathlib, time
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from fleet.v1 import operator_pb2, operator_pb2_grpc

STATE = pathlib.Path(os.environ["WATTBED_STATE"])

class Operator(operator_pb2_grpc.OperatorServicer):
    def ListDevices(self, request, context):
        names = [p.parent.name for p in STATE.parent.glob("*/here")]
        devices = [operator_pb2.DeviceSummary(device=name, attached=True) for name in names]
        return operator_pb2.ListDevicesResponse(devices=devices)

server = grpc.server(ThreadPoolExecutor(2))
operator_pb2_grpc.add_OperatorServicer_to_server(Operator(), server)
alive = health.HealthServicer()
alive.set("", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(alive, server)
server.add_insecure_port(os.environ["WATTBED_LISTEN"])
server.start()
time.sleep(60)
"""
AGENT = """
import os, pathlib, time
(pathlib.Path(os.environ["WATTBED_STATE"]) / "here").touch()
time.sleep(60)
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)
BOOM = "import sys; sys.exit('no room for the log')"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = str(Path(local.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    for name, text in {"coordinator": COORDINATOR, "edge_agent": AGENT, "stubborn": STUBBORN}.items():
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path / "state"
    local.down(tmp_path / "state", grace_s=0.2)


def up(
    state: Path, agents: int = 2, port: int = 0, timeout_s: float = 20.0
) -> tuple[local.Testbed, tuple[str, ...]]:
    return local.up(
        state,
        agents=agents,
        kinds=["a", "b"],
        data=None,
        port=port,
        http_port=0,
        ready_timeout_s=timeout_s,
        counters=lambda: False,
    )


def running(state: Path) -> list[str]:
    testbed = local.load(state)
    return [p.name for p in testbed.alive] if testbed else []


def test_what_is_up_stays_up_and_what_died_is_started_again(state: Path) -> None:
    _, first = up(state)
    testbed, second = up(state)
    victim = psutil.Process(next(p.pid for p in testbed.processes if p.name == "agent-2"))
    victim.kill()
    victim.wait()
    _, third = up(state)
    assert (first, second, third) == (("coordinator", "agent-1", "agent-2"), (), ("agent-2",))


def test_up_returns_when_every_agent_is_attached_and_down_ends_them_all(state: Path) -> None:
    up(state)
    attached = sorted(p.parent.name for p in state.glob("*/here"))
    assert (attached, sorted(local.down(state)), running(state)) == (
        ["agent-1", "agent-2"],
        ["agent-1", "agent-2", "coordinator"],
        [],
    )


def test_a_port_in_use_is_named_and_nothing_is_left_running(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"port {port} on 127.0.0.1 is in use"):
            up(state, port=port)
    assert running(state) == []


def test_a_coordinator_that_ends_at_once_is_quoted_and_nothing_is_left_running(
    state: Path, tmp_path: Path
) -> None:
    (tmp_path / "coordinator.py").write_text(BOOM)
    with pytest.raises(WattbedError, match=r"coordinator ended at once; .*no room for the log"):
        up(state)
    assert running(state) == []


def test_who_never_attaches_is_not_waited_for_forever_and_nothing_is_left_running(
    state: Path, tmp_path: Path
) -> None:
    (tmp_path / "edge_agent.py").write_text("import time; time.sleep(60)")
    with pytest.raises(Unreachable, match=r"waited 2 s for "):
        up(state, agents=1, timeout_s=2.0)
    assert running(state) == []


def test_a_testbed_that_runs_otherwise_than_asked_is_left_as_it_is(state: Path) -> None:
    up(state, agents=2)
    with pytest.raises(BadRequest, match="agent-2 run here already and were not asked for"):
        up(state, agents=1)
    assert len(running(state)) == 3


def test_who_ignores_sigterm_is_killed_after_the_grace(state: Path) -> None:
    spec = local.Spec("agent-1", "stubborn", {"WATTBED_STATE": str(state / "agent-1")})
    process = local.start(state, spec)
    while not Path(process.log).read_text():
        pass
    assert (local.end([process], grace_s=0.2), process.process()) == (("agent-1",), None)


def test_a_process_may_be_started_by_another_command(state: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    by = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(before))
    process = local.start(state, local.Spec("agent-1", "stubborn", {"WATTBED_STATE": str(state / "agent-1")}, by))
    while not Path(process.log).read_text():
        pass
    assert (local.end([process], grace_s=0.2), int(before.read_text())) == (("agent-1",), process.pid)


def test_a_pid_that_was_given_away_again_is_not_ended(state: Path) -> None:
    spec = local.Spec("agent-1", "edge_agent", {"WATTBED_STATE": str(state / "agent-1")})
    process = local.start(state, spec)
    stranger = replace(process, created_s=process.created_s - 100)
    ended = local.end([stranger])
    assert (ended, process.process() is not None, local.end([process])) == ((), True, ("agent-1",))


def test_down_keeps_the_data_and_purge_takes_only_what_is_ours(state: Path) -> None:
    up(state)
    (state / "mine.txt").write_text("not wattbed's")
    local.down(state)
    kept = sorted(p.name for p in state.iterdir())
    local.down(state, purge=True)
    assert (kept, [p.name for p in state.iterdir()]) == (
        ["agent-1", "agent-2", "coordinator", "logs", "mine.txt", "testbed.json"],
        ["mine.txt"],
    )


def test_a_damaged_testbed_file_is_named(tmp_path: Path) -> None:
    (tmp_path / local.FILE).write_text(json.dumps({"address": "x"}))
    with pytest.raises(BadRequest, match=r"testbed\.json is not a testbed file"):
        local.load(tmp_path)


def test_agents_take_turns_at_the_kinds_and_share_the_cores(tmp_path: Path) -> None:
    agents = local.specs(tmp_path, "h:1", "h:2", ["a", "b"], 3, None)[1:]
    threads = {s.facts["WATTBED_THREADS"] for s in agents}
    assert ([s.facts["WATTBED_KIND"] for s in agents], len(threads)) == (["a", "b", "a"], 1)


def test_where_there_are_counters_all_agents_ask_one_meter(tmp_path: Path) -> None:
    _, meter, *agents = local.specs(tmp_path, "h:1", "h:2", ["a"], 2, None, meter=True)
    assert (meter.name, meter.module) == ("meter", "edge_agent.meterd")
    assert {a.facts["WATTBED_METER"] for a in agents} == {meter.facts["WATTBED_METER"]}
