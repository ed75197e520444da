"""Stories of requests: the machine, the planner and the book of requests together, in virtual time."""

import pytest

from coordinator.machine import fold, todo
from fleet.domain import Quality
from fleet.errors import IllegalMove
from fleet.generation import Recipe

pytestmark = pytest.mark.slow


def seconds_of(batch):
    """What a device really takes: a start, a step, and w^2 per image."""
    return 0.02 + 0.01 * batch.recipe.steps + 0.005 * batch.images * sum(w * w for w in batch.recipe.widths)


def test_a_request_goes_to_a_device_and_its_report_has_predicted_beside_measured(fleet):
    fleet.attach("a")
    fleet.ask("r1")
    (batch,) = fleet.begun()
    assert (batch.device, batch.recipe.steps, batch.images) == ("a", 10, 4)
    fleet.now_s += 2.0
    fleet.make(batch, 2.0, joules=8.0)
    report = fleet.book.report("r1")
    (phase,) = report.phases
    assert (report.status, report.latency_s, report.complete) == ("served", 2.0, True)
    assert (phase.readings[0].joules, phase.readings[0].quality) == (8.0, Quality.MEASURED)
    assert report.placement.expected.joules > 0


def test_a_request_that_was_received_is_refused_a_second_time(fleet):
    fleet.attach("a")
    fleet.ask("r1")
    with pytest.raises(IllegalMove, match="received before"):
        fleet.ask("r1")


def test_requests_that_share_a_batch_share_its_joules_by_images_and_no_share_is_called_measured(fleet):
    fleet.attach("a")
    fleet.ask("first")
    fleet.ask("big", images=6)
    fleet.ask("small", images=2)
    fleet.make(fleet.begun()[0], 1.0)
    (shared,) = fleet.begun()
    assert [p.request for p in shared.portions] == ["big", "small"]
    fleet.make(shared, 1.0, joules=16.0)
    shares = [fleet.book.report(name).phases[0].readings[0] for name in ("big", "small")]
    assert [(r.joules, r.quality, r.flags) for r in shares] == [
        (12.0, Quality.DERIVED, ("share_of_batch",)),
        (4.0, Quality.DERIVED, ("share_of_batch",)),
    ]


def test_an_estimated_window_stays_estimated_when_it_is_shared(fleet):
    fleet.attach("a")
    fleet.ask("first")
    fleet.ask("x")
    fleet.ask("y")
    fleet.make(fleet.begun()[0], 1.0)
    fleet.make(fleet.begun()[0], 1.0, joules=2.0, quality=Quality.ESTIMATED)
    assert fleet.book.report("x").phases[0].readings[0].quality is Quality.ESTIMATED


def test_a_request_whose_device_is_lost_is_served_by_another_though_its_deadline_has_passed(fleet):
    fleet.attach("a", "b")
    fleet.ask("r1", within_s=3.0)
    lost = fleet.begun()[0].device
    fleet.tick(102.5)
    fleet.detach(lost)
    fleet.tick(103.6)
    (batch,) = fleet.begun()
    assert batch.device != lost
    fleet.now_s = 105.0
    fleet.make(batch, 1.0)
    report = fleet.book.report("r1")
    assert (report.status, report.late, report.tries) == ("served", True, 2)


def test_a_stream_that_is_cut_for_a_moment_costs_no_work(fleet):
    fleet.attach("a", "b")
    fleet.ask("r1")
    (before,) = fleet.begun()
    fleet.detach(before.device)
    fleet.tick(100.5)
    fleet.attach(before.device)
    assert fleet.begun() == [before]


def test_a_request_that_three_devices_fail_on_is_given_up(fleet):
    fleet.attach("a", "b", "c")
    fleet.ask("r1")
    seen = []
    while fleet.begun():
        (batch,) = fleet.begun()
        seen.append(batch.device)
        fleet.make(batch, 1.0, reason="out of memory")
    assert sorted(seen) == ["a", "b", "c"]
    assert fleet.status("r1") == ["failed"]


