"""The spans of a run whose history was recorded, and of one that a restart falls into."""

import json
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from coordinator.events import from_json
from coordinator.tracing import Tracer, from_environment

HISTORY = Path(__file__).parents[2] / "histories" / "demo.jsonl"


@pytest.fixture(scope="module")
def events():
    lines = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    return [from_json(line["kind"], json.dumps(line["body"])) for line in lines]


def spans(events, restart_at=None):
    """The spans of `events`, by a tracer that is made anew before event number `restart_at`."""
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter, at_once=True)
    for number, event in enumerate(events):
        if number == restart_at:
            tracer = Tracer(exporter, at_once=True)
            for before in events[:number]:
                tracer.remember(before)
        tracer.tell(event)
    return exporter.get_finished_spans()


def test_there_is_a_span_for_the_run_each_round_each_phase_and_each_transfer(events):
    made = spans(events)
    kinds = [type(e).__name__ for e in events]
    names = [s.name.split()[0] for s in made]
    assert names.count("run") == 1
    assert names.count("round") == kinds.count("ModelAggregated")
    assert names.count("transfer") == kinds.count("BytesMoved")
    assert len([n for n in names if n in ("download", "train", "quantize", "upload")]) == kinds.count(
        "EnergyMeasured"
    )
    assert len({s.context.span_id for s in made}) == len(made)


def test_phases_are_in_their_round_and_rounds_in_their_run(events):
    made = spans(events)
    by_id = {s.context.span_id: s for s in made}
    assert len({s.context.trace_id for s in made}) == 1
    for span in made:
        above = by_id[span.parent.span_id].name.split()[0] if span.parent else None
        assert above == {"run": None, "round": "run"}.get(span.name.split()[0], "round")


def test_a_span_has_the_times_and_joules_of_its_window(events):
    measured = next(e.measured for e in events if type(e).__name__ == "EnergyMeasured")
    span = next(s for s in spans(events) if s.name == measured.phase.value)
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(measured.seconds, abs=1e-5)
    assert span.attributes["wattbed.device"]
    assert any(name.startswith("wattbed.joules.") for name in span.attributes)


def test_after_a_restart_the_same_trace_goes_on(events):
    def told(made):
        return [(s.name, s.context.trace_id, s.context.span_id, s.start_time, s.end_time) for s in made]

    assert told(spans(events, restart_at=len(events) // 2)) == told(spans(events))


def test_without_an_endpoint_nothing_is_traced():
    assert from_environment({"WATTBED_OTLP": ""}) is None
