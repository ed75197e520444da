"""The slow decision: which device keeps which models."""

from dataclasses import replace

from coordinator.events import ModelsKept
from coordinator.generation.due import PushKept
from coordinator.generation.keeping import chosen, remembered, review
from coordinator.generation.state import Generations
from coordinator.machine import todo
from coordinator.machine.enrolment import Register
from coordinator.machine.state import Device, State
from fleet.domain import Capabilities
from fleet.generation import ModelRef

A, B, C = (ModelRef("r", name * 64, size) for name, size in (("a", 600), ("b", 500), ("c", 300)))


def state(asked, storage_bytes=1000, kept=None):
    able = Capabilities("mini-pc-n100", "cpu", 4, 1, "m", "0", model_storage_bytes=storage_bytes)
    models = {m.sha256: m for m in (A, B, C)}
    now = Generations(models=models, asked_since={m.sha256: n for m, n in asked.items()}, kept=kept or {})
    return State(devices={"d": Device("d", able, None, "s", 0.0)}, generations=now)


def test_what_is_asked_for_most_is_kept_as_long_as_there_is_room():
    (kept, _) = review(state({A: 5, B: 9, C: 1}), 60.0, 0.0)
    assert kept == ModelsKept(60.0, "d", (B, C))


def test_a_choice_that_changes_nothing_is_no_event_of_its_own():
    events = review(state({A: 5}, kept={"d": (A,)}), 60.0, 0.0)
    assert [type(e).__name__ for e in events] == ["ModelsReviewed"]


def test_what_nobody_asks_for_any_more_is_forgotten():
    rates = remembered({}, {"m": 6}, 30.0)
    later = remembered(rates, {}, 600.0)
    assert 0 < later["m"] < rates["m"]
    assert remembered(rates, {}, 1e5) == {}


def test_a_device_without_room_for_models_is_told_nothing():
    without = state({A: 1}, storage_bytes=None)
    assert [type(e).__name__ for e in review(without, 60.0, 0.0)] == ["ModelsReviewed"]


def test_a_drained_device_is_told_to_keep_nothing_more():
    before = state({A: 5}, kept={"d": (B,)})
    drained = replace(before, register=Register(drained=frozenset({"d"})))
    assert [type(e).__name__ for e in review(drained, 60.0, 0.0)] == ["ModelsReviewed"]
    assert [PushKept("d", "s", (B,)) in todo(state) for state in (before, drained)] == [True, False]


def test_a_model_that_fits_nowhere_leaves_its_room_to_others():
    assert chosen([replace(A, size_bytes=5000), C], 1000) == (C,)