def test_a_restart_goes_on_with_the_batch_where_it_is(fleet):
    fleet.attach("a", "b")
    fleet.ask("r1")
    (before,) = fleet.begun()
    fleet.restart()
    fleet.tick(104.0)
    assert fleet.status("r1") == ["placed"]
    fleet.attach(before.device)
    assert fleet.begun() == [before]


def test_a_device_that_does_not_come_back_after_a_restart_loses_its_batch(fleet):
    fleet.attach("a", "b")
    fleet.ask("r1")
    lost = fleet.begun()[0].device
    other = "b" if lost == "a" else "a"
    fleet.restart()
    fleet.tick(101.0)
    fleet.attach(other)
    fleet.tick(106.1)
    assert [b.device for b in fleet.begun()] == [other]


def test_what_nobody_can_serve_is_refused_at_once_with_what_would_be_feasible(fleet):
    fleet.ask("nobody")
    fleet.attach("a")
    fleet.learn(seconds_of)
    fleet.ask("hurried", within_s=0.05)
    fleet.ask("elsewhere", where="edge")
    hurried = fleet.book.report("hurried")
    assert fleet.status("nobody", "hurried", "elsewhere") == ["refused"] * 3
    fleet.ask("patient", within_s=hurried.feasible.within_s + 0.01)
    assert fleet.status("patient") == ["placed"]


def test_a_burst_of_ten_times_the_capacity_is_refused_in_order_and_nothing_admitted_is_late(fleet):
    fleet.attach("a", "b")
    fleet.learn(seconds_of)
    widths = [(1.0,) * 9 + (0.5 + n / 1000,) for n in range(200)]  # none shares another's batch
    for n, each in enumerate(widths):
        fleet.ask(f"r{n}", recipe=Recipe(each, "ddim"), within_s=3.0)
    refused = [name for name in fleet.book.requests if fleet.status(name) == ["refused"]]
    admitted = [f"r{n}" for n in range(200) if f"r{n}" not in refused]
    assert admitted == [f"r{n}" for n in range(len(admitted))]
    assert 10 <= len(admitted) <= 22
    fleet.run(seconds_of, until_s=fleet.now_s + 10)
    assert fleet.status(*admitted) == ["served"] * len(admitted)
    assert not any(fleet.book.page(name).late for name in admitted)


def test_the_same_for_requests_that_say_their_quality_and_share_batches(fleet):
    fleet.attach("a", "b")
    fleet.learn(seconds_of)
    fleet.know_quality()
    for n in range(200):
        fleet.ask_for(f"r{n}", at_most=14.0, images=8, within_s=2.0)
    admitted = [f"r{n}" for n in range(200) if fleet.status(f"r{n}") == ["placed"]]
    assert 10 < len(admitted) < 200
    fleet.run(seconds_of, until_s=fleet.now_s + 10)
    assert fleet.status(*admitted) == ["served"] * len(admitted)
    assert not any(fleet.book.page(name).late for name in admitted)


def test_a_request_that_waits_past_its_deadline_is_ended_and_not_begun(fleet):
    fleet.attach("a")
    fleet.learn(seconds_of)
    fleet.ask("slow", within_s=5.0)
    fleet.ask("behind", recipe=Recipe((0.5,) * 10, "ddim"), within_s=5.0)
    behind = fleet.state.generations.requests["behind"].deadline_at_s
    fleet.tick(behind + 0.01)
    assert fleet.status("slow", "behind") == ["placed", "expired"]
    assert [b.portions[0].request for b in fleet.begun()] == ["slow"]


def test_a_greater_priority_goes_first_where_nobody_is_late_for_it(fleet):
    fleet.attach("a")
    fleet.learn(seconds_of)
    fleet.know_quality()
    fleet.ask_for("begun", at_most=14.0, within_s=60.0)
    fleet.ask_for("patient", at_most=11.0, images=16, within_s=60.0)
    fleet.ask_for("urgent", at_most=14.0, within_s=2.0, priority=1)
    fleet.now_s += 0.5
    fleet.make(fleet.begun()[0], 0.5)
    (following,) = fleet.begun()
    assert "urgent" in [p.request for p in following.portions]


