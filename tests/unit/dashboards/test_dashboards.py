import json
import re
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import __main__ as make
from dashboards import queries

ROOT = Path(__file__).parents[3]
BUILT = queries.built()
PANELS = [(d.title, panel) for d in BUILT.values() for panel in queries.panels(d)]
TARGETS = [(d, panel.title, target.expr) for d, panel in PANELS for target in panel.targets]
GRAFANA = ROOT / "dashboards" / "grafana"
LAPTOP = 768
"""Pixels; a row of the grid takes 38 of them."""


def test_the_committed_json_is_what_the_code_makes():
    assert make.drifted() == []


@pytest.mark.parametrize("uid", BUILT)
def test_the_json_is_what_the_types_of_the_sdk_read_and_write(uid):
    register_default_plugins()
    text = (GRAFANA / f"{uid}.json").read_text()
    assert make.as_json(Dashboard.from_json(json.loads(text))) == text


def test_every_panel_has_a_title_of_its_own_a_description_and_a_unit():
    wrong = [
        (d, p.title)
        for d, p in PANELS
        if not (p.title and len(p.description or "") > 30 and p.field_config.defaults.unit and p.targets)
    ]
    names = [(d, p.title) for d, p in PANELS]
    assert (wrong, len(set(names))) == ([], len(names))


@pytest.mark.parametrize("uid", BUILT)
def test_no_two_panels_overlap_and_three_columns_are_the_most(uid):
    places = [(p.title, p.grid_pos) for p in BUILT[uid].panels]
    overlapping = [
        (a, b)
        for (a, p), (b, q) in combinations(places, 2)
        if p.x < q.x + q.w and q.x < p.x + p.w and p.y < q.y + q.h and q.y < p.y + p.h
    ]
    unreadable = [t for t, p in places if p.w < 8 or p.x + p.w > 24 or p.h * 38 > LAPTOP / 2]
    assert (overlapping, unreadable) == ([], [])


@pytest.mark.parametrize("uid", BUILT)
def test_ids_of_panels_differ(uid):
    ids = [p.id_val for p in BUILT[uid].panels]
    assert (len(set(ids)), None in ids) == (len(ids), False)


@pytest.mark.parametrize("uid", BUILT)
def test_variables_that_are_used_are_defined_and_the_other_way_round(uid):
    dashboard = BUILT[uid]
    variables = dashboard.templating.list_val
    text = [t.expr for p in queries.panels(dashboard) for t in p.targets] + [v.query for v in variables]
    used = {name for t in text for name in re.findall(r"\$([A-Za-z]\w*)", t)}
    assert used == {v.name for v in variables}


def test_everything_asks_the_one_data_source_that_is_provisioned():
    provisioned = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    asked = {s.uid for _, p in PANELS for s in (p.datasource, *(t.datasource for t in p.targets))}
    asked |= {v.datasource.uid for d in BUILT.values() for v in d.templating.list_val}
    assert asked == {s["uid"] for s in provisioned} == {"wattbed-prometheus"}


def test_dashboards_lead_to_each_other():
    tags = {uid: set(d.tags) for uid, d in BUILT.items()}
    leads = {
        uid: {other for link in d.links for other in BUILT if set(link.tags) <= tags[other]}
        for uid, d in BUILT.items()
    }
    assert leads == {uid: set(BUILT) for uid in BUILT}


def test_grafana_reads_the_folder_that_compose_lays_the_dashboards_in():
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/wattbed.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounted = dict(v.split(":")[:2] for v in compose["services"]["grafana"]["volumes"])
    assert mounted["./dashboards/grafana"] == provider["options"]["path"]
    assert mounted["./dashboards/grafana/provisioning"] == "/etc/grafana/provisioning"


@pytest.mark.parametrize(("dashboard", "panel", "expr"), TARGETS)
def test_no_query_adds_up_qualities_or_scopes(dashboard, panel, expr):
    """Whatever carries joules or watts of a quality is asked for by both labels, or kept apart by both."""
    about_energy = re.search(r"(energy_joules|measured_joules|power_watts|train_watts)", expr)
    if about_energy and re.search(r"\b(sum|max|avg)\b", expr) and "wattbed_rail" not in expr:
        of_run = re.sub(r"\* on \(experiment\) group_left \(run\) max by \(experiment, run\) \([^)]*\)", "", expr)
        if re.search(r"\b(sum|max|avg)\b", of_run):
            assert "quality" in of_run
            assert "scope" in of_run


def test_what_may_be_empty_is_there_and_says_why():
    names = {(d, p.title) for d, p in PANELS}
    assert set(queries.may_be_empty()) <= names
    assert all(len(reason) > 20 for reason in queries.may_be_empty().values())


def test_every_variable_of_every_query_is_filled_in():
    asked = queries.queries("demo", "wall", "estimated", device="agent-1")
    assert len(asked) == len(TARGETS)
    assert [a.expr for a in asked if re.search(r"\$[A-Za-z]", a.expr)] == []


def test_a_variable_without_a_value_is_an_error():
    with pytest.raises(KeyError, match="colour"):
        queries.filled('up{colour="$colour"}', {})
