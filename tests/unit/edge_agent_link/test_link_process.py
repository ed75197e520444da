"""`python -m edge_agent.link`: its environment, its exit codes, its end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

from edge_agent.link.__main__ import RelayEnvironment, read_relay
from edge_agent.link.relay import Port
from fleet.errors import BadRequest
from fleet.kinds import kind

pytestmark = pytest.mark.slow

GOOD = {"WATTBED_UPSTREAM": "coordinator:50551", "WATTBED_RELAYS": "raspberry-pi-5=0.0.0.0:50561"}


def test_the_environment_is_read_whole():
    environ = GOOD | {
        "WATTBED_RELAYS": "raspberry-pi-5=0.0.0.0:50561, jetson-orin-nano=[::]:50562",
        "WATTBED_LINK_TRACE": "jetson-orin-nano=walk:sigma=0.1",
        "WATTBED_RESET_EVERY_S": "90",
        "WATTBED_METRICS": "0.0.0.0:9466",
    }
    assert read_relay(environ) == RelayEnvironment(
        ("coordinator", 50551),
        (
            Port("raspberry-pi-5", "0.0.0.0", 50561, kind("raspberry-pi-5").link, "constant"),
            Port("jetson-orin-nano", "::", 50562, kind("jetson-orin-nano").link, "walk:sigma=0.1"),
        ),
        90.0,
        ("0.0.0.0", 9466),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"WATTBED_UPSTREAM": "", "WATTBED_RELAYS": ""}, "not set: WATTBED_UPSTREAM, WATTBED_RELAYS"),
        ({"WATTBED_UPSTREAM": "coordinator"}, "WATTBED_UPSTREAM: 'coordinator' is not host:port"),
        ({"WATTBED_RELAYS": "0.0.0.0:1"}, "WATTBED_RELAYS: '0.0.0.0:1' is not KIND=host:port"),
        ({"WATTBED_RELAYS": "raspberry-pi-5=1"}, "WATTBED_RELAYS: '1' is not host:port"),
        ({"WATTBED_RELAYS": "toaster=0.0.0.0:1"}, "unknown device kind 'toaster'; known are raspberry-pi-5"),
        (
            {"WATTBED_RELAYS": "mini-pc-n100=a:1,mini-pc-n100=a:2"},
            "WATTBED_RELAYS names a kind twice: mini-pc-n100, mini-pc-n100",
        ),
        ({"WATTBED_LINK_TRACE": "fog"}, "link trace 'fog': not constant"),
        ({"WATTBED_RESET_EVERY_S": "0"}, "WATTBED_RESET_EVERY_S = '0': not a number of seconds above 0"),
        ({"WATTBED_METRICS": "here"}, "WATTBED_METRICS: 'here' is not host:port"),
    ],
)
def test_a_wrong_variable_is_an_error_that_says_what_is_wrong(wrong, message):
    with pytest.raises(BadRequest, match=message):
        read_relay(GOOD | wrong)


def environment(**variables):
    return {key: value for key, value in os.environ.items() if not key.startswith("WATTBED_")} | variables


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("relay", "edge_agent.link: not set: WATTBED_UPSTREAM, WATTBED_RELAYS\n"),
        ("shape", "edge_agent.link: not set: WATTBED_KIND\n"),
    ],
)
def test_a_wrong_environment_is_exit_code_2_and_one_line(command, says):
    ended = subprocess.run(
        [sys.executable, "-m", "edge_agent.link", command],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, says)


async def test_a_relay_serves_its_metrics_and_ends_with_exit_code_0_on_sigterm_while_it_is_used():
    with socket.create_server(("127.0.0.1", 0)) as upstream, socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        ports = [free.getsockname()[1] for free in (one, two)]
        one.close()
        two.close()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_agent.link", "relay"),
            env=environment(
                WATTBED_UPSTREAM=f"127.0.0.1:{upstream.getsockname()[1]}",
                WATTBED_RELAYS=f"mini-pc-n100=127.0.0.1:{ports[0]}",
                WATTBED_METRICS=f"127.0.0.1:{ports[1]}",
            ),
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        said = b""
        while b"mini-pc-n100 on 127.0.0.1:" not in said:
            line = await asyncio.wait_for(process.stderr.readline(), 20)
            assert line, said
            said += line
        _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        reader, asking = await asyncio.open_connection("127.0.0.1", ports[1])
        asking.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        metrics = (await reader.read(-1)).decode()
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 10)
        writer.close()
        assert (code, 'wattbed_relay_connections{kind="mini-pc-n100"}' in metrics) == (0, True)
