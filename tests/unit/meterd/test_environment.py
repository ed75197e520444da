"""The environment of the meter of a host."""

from pathlib import Path

import pytest

from edge_agent.meterd.__main__ import read
from fleet.errors import BadRequest

GOOD = {"WATTBED_STATE": "state"}


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WATTBED_STATE", "", "WATTBED_STATE is not set"),
        ("WATTBED_METRICS", "9465", "WATTBED_METRICS = '9465': not host:port"),
        ("WATTBED_BASELINE", "rapl:package-0", "WATTBED_BASELINE: 'rapl:package-0' is not source=watts"),
        ("WATTBED_BASELINE", "a=-1", "WATTBED_BASELINE: 'a=-1' is not source=watts"),
        ("WATTBED_BASELINE", "=3", "WATTBED_BASELINE: '=3' is not source=watts"),
        ("WATTBED_SAMPLE_HZ", "1e9", "WATTBED_SAMPLE_HZ = '1e9': above 0, at most 50"),
        ("WATTBED_SAMPLE_HZ", "fast", "WATTBED_SAMPLE_HZ = 'fast': above 0, at most 50"),
    ],
)
def test_a_wrong_variable_is_an_error_that_says_what_is_wrong(variable, value, message):
    with pytest.raises(BadRequest, match=message):
        read(GOOD | {variable: value})


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(BadRequest, match="WATTBED_STATE is not set.*WATTBED_METRICS"):
        read({"WATTBED_METRICS": "x"})


def test_lists_and_idle_power_are_read():
    found = read(
        GOOD | {"WATTBED_LEVERS": "cpufreq, nvml_power,", "WATTBED_BASELINE": "rapl:package-0=12.5,dram=1"}
    )
    assert (found.levers, found.idle_watts) == (("cpufreq", "nvml_power"), {"rapl:package-0": 12.5, "dram": 1.0})


def test_nothing_may_be_set_and_the_hosts_own_trees_are_read_unless_it_is_said():
    found = read(GOOD)
    assert (found.levers, found.host_sys, found.host_proc, found.metrics) == (
        (),
        Path("/sys"),
        Path("/proc"),
        None,
    )
