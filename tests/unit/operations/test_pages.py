"""The pages of a process, and those who would keep them busy."""

import json
import socket
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from coordinator.readiness import Readiness
from edge_agent.health import Health
from fleet import pages
from fleet.errors import AddressInUse


@pytest.fixture
def served():
    """Serves pages, as often as it is called; the port."""
    servers = []

    def serve(checks):
        there = {"/healthz": pages.alive, "/readyz": pages.ready(checks)}
        server, port = pages.serve("127.0.0.1", 0, there)
        servers.append(server)
        return port

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_ready_says_which_check_is_not_well(served):
    port = served(lambda: {"disk": "3 MiB are free, 64 are needed", "loop": None})
    status, body = get(port, "/readyz")
    assert (status, json.loads(body)) == (
        503,
        {"ready": False, "checks": {"disk": "3 MiB are free, 64 are needed", "loop": "ok"}},
    )


def test_healthy_and_ready_are_200_and_another_path_names_those_there_are(served):
    port = served(lambda: {"loop": None})
    assert [get(port, path)[0] for path in ("/healthz", "/readyz", "/")] == [200, 200, 404]
    assert get(port, "/elsewhere")[1] == "/healthz, /readyz are here\n"


def test_more_connections_that_say_nothing_than_there_are_places_keep_nobody_out(served):
    port = served(lambda: {})
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(pages.MOST_CONNECTIONS + 20)]
    for s in silent:
        s.send(b"GET /hea")
    assert get(port, "/healthz")[0] == 200
    for s in silent:
        s.close()


def test_a_port_that_is_taken_is_said(served):
    port = served(lambda: {})
    with pytest.raises(AddressInUse, match=f"cannot serve HTTP on 127.0.0.1:{port}"):
        pages.serve("127.0.0.1", port, {})


@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        ({}, set()),
        ({"refused_s": 5.0}, {"log"}),
        ({"waiting": 20_000}, {"inbox"}),
    ],
)
def test_a_coordinator_is_ready_when_its_log_is_written(tmp_path, state, wrong):
    loop = SimpleNamespace(**{"refused_s": None, "waiting": 0} | state)
    found = Readiness(loop, tmp_path).checks()
    assert {name for name, problem in found.items() if problem} == wrong


def test_a_coordinator_whose_disk_is_nearly_full_whose_loop_stands_or_that_stops_is_not(tmp_path, monkeypatch):
    readiness = Readiness(SimpleNamespace(refused_s=None, waiting=0), tmp_path)
    monkeypatch.setattr("coordinator.readiness.free_bytes", lambda folder: 1 << 20)
    readiness._turned_s -= 10
    readiness.stopping = True
    assert {name for name, problem in readiness.checks().items() if problem} == {"stopping", "loop", "disk"}


def test_an_agent_is_ready_when_it_is_attached(tmp_path):
    health = Health(tmp_path)
    before = health.checks()["attached"]
    health.attached = lambda: True
    assert (before, health.checks()["attached"]) == ("not attached to the coordinator", None)
