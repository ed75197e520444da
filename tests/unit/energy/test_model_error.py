import runpy
from pathlib import Path

import pytest

from fleet.kinds import kinds

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return runpy.run_path(str(ROOT / "bench" / "model_error.py"))


def test_the_table_in_the_docs_is_what_the_script_computes(bench):
    written = (ROOT / "docs" / "energy.md").read_text().partition(bench["BEGIN"])[2].partition(bench["END"])[0]
    assert written.strip() == bench["page"](bench["score"]())


def test_a_kinds_interval_holds_for_nine_in_ten_readings_of_loads_its_fit_has_not_seen(bench):
    scores = bench["score"]()
    seen = {kind: scores[cpu]["load level"].nine_in_ten for cpu, kind in bench["KINDS"].items()}
    assert {kind: error for kind, error in seen.items() if error > kinds()[kind].energy.interval} == {}


def test_what_is_left_out_of_the_fit_does_not_help_it(bench):
    """A processor ten times as hungry as before changes its own error and not the line that predicts it."""
    found = bench["awake"](bench["readings"]())
    cpu = next(iter(bench["DESIGN_WATTS"]))
    hungry = [bench["Reading"](one.cpu, one.load, one.watts * (10 if one.cpu == cpu else 1)) for one in found]
    before, after = (bench["processor_left_out"](some, cpu).bias for some in (found, hungry))
    assert 1 + after == pytest.approx((1 + before) / 10)
