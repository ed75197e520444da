"""`wattbed reproduce`: keys that others read, figures and tables, and refusals."""

import csv
import json

import pytest
from typer.testing import CliRunner

from cli.app import app

pytestmark = pytest.mark.slow


def invoke(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def test_the_published_table_comes_out_with_all_its_keys():
    found = json.loads(invoke("green-quantized-fl", "--as-published", "--json").output)
    points = [*found["points"].values(), *found["exhaustive"].values(), found["baseline_32bit"]]
    assert list(found["points"]) == ["energy", "time", "nash", "sum"]
    assert list(found["exhaustive"]) == ["energy", "nash", "sum"]
    assert {frozenset(p) for p in points} == {frozenset(("I", "K", "m", "n", "rounds", "joules"))}
    assert round(found["saving"], 3) == 0.505


def test_fast_solvers_and_brute_force_agree_on_the_published_table():
    found = json.loads(invoke("green-quantized-fl", "--json").output)
    assert {k: found["points"][k] for k in found["exhaustive"]} == found["exhaustive"]


def test_every_scheme_says_whether_it_is_feasible_and_on_demand_meets_every_demand():
    schemes = json.loads(invoke("on-demand-diffusion", "--seed", 3, "--json").output)["schemes"]
    assert {s["feasible"] for s in schemes.values()} <= {True, False}
    assert schemes["on-demand"]["every_demand_met"]


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    first, again, other = (invoke("on-demand-diffusion", "--seed", seed, "--json").output for seed in (1, 1, 2))
    assert (first == again, first == other) == (True, False)


def test_a_scheme_that_is_not_feasible_names_device_and_constraint():
    schemes = json.loads(invoke("on-demand-diffusion", "--seed", 0, "--devices", 200, "--json").output)["schemes"]
    refused = schemes["unquantised"]
    assert (refused["feasible"], refused["constraint"], refused["reason"].startswith("device ")) == (
        False,
        "upload",
        True,
    )


def test_figures_and_their_data_are_written(tmp_path):
    invoke("green-quantized-fl", "-o", tmp_path)
    invoke("on-demand-diffusion", "-o", tmp_path)
    rows = list(csv.DictReader((tmp_path / "green-quantized-fl.csv").open()))
    pictures = [(tmp_path / f"{n}.png").read_bytes()[:4] for n in ("green-quantized-fl", "on-demand-diffusion")]
    assert (rows[0]["joules"][:6], pictures) == ("13.420", [b"\x89PNG"] * 2)


def test_a_target_out_of_reach_says_how_many_bits_it_would_need():
    assert "needs" in str(invoke("green-quantized-fl", "--eps", 1e-15).exception)
