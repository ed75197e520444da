"""The agent as a process: its environment, its exit codes, and what it does not import."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from edge_agent.__main__ import read
from fleet.errors import BadRequest

pytestmark = pytest.mark.slow

GOOD = {
    "WATTBED_COORDINATOR": "127.0.0.1:1",
    "WATTBED_DEVICE": "pi-1",
    "WATTBED_KIND": "raspberry-pi-5",
    "WATTBED_STATE": "state",
}


def test_every_missing_variable_is_named():
    with pytest.raises(BadRequest, match="not set: WATTBED_KIND, WATTBED_STATE"):
        read({key: GOOD[key] for key in ("WATTBED_COORDINATOR", "WATTBED_DEVICE")})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WATTBED_COORDINATOR", "localhost", "WATTBED_COORDINATOR = 'localhost': not host:port"),
        ("WATTBED_METRICS", ":9100", "WATTBED_METRICS = ':9100': not host:port"),
        ("WATTBED_METRICS", "0.0.0.0:99999", "not host:port"),
        ("WATTBED_THREADS", "0", "WATTBED_THREADS = '0': not a number of threads"),
        ("WATTBED_KIND", "toaster", "WATTBED_KIND: unknown device kind 'toaster'; known are raspberry-pi-5"),
    ],
)
def test_a_wrong_variable_is_an_error_that_says_what_is_wrong(variable, value, message):
    with pytest.raises(BadRequest, match=message):
        read({**GOOD, variable: value})


def test_metrics_are_served_only_when_asked_for():
    assert (read(GOOD).metrics, read({**GOOD, "WATTBED_METRICS": "0.0.0.0:9100"}).metrics) == (
        None,
        ("0.0.0.0", 9100),
    )


def environment(**variables):
    return {**os.environ, **variables}


def test_a_wrong_environment_is_exit_code_2_and_one_line():
    variables = {key: value for key, value in os.environ.items() if not key.startswith("WATTBED_")}
    ended = subprocess.run(
        [sys.executable, "-m", "edge_agent"], env=variables, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        "edge_agent: not set: WATTBED_COORDINATOR, WATTBED_DEVICE, WATTBED_KIND, WATTBED_STATE\n",
    )


async def test_sigterm_ends_the_stream_and_the_process_with_exit_code_0(fleet, tmp_path):
    variables = environment(
        WATTBED_COORDINATOR=f"127.0.0.1:{fleet.port}",
        WATTBED_DEVICE="pi-1",
        WATTBED_KIND="raspberry-pi-5",
        WATTBED_STATE=str(tmp_path),
        WATTBED_METRICS="127.0.0.1:0",
        WATTBED_THREADS="1",
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "edge_agent", env=variables)
    await fleet.until(lambda: fleet.hellos, within_s=20)
    process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(process.wait(), 10)
    await fleet.until(lambda: fleet.ended)
    assert (code, fleet.ended, fleet.hellos[0].metrics_address.startswith("127.0.0.1:")) == (0, 1, True)


def test_an_agent_that_only_moves_bytes_never_imports_torch():
    code = (
        "import sys, edge_agent.agent, edge_agent.metrics; from workloads import protocol;"
        "protocol.load('noop', {'model_bytes': 64, 'tensors': 1}, None).initial(0); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
