import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import ledger_view as view
from fleet.domain import DeviceReport, EnergyReading, Metric, Phase, PhaseReport, Prediction, Quality, RunReport

Device = Callable[..., DeviceReport]
Reading = Callable[..., EnergyReading]

READINGS = st.lists(
    st.builds(
        EnergyReading,
        source=st.sampled_from(["model", "rapl", "plug"]),
        component=st.sampled_from(["cpu", "gpu"]),
        scope=st.just("board"),
        quality=st.sampled_from(Quality),
        joules=st.none() | st.floats(0, 1e6),
        low_joules=st.none() | st.floats(0, 1e6),
    )
)


@given(READINGS)
def test_a_sum_holds_the_joules_of_its_own_quality_and_source_only(readings: list[EnergyReading]) -> None:
    for s in view.energy(readings):
        mine = [r for r in readings if (r.quality, r.source, r.component) == (s.quality, s.source, s.component)]
        known = [r.joules for r in mine if r.joules is not None]
        assert (s.joules, s.missing) == (math.fsum(known) if known else None, len(mine) - len(known))


@given(READINGS)
def test_no_reading_is_lost_or_counted_twice(readings: list[EnergyReading]) -> None:
    total = math.fsum(s.joules or 0.0 for s in view.energy(readings))
    assert total == pytest.approx(math.fsum(r.joules or 0.0 for r in readings))


def test_a_source_that_gave_nothing_has_no_joules_instead_of_zero(make_reading: Reading) -> None:
    (found,) = view.energy([make_reading(None), make_reading(None)])
    assert (found.joules, found.missing) == (None, 2)


def test_a_bound_that_one_reading_lacks_is_not_known(make_reading: Reading) -> None:
    (found,) = view.energy([make_reading(2.0), replace(make_reading(2.0), low_joules=None)])
    assert (found.low_joules, found.high_joules) == (None, 6.0)


def test_predicted_stands_beside_what_it_took(make_device: Device) -> None:
    found = view.compare(3, make_device("a", 8, 8.0, 1.0, 1.0))
    assert (found.joules, found.joules_error, found.seconds, found.seconds_error) == (10.0, 0.25, 4.5, 0.125)


def test_an_assignment_with_an_unmeasured_phase_is_not_compared(make_device: Device) -> None:
    found = view.compare(3, make_device("a", 8, 8.0, 1.0, None))
    assert (found.joules, found.quality, found.joules_error) == (None, None, None)


def best(device: DeviceReport) -> tuple[Quality, float | None] | None:
    found = view.best_total(device)
    return found and (found.quality, found.joules)


def test_the_measured_joules_are_preferred_where_every_phase_has_them(
    make_reading: Reading, make_device: Device
) -> None:
    both = (make_reading(5.0), make_reading(4.0, Quality.MEASURED, "rapl"))
    phases = (PhaseReport(Phase.TRAIN, 1.0, 1, both),)
    assert best(replace(make_device("a", 8), phases=phases)) == (Quality.MEASURED, 4.0)


def in_scopes(make_reading: Reading, *joules: tuple[str, str, float | None]) -> tuple[EnergyReading, ...]:
    """Measured readings: (source, scope, joules)."""
    return tuple(replace(make_reading(j, Quality.MEASURED, source), scope=scope) for source, scope, j in joules)


def test_a_report_with_a_plug_and_a_processor_counts_what_the_wall_sees_once(
    make_reading: Reading, make_device: Device, report: RunReport
) -> None:
    both = in_scopes(make_reading, ("rapl:package-0", "package", 4.0), ("plug:a", "wall", 9.0))
    device = replace(make_device("a", 8), phases=(PhaseReport(Phase.TRAIN, 1.0, 1, both),))
    round_ = replace(report.rounds[1], devices=(device,))
    mine = replace(report, rounds=(round_,))
    found = [(t["quality"], t["scope"], t["joules"]) for t in view.as_json(mine)["totals"]["joules"]]
    assert found == [(Quality.MEASURED, "wall", 9.0)]


def test_devices_with_meters_of_other_scopes_have_totals_of_their_own(
    make_reading: Reading, make_device: Device, report: RunReport
) -> None:
    def device(name: str, source: str, scope: str) -> DeviceReport:
        found = in_scopes(make_reading, (source, scope, 4.0))
        return replace(make_device(name, 8), phases=(PhaseReport(Phase.TRAIN, 1.0, 1, found),))

    two = (device("a", "rapl", "package"), device("b", "plug", "wall"))
    mine = replace(report, rounds=(replace(report.rounds[1], devices=two),))
    found = view.totals(view.all_devices(mine), view.choices(mine))
    assert [(t.scope, t.joules) for t in found] == [("wall", 4.0), ("package", 4.0)]


