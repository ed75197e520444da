"""`wattbed reproduce flexgen` and `offloading`: keys that others read, the order of the schemes, and refusals."""

import csv
import json

import pytest
from typer.testing import CliRunner

from cli.app import app
from optimizer.generation.quality import as_numbers
from optimizer.reproduce_service import assumed_laws

pytestmark = pytest.mark.slow


def invoke(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


@pytest.fixture(scope="module")
def flexgen():
    return json.loads(invoke("flexgen", "--requests", 6, "--json").output)


@pytest.fixture(scope="module")
def offloading():
    return json.loads(invoke("offloading", "--users", 6, "--json").output)


def test_both_laws_of_energy_are_named_and_all_schemes_are_there(flexgen):
    tables = flexgen["schemes"]
    assert list(tables) == ["kappa f^2", "constant power"]
    assert [list(t) for t in tables.values()] == [list(tables["constant power"])] * 2
    assert {"full width", "random width", "step reduction only", "width per step and steps"} <= set(
        tables["kappa f^2"]
    )


def test_of_the_schemes_that_meet_every_demand_ours_takes_the_fewest_joules(flexgen):
    for table in flexgen["schemes"].values():
        enough = {name: s["joules"] for name, s in table.items() if s["met"] == flexgen["requests"]}
        assert min(enough, key=enough.get) == "width per step and steps"


def test_equal_quality_takes_about_half_the_joules_as_published(flexgen):
    assert flexgen["published"]["saving_up_to"] == 2.0
    assert 1.8 < flexgen["equal_quality"]["constant power"] < 2.2


def test_laws_of_a_measured_model_may_be_given(tmp_path, flexgen):
    file = tmp_path / "laws.json"
    file.write_text(json.dumps(as_numbers(assumed_laws()) | {"source": "measured"}))
    found = json.loads(invoke("flexgen", "--requests", 6, "--laws", file, "--json").output)
    assert (found["laws"], found["schemes"]) == ("measured", flexgen["schemes"])


def test_a_file_that_holds_no_laws_is_refused(tmp_path):
    (tmp_path / "laws.json").write_text("[1, 2]")
    assert "holds no quality laws" in str(invoke("flexgen", "--laws", tmp_path / "laws.json").exception)


def test_the_price_method_is_worth_what_dynamic_programming_finds_and_more_than_any_baseline(offloading):
    worth = {name: s["utility"] for name, s in offloading["schemes"].items() if s["feasible"]}
    best = worth.pop("dynamic programming")
    assert worth["price method"] == pytest.approx(best, rel=0.005)
    assert max(worth.values()) == worth["price method"]


def test_the_published_error_by_steps_is_beside_the_law_that_is_used(offloading):
    law = offloading["error_law"]
    assert (law["published"]["1000"], list(law["points"])) == (0.951, list(law["published"]))


@pytest.mark.parametrize(("paper", "many"), [("flexgen", "--requests"), ("offloading", "--users")])
def test_the_table_the_figure_and_its_data_are_made(paper, many, tmp_path):
    said = invoke(paper, many, 4, "--seed", 2, "-o", tmp_path).output
    rows = list(csv.DictReader((tmp_path / f"{paper}.csv").open()))
    assert (tmp_path / f"{paper}.png").read_bytes()[:4] == b"\x89PNG"
    assert len(rows) > 5
    assert "nothing was run" in said


def test_another_seed_gives_other_requests(flexgen):
    other = json.loads(invoke("flexgen", "--requests", 6, "--seed", 1, "--json").output)
    assert other["schemes"] != flexgen["schemes"]
