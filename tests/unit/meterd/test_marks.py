"""Marks are sent and nobody waits for them: what comes of a window is fetched later, and no window is lost.

`meter.sample()` in a phase waits until its mark has arrived: what is asked after it is answered after it.
"""

import socket
import threading
from pathlib import Path

import pytest

from edge_agent.energy import remote
from edge_agent.energy.meter import Meter
from edge_agent.energy.remote import RemoteMeter
from edge_agent.meterd import messages
from edge_agent.meterd.link import Connection, MeterLost
from fleet.domain import Phase

HALF_OF_THE_HOST = {"seconds": 2.0, "joules": 50.0, "cpu_s": {"a": 1.0}, "others_s": 1.0}
"""The agent's share is 15 J: 20 J are idle."""


def joules(windows):
    return [reading.joules for w in windows for reading in w.readings]


def flags(windows):
    return [reading.flags for w in windows for reading in w.readings]


@pytest.fixture
def patient(monkeypatch):
    """A meter that is busy for as long as the test wants is not lost."""
    monkeypatch.setattr(remote, "TIMEOUT_S", 60.0)


def answer_within(meter, seconds):
    """What `meter` asks from now on is lost after so long."""
    meter._link._timeout_s = seconds
    if meter._link._connection is not None:
        meter._link._connection._timeout_s = seconds


