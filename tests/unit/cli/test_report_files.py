import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cli import html, plots
from cli import report as reports
from fleet.domain import Capabilities, Equipment, LeverOutcome, LinkInfo, Quality, RunReport

pytestmark = pytest.mark.slow

Wattbed = Callable[..., Any]


class Outline(HTMLParser):
    """What a page refers to, and whether its tags close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [v for k in ("src", "href", "xlink:href") if (v := given.get(k))]
        self.ids += [v for v in [given.get("id")] if v]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


@pytest.fixture
def page(report: RunReport) -> str:
    return html.page(report, {report.rounds[0].grid_sha256 or "": b"\x89PNG grid"})


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    foreign = [link for link in Outline(page).links if not link.startswith(("#", "data:image/png;base64,"))]
    assert (foreign, re.findall(r"@import|url\((?!#)", page)) == ([], [])


def test_the_plots_of_a_page_do_not_share_ids(page: str) -> None:
    ids = Outline(page).ids
    assert len(ids) == len(set(ids))


def test_every_tag_of_the_page_is_closed(page: str) -> None:
    assert Outline(page).open == []


def test_what_was_not_measured_is_a_dash_in_the_page(page: str) -> None:
    rows = re.findall(r"<tr>.*?</tr>", page)
    unmeasured = next(r for r in rows if "initial" in r)
    assert (unmeasured.count("—"), "0 J" in page) == (5, False)


def test_words_of_others_cannot_become_markup(report: RunReport) -> None:
    hostile = replace(report, run=replace(report.run, reason="<script>alert(1)</script>"))
    page = html.page(hostile, {})
    assert ("<script" in page, "<b>" in page) == (False, False)


def test_a_grid_that_is_gone_is_said_to_be(report: RunReport) -> None:
    assert "no longer has grid abababababab" in html.page(report, {})


def test_a_run_without_any_round_still_has_a_page(report: RunReport) -> None:
    assert "demo-1" in html.page(replace(report, rounds=()), {})


def test_qualities_are_never_stacked_in_one_plot(report: RunReport) -> None:
    first = report.rounds[1]
    measured = tuple(
        replace(
            d,
            phases=tuple(
                replace(p, readings=(replace(p.readings[0], quality=Quality.MEASURED),)) for p in d.phases
            ),
        )
        for d in first.devices
    )
    mixed = replace(report, rounds=(replace(first, devices=measured), report.rounds[2]))
    assert [what for what, _ in plots.joules_by_device(mixed)] == ["measured board", "estimated board"]


def test_the_csv_has_a_row_per_reading_and_leaves_empty_what_is_missing(report: RunReport) -> None:
    rows = list(csv.DictReader(io.StringIO(reports.as_csv(report))))
    last = rows[-1]
    assert (len(rows), last["phase"], last["joules"], last["source"], last["quality"]) == (
        12,
        "upload",
        "",
        "model",
        "estimated",
    )


def test_a_device_that_reported_no_phase_still_has_a_row(report: RunReport) -> None:
    first = report.rounds[1]
    silent = replace(first, devices=(replace(first.devices[0], phases=(), status="lost"),))
    (row,) = csv.DictReader(io.StringIO(reports.as_csv(replace(report, rounds=(silent,)))))
    assert (row["device"], row["status"], row["joules"], row["phase"]) == ("agent-1", "lost", "", "")


def test_a_folder_gets_the_report_in_every_form_and_the_grids(wattbed: Wattbed, tmp_path: Path) -> None:
    said = wattbed("report", "latest", "-o", "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    expected = ["grid-000.png", "grid-002.png", "report.csv", "report.html", "report.json"]
    assert (said.code, names) == (0, expected)


def test_a_written_grid_is_the_coordinators_bytes(wattbed: Wattbed, tmp_path: Path, operator: Any) -> None:
    wattbed("report", "latest", "-o", "out")
    assert [(tmp_path / "out" / "grid-002.png").read_bytes()] == list(operator.blobs.values())


def test_the_json_report_totals_by_quality_and_source(wattbed: Wattbed) -> None:
    (total,) = json.loads(wattbed("report", "demo-1", "--json").out)["totals"]["energy"]
    assert (total["quality"], total["source"], total["joules"], total["missing"]) == (
        "estimated",
        "model",
        46.0,
        1,
    )


def test_the_terminal_report_names_quality_scope_and_source_beside_joules(wattbed: Wattbed) -> None:
    out = wattbed("report", "demo-1").out
    assert "24 J (estimated, board: model)" in out


def test_a_file_that_cannot_be_written_is_named(wattbed: Wattbed, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    said = wattbed("report", "demo-1", "--csv", "taken/x.csv")
    assert (said.code, "cannot write taken/x.csv" in said.err) == (2, True)


def test_the_csv_says_which_rows_are_in_a_total(report: RunReport) -> None:
    first = report.rounds[1].devices[0]
    model = first.phases[0].readings[0]
    plug = replace(model, source="plug:a", component="wall", scope="wall", quality=Quality.MEASURED)
    rail = replace(plug, source="ina3221:VDD_SOC", component="rail", scope="module")
    package = replace(plug, source="rapl:package-0", component="cpu", scope="package")
    phases = (replace(first.phases[0], readings=(model, package, plug, rail)),)
    one = replace(report, rounds=(replace(report.rounds[1], devices=(replace(first, phases=phases),)),))
    rows = csv.DictReader(io.StringIO(reports.as_csv(one)))
    assert [(r["source"], r["in_total"]) for r in rows] == [
        ("model", "yes"),
        ("rapl:package-0", "no"),
        ("plug:a", "yes"),
        ("ina3221:VDD_SOC", "no"),
    ]


def test_the_report_says_what_is_emulated_and_what_came_of_the_levers(wattbed: Wattbed, operator: Any) -> None:
    report: RunReport = operator.report
    link = LinkInfo(5e6, 20e6, 0.03, 0.005, 0.01, "tbf", "relay", "netfilter")
    able = Capabilities("raspberry-pi-5", "Cortex-A76", 4, 8 << 30, "aarch64", "0", cpu_quota=2.0, link=link)
    set_ = (
        LeverOutcome("cpu_max_hz", 1e9, 9e8, "the nearest step"),
        LeverOutcome("gpu_watts", 5.0, None, "too low"),
    )
    first = report.rounds[1].devices[0]
    levered = replace(first, phases=(replace(first.phases[0], levers=set_),))
    rounds = (replace(report.rounds[1], devices=(levered,)),)
    operator.report = replace(report, rounds=rounds, equipment=(Equipment("agent-1", able),))
    words = [re.sub("<[^>]+>", " ", html.page(operator.report, {})), wattbed("report", "demo-1").out]
    for text in (" ".join(w.split()) for w in words):
        assert "agent-1 raspberry-pi-5 Cortex-A76 none 2 CPUs" in text
        assert "agent-1 tbf relay netfilter constant 5 Mbit/s 20 Mbit/s 30 ms 5 ms 1 %" in text
        assert "agent-1 cpu_max_hz the nearest step 1e+09 9e+08 1" in text
        assert "agent-1 gpu_watts refused: too low 5 — 1" in text
