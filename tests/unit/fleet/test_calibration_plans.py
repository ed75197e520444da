import math
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.calibration_plans import at_joining, check, options_json, plan, standard
from fleet.errors import BadRequest
from fleet.experiment import PRECISIONS, Experiment, parse, read

DEMO = Path(__file__).parents[3] / "experiments" / "demo.toml"


def test_the_standard_workload_is_that_of_the_demo_so_that_it_is_predicted():
    demo = read(DEMO)
    assert plan(demo).options_json == plan().options_json == options_json(standard().workload)
    assert (plan(demo).shards, plan(demo).block_size) == (plan().shards, plan().block_size)


def test_options_that_went_through_json_are_spelled_the_same():
    demo = read(DEMO)
    there = parse(Experiment, Experiment.model_validate_json(demo.model_dump_json()).model_dump(), "demo")
    assert options_json(there.workload) == options_json(demo.workload)


def test_a_full_plan_repeats_often_enough_for_a_spread_and_idles_long_enough():
    full = plan()
    assert (full.repeats >= 5, full.idle_s >= 30, full.quick) == (True, True, False)


def test_a_quick_plan_says_so_and_asks_for_the_same_settings():
    full, quick = plan(), plan(quick=True)
    assert quick.quick
    assert quick.repeats < full.repeats
    assert (quick.widths, quick.precisions, quick.bits) == (full.widths, PRECISIONS, full.bits)


@pytest.mark.parametrize("quick", [False, True])
def test_the_plans_there_are_can_be_carried_out(quick):
    check(plan(quick=quick))


def test_joining_is_measured_in_a_budget_that_begins_with_what_a_round_of_the_demo_needs():
    joining, demo = at_joining(), read(DEMO).policy.options
    check(joining)
    assert joining.budget_s is not None
    assert (joining.widths[0], joining.precisions[0]) == (demo["width"], demo["precision"])


@pytest.mark.parametrize("budget_s", [0.0, -1.0, math.inf, math.nan])
def test_a_budget_that_is_no_time_is_refused(budget_s):
    with pytest.raises(BadRequest, match="budget_s"):
        check(replace(at_joining(), budget_s=budget_s))