@pytest.fixture
def deaf(tmp_path):
    """A socket where a meter could be, and nobody who answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "deaf.sock"))
        listener.listen()
        yield listener


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(remote, "RETRY_S", 0.0)


def test_nobody_waits_at_the_edges_of_a_phase(patient, make_meter, host):
    meter, windows = make_meter(), []
    with host.meter._lock:  # the meter is in the middle of something, from before the phase until after it
        with meter.phase(Phase.TRAIN, windows.append):
            pass
        at_the_end = len(windows)
    meter.settle()
    assert (at_the_end, joules(windows)) == (0, [0.0])


def test_joules_that_have_arrived_are_handed_over_at_the_next_mark_in_the_order_of_the_phases(make_meter, host):
    meter, phases = make_meter(), []
    for phase in (Phase.TRAIN, Phase.QUANTIZE):
        with meter.phase(phase, lambda w: phases.append(w.phase)):
            pass
    meter.sample()
    with meter.phase(Phase.UPLOAD, lambda w: phases.append(w.phase)):
        handed_over = list(phases)
    meter.settle()
    assert (handed_over[-2:], phases) == (
        [Phase.TRAIN, Phase.QUANTIZE], [Phase.TRAIN, Phase.QUANTIZE, Phase.UPLOAD],
    )  # fmt: skip


def test_what_another_question_found_on_its_way_is_kept_for_the_window(make_meter, host, service):
    meter, windows = make_meter(), []
    with meter.phase(Phase.TRAIN, windows.append):
        meter.sample()
        host.spend(**HALF_OF_THE_HOST)
    asking = threading.Thread(target=meter.sample)
    asking.start()
    asking.join()
    service.close()
    meter.sample()
    meter.settle()
    assert (joules(windows), [r.id for r in meter.rejected]) == ([pytest.approx(15.0)], ["meter"])


def test_a_meter_that_was_found_again_in_a_window_is_not_left_alone_after_it(
    no_pause, monkeypatch, make_meter, host, service, make_service
):
    meter, windows = make_meter(), []
    with meter.phase(Phase.TRAIN, windows.append):
        service.close()
        again = make_service()
        again.until(lambda: meter.sample() or all(meter.up().values()))
        monkeypatch.setattr(remote, "RETRY_S", 60.0)
    with meter.phase(Phase.TRAIN, windows.append):
        meter.sample()
        host.spend(**HALF_OF_THE_HOST)
    meter.settle()
    assert (joules(windows), meter.rejected) == ([None, pytest.approx(15.0)], ())


def test_a_window_that_was_lost_is_no_news_once_the_meter_is_back(patient, no_pause, make_meter, host):
    meter, windows = make_meter(), []
    answer_within(meter, 0.05)
    with host.meter._lock:
        with meter.phase(Phase.TRAIN, windows.append):
            pass
        meter.sample()
    answer_within(meter, 60.0)
    meter.sample()
    meter.settle()
    assert (joules(windows), meter.rejected) == ([None], ())


def test_phases_and_questions_of_several_threads_get_the_answers_that_are_theirs(make_meter, host, monkeypatch):
    monkeypatch.setattr(remote, "FRESH_S", 0.0)
    meter, windows, done = make_meter(), [], threading.Event()
    up = []

    def watch():
        while not done.is_set():
            up.append(meter.up())

    watching = [threading.Thread(target=watch) for _ in range(2)]
    for thread in watching:
        thread.start()
    for _ in range(60):
        with meter.phase(Phase.TRAIN, windows.append):
            pass
    meter.settle()
    done.set()
    for thread in watching:
        thread.join()
    assert (joules(windows), {found["rapl:package-0"] for found in up}) == ([0.0] * 60, {True})


def test_a_begin_that_is_refused_costs_its_window_and_no_more(no_pause, make_meter, host):
    meter, windows, reasons = make_meter(), [], []
    before = meter._link.generation
    meter._link.ask(messages.Begin(Phase.UPLOAD))
    with meter.phase(Phase.TRAIN, windows.append):
        pass
    meter.settle()
    reasons += [r.reason for r in meter.rejected]
    with meter.phase(Phase.TRAIN, windows.append):
        meter.sample()
        host.spend(**HALF_OF_THE_HOST)
    meter.settle()
    assert (joules(windows), flags(windows)) == ([None, pytest.approx(15.0)], [("meter_lost",), ()])
    assert [r.endswith("refuses: phase train begins while upload is open") for r in reasons] == [True]
    assert meter._link.generation == before + 1  # the daemon has forgotten what was open


def test_a_meter_that_dies_between_the_end_and_the_joules_costs_that_window(deaf, host):
    def hear_and_die():
        raw, _ = deaf.accept()
        raw.recv(messages.MOST_BYTES)
        raw.send(messages.pack(messages.Joined(host.meter.sources, (), False)))
        for answer in (messages.Standing((), ()), messages.Begun()):
            raw.recv(messages.MOST_BYTES)
            raw.send(messages.pack(answer))
        raw.recv(messages.MOST_BYTES)
        raw.close()

    dying, windows = threading.Thread(target=hear_and_die), []
    dying.start()
    meter = RemoteMeter(Path(deaf.getsockname()), "a", (), lambda sources: Meter([]), 0.0, host.usage("a"))
    with meter.phase(Phase.TRAIN, windows.append):
        pass
    dying.join()
    meter.close()
    assert (joules(windows), flags(windows)) == ([None], [("meter_lost",)])


def test_a_meter_that_is_stopped_costs_its_windows_and_nobody_hangs(patient, no_pause, make_meter, host):
    meter, windows = make_meter(), []
    answer_within(meter, 0.05)
    with host.meter._lock:
        for _ in range(5):
            with meter.phase(Phase.TRAIN, windows.append):
                threading.Event().wait(0.02)
        meter.settle()
        stopped = joules(windows)
    answer_within(meter, 60.0)
    with meter.phase(Phase.TRAIN, windows.append):
        meter.sample()
        host.spend(**HALF_OF_THE_HOST)
    meter.settle()
    assert (stopped, joules(windows)[5:]) == ([None] * 5, [pytest.approx(15.0)])


def test_a_mark_that_comes_late_costs_its_window_and_the_next_is_whole(make_meter, host):
    delay = [0.0]
    meter, windows = make_meter(clock=lambda: host.now - delay[0]), []
    with meter.phase(Phase.TRAIN, windows.append):
        delay[0] = 3.0  # the meter read its counters three seconds after the phase had begun
        meter.sample()
        host.spend(**HALF_OF_THE_HOST)
    with meter.phase(Phase.TRAIN, windows.append):
        meter.sample()
        host.spend(**HALF_OF_THE_HOST)
    meter.settle()
    assert (joules(windows), flags(windows)) == ([None, pytest.approx(15.0)], [("meter_lost",), ()])


def test_windows_without_a_meter_are_handed_over_at_once(tmp_path):
    meter, windows = RemoteMeter(tmp_path / "nowhere.sock", "a", (), lambda sources: Meter([]), 0.0), []
    with meter.phase(Phase.TRAIN, windows.append):
        pass
    assert [w.phase for w in windows] == [Phase.TRAIN]


def test_closing_settles(make_meter):
    meter, windows = make_meter(), []
    with meter.phase(Phase.TRAIN, windows.append):
        pass
    meter.close()
    assert joules(windows) == [0.0]


def test_marks_that_nobody_takes_fill_the_socket_and_are_lost_in_time(deaf):
    connection, sent = Connection(Path(deaf.getsockname()), 0.05), []

    def mark_without_end():
        while True:
            sent.append(connection.post(messages.Begin(Phase.TRAIN)))

    with pytest.raises(MeterLost, match="does not answer: timed out"):
        mark_without_end()
    for question in sent:
        connection.read(question, wait=True)
    connection.close()
    assert (len(sent) > 10, {str(q.lost).rpartition(": ")[2] for q in sent}) == (True, {"timed out"})