def test_the_totals_of_the_rounds_add_up_to_that_of_the_run(report: RunReport) -> None:
    totals = view.as_json(report)["totals"]
    assert sum(t["joules"] for t in totals["joules_by_round"]) == totals["joules"][0]["joules"]


def test_a_prediction_is_held_against_the_joules_it_was_fitted_to(
    make_reading: Reading, make_device: Device
) -> None:
    both = in_scopes(make_reading, ("rapl:package-0", "package", 4.0), ("plug:a", "wall", 9.0))
    told = Prediction(5.0, 1.0, samples=3, quality=Quality.MEASURED, scope="package")
    device = replace(make_device("a", 8), phases=(PhaseReport(Phase.TRAIN, 1.0, 1, both),), predicted=told)
    found = view.compare(1, device)
    assert (found.joules, found.scope, found.sources, found.joules_error) == (
        4.0,
        "package",
        ("rapl:package-0",),
        -0.2,
    )


def test_a_phase_that_only_the_model_saw_makes_the_whole_an_estimate(
    make_reading: Reading, make_device: Device
) -> None:
    both = (make_reading(5.0), make_reading(4.0, Quality.MEASURED, "rapl"))
    phases = (PhaseReport(Phase.TRAIN, 1.0, 1, both), PhaseReport(Phase.UPLOAD, 1.0, 1, (make_reading(1.0),)))
    assert best(replace(make_device("a", 8), phases=phases)) == (Quality.ESTIMATED, 6.0)


def test_idling_is_not_part_of_an_assignment(make_reading: Reading, make_device: Device) -> None:
    phases = (PhaseReport(Phase.TRAIN, 1.0, 1, (make_reading(5.0),)), PhaseReport(Phase.IDLE, 9.0, 1))
    idler = replace(make_device("a", 8), phases=phases)
    assert (view.busy_seconds(idler), best(idler)) == (1.0, (Quality.ESTIMATED, 5.0))


def test_nothing_predicted_gives_no_error(make_device: Device) -> None:
    found = view.compare(1, replace(make_device("a", 8, 1.0, 1.0, 1.0), predicted=Prediction(None, None)))
    assert (found.joules, found.joules_error, found.seconds_error) == (3.0, None, None)


def test_the_untrained_model_stands_at_zero_joules_and_the_curve_only_goes_on(report: RunReport) -> None:
    points = [(p.round, p.joules, p.value) for p in view.curve(report, "fid")]
    assert points == [(0, 0.0, 90.0), (2, 46.0, 30.0)]


def test_a_lost_device_is_not_compared_but_its_joules_count(report: RunReport) -> None:
    first = report.rounds[1]
    lost = replace(report, rounds=(replace(first, devices=(replace(first.devices[0], status="lost"),)),))
    (total,) = view.energy(view.readings(view.all_devices(lost)))
    assert (view.comparisons(lost), total.joules) == ((), 8.0)


def test_bytes_are_the_counted_ones(report: RunReport) -> None:
    assert view.counted(view.all_devices(report)) == view.Bytes(40_000, 44_000, 160_000)


def test_a_phase_without_a_source_of_joules_is_found(report: RunReport) -> None:
    assert view.without_source(report) == ("round 2, agent-2, upload",)


def test_the_json_report_keeps_what_is_missing_as_null_and_names_every_joule(report: RunReport) -> None:
    upload = view.as_json(report)["rounds"][2]["devices"][1]["phases"][2]["readings"][0]
    assert (upload["joules"], upload["source"], upload["quality"]) == (None, "model", "estimated")


@given(st.floats())
def test_any_number_makes_a_report_that_strict_json_readers_take(value: float) -> None:
    from fleet.domain import RoundReport, RunSummary

    summary = RunSummary("r", "e", "completed", 0, 1, 0.0, 0)
    odd = RunReport(summary, "{}", (RoundReport(0, "initial", 0.0, metrics=(Metric("fid", value),)),))

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    (back,) = json.loads(json.dumps(view.as_json(odd)), parse_constant=refuse)["rounds"]
    assert str(float(back["metrics"][0]["value"])) == str(value)
