from dataclasses import replace

import pytest

from cli.follow import device_table, is_settled
from cli.ledger_view import choices
from cli.options import console
from fleet.domain import Phase, Progress, RoundReport, RunReport


def going(report: RunReport) -> RunReport:
    return replace(report, run=replace(report.run, ended_at_s=None))


@pytest.mark.parametrize(
    ("number", "change", "settled"),
    [
        pytest.param(0, {}, True, id="evaluated"),
        pytest.param(0, {"metrics": ()}, False, id="not yet evaluated"),
        pytest.param(1, {}, True, id="closed, and not to be evaluated"),
        pytest.param(1, {"status": "open"}, False, id="open"),
        pytest.param(1, {"status": "failed"}, True, id="failed"),
        pytest.param(2, {"metrics": ()}, False, id="the last one is always evaluated"),
    ],
)
def test_a_round_is_told_once_nothing_more_is_expected_of_it(
    report: RunReport, number: int, change: dict[str, object], settled: bool
) -> None:
    round_: RoundReport = replace(report.rounds[number], **change)
    assert is_settled(round_, going(report)) is settled


def test_when_the_run_has_ended_every_round_is_told(report: RunReport) -> None:
    assert is_settled(replace(report.rounds[1], status="open"), report)


def test_the_live_table_shows_what_a_working_device_does_and_what_it_cost(
    report: RunReport, capsys: pytest.CaptureFixture[str]
) -> None:
    round_ = report.rounds[2]
    working = replace(round_, devices=(replace(round_.devices[0], status="assigned"), round_.devices[1]))
    console().print(device_table(working, {"agent-1": Progress("demo-1", 2, Phase.TRAIN, 3, 60)}, choices(report)))
    _, first, second = capsys.readouterr().out.splitlines()
    assert (first.split()[:4], first.split()[-4:], second.split()[3]) == (
        ["agent-1", "4↑", "32↓", "train"],
        ["J", "(estimated,", "board:", "model)"],
        "arrived",
    )