def test_a_request_cancelled_in_a_queue_leaves_the_others_and_one_that_is_begun_ends_its_batch(fleet):
    fleet.attach("a")
    for name in ("begun", "x", "y"):
        fleet.ask(name)
    fleet.cancel("x")
    fleet.cancel("begun")
    (batch,) = fleet.begun()
    assert [p.request for p in batch.portions] == ["y"]
    assert fleet.status("begun", "x", "y") == ["cancelled", "cancelled", "placed"]


def test_a_plan_that_was_overtaken_changes_nothing_of_what_overtook_it(fleet):
    fleet.attach("a")
    fleet.ask("r1")
    (batch,) = fleet.begun()
    stale = [e for e in fleet.history if type(e).__name__ == "RequestsPlaced"]
    fleet.cancel("r1")
    fleet.tell(*stale)
    assert (fleet.begun(), fleet.status("r1")) == ([], ["cancelled"])
    assert batch.batch not in fleet.state.generations.batches


def test_a_device_that_trains_or_has_no_room_serves_nothing(fleet):
    fleet.attach("small", storage_bytes=10)
    fleet.ask("r1")
    assert fleet.status("r1") == ["refused"]


def test_a_drained_device_finishes_what_is_in_its_queue_and_is_given_no_further_request(fleet):
    fleet.attach("a", "b")
    for name in ("begun", "queued"):
        fleet.ask(name, where="device", device="a")
    fleet.drain("a")
    for name in ("first", "second"):
        fleet.ask(name)
    fleet.ask("asked for it", where="device", device="a")
    fleet.run(seconds_of, until_s=fleet.now_s + 60)
    names = ("begun", "queued", "first", "second", "asked for it")
    assert fleet.status(*names) == ["served"] * 4 + ["refused"]
    assert [fleet.book.report(n).placement.device for n in names[:4]] == ["a", "a", "b", "b"]


def test_a_request_that_lost_its_device_waits_for_one_that_is_not_drained(fleet):
    fleet.attach("a", "b")
    fleet.drain("b")
    fleet.ask("r1")
    fleet.detach("a")
    fleet.tick(102.0)
    assert (fleet.begun(), fleet.status("r1")) == ([], ["waiting"])
    fleet.drain("b", drained=False)
    assert [b.device for b in fleet.begun()] == ["b"]


def test_a_request_of_a_device_stays_there_or_goes_to_an_edge_server(fleet):
    fleet.attach("mine", "others")
    fleet.attach("edge", place="edge")
    for name, settings in (
        ("local", {"where": "local", "origin": "mine"}),
        ("edge", {"where": "edge"}),
        ("named", {"where": "device", "device": "others"}),
    ):
        fleet.ask(name, **settings)
    placed = {p.request: b.device for b in fleet.begun() for p in b.portions}
    assert placed == {"local": "mine", "edge": "edge", "named": "others"}


def test_a_batch_that_never_ends_is_taken_from_its_device(fleet):
    fleet.attach("a", "b")
    fleet.ask("r1")
    (stuck,) = fleet.begun()
    fleet.tick(fleet.state.generations.batches[stuck.batch].stuck_at_s)
    (again,) = fleet.begun()
    assert again.device != stuck.device


def test_the_log_of_all_this_folds_to_the_same_state(fleet):
    fleet.attach("a", "b")
    fleet.learn(seconds_of)
    for n in range(5):
        fleet.ask(f"r{n}", within_s=30.0)
    fleet.detach("a")
    fleet.tick(fleet.now_s + 2.0)
    assert fold(fleet.history) == fleet.state
    assert todo(fold(fleet.history)) == todo(fleet.state)
