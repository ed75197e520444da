import runpy
from pathlib import Path

import pytest

from fleet import kinds
from fleet.errors import BadExperiment, BadRequest

FIT = Path(__file__).parents[3] / "bench" / "fit_kinds.py"

ONE = """
[toaster]
description = "a toaster"
cores = 1.0
memory_bytes = 1024
source = "[assumed] a kitchen"
[toaster.link]
rate_up_bps = 1.0
rate_down_bps = 1.0
delay_s = 0.0
jitter_s = 0.0
loss = 0.0
source = "[assumed] a kitchen"
[toaster.energy]
scope = "wall"
idle_watts = 1.0
idle_source = "[assumed] a kitchen"
watts_per_core = 800.0
watts_per_core_source = "[published] its label"
interval = 0.1
interval_source = "[assumed] a kitchen"
"""


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones():
    with pytest.raises(BadRequest, match=r"unknown device kind 'pi'; known are raspberry-pi-5, .*epyc-8024p"):
        kinds.kind("pi")


def test_a_mistyped_key_is_an_error_that_names_kind_and_key():
    with pytest.raises(BadExperiment, match=r"x\.toml: toaster: .*unknown key energy\.idle_wats; known are"):
        kinds.read(ONE.replace("idle_watts", "idle_wats"), "x.toml")


def test_a_constant_must_say_whether_it_was_published_or_assumed():
    with pytest.raises(BadExperiment, match=r"energy\.watts_per_core_source"):
        kinds.read(ONE.replace("[published] its label", "its label"), "x.toml")


def test_power_is_idle_power_plus_power_per_busy_core():
    assert kinds.read(ONE, "x.toml")["toaster"].energy.watts(0.5) == 401.0


@pytest.mark.parametrize(
    ("kind", "cpu"),
    [
        ("xeon-e5-2620v3", "Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz"),
        ("epyc-8024p", "AMD EPYC 8024P 8-Core Processor"),
    ],
)
def test_constants_of_servers_are_what_the_fit_gives_and_the_interval_covers_its_spread(kind, cpu):
    fitted = runpy.run_path(str(FIT))["fit"]()[cpu]
    energy = kinds.kind(kind).energy
    assert (energy.idle_watts, energy.watts_per_core, energy.interval >= fitted["interval"]) == (
        round(fitted["idle_watts"], 2),
        round(fitted["watts_per_core"], 3),
        True,
    )
