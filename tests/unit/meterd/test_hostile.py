"""What is said over the socket that should not be: it is answered with a reason, and nobody else notices."""

import os

import pytest

from edge_agent.meterd import messages, session
from fleet.domain import Phase

HELLO = b'{"op":"hello","agent":"a"}'


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (b"\x00\x01garbage", b"is no message"),
        (b"[]", b"is no message"),
        (b'{"op":"status"}', b"status before hello"),
        (b'{"op":"hello","agent":"_idle"}', b"agent"),
        (b'{"op":"hello","agent":"' + b"x" * 65 + b'"}', b"agent"),
        (b'{"op":"hello","agent":"a","phase":"sleep"}', b"phase"),
        (b'{"op":"levers","agent":"a","version":99}', b"version 99 is spoken there, 1 here"),
        (HELLO, b"0 files came with hello"),
        (b"{" + b" " * messages.MOST_BYTES + b"}", b"more than 65536 bytes"),
    ],
)
def test_nonsense_is_answered_with_a_reason_and_the_connection_is_cut(talk, packet, said):
    say, raw = talk()
    answer = say(packet)
    assert (b'"refused"' in answer, said in answer, raw.recv(10)) == (True, True, b"")


def test_a_file_that_is_no_cpu_time_is_not_taken(talk, tmp_path):
    say, _ = talk()
    with (tmp_path / "cpu.txt").open("w+") as file:
        assert b"neither a cgroup's CPU time" in say(HELLO, [file.fileno()])


def test_a_pipe_is_not_taken_and_stops_nobody(talk):
    say, _ = talk()
    ends = os.pipe()
    answer = say(HELLO, [ends[0]])
    for end in ends:
        os.close(end)
    assert b"no regular file" in answer


def test_the_cpu_time_of_another_process_is_not_taken(talk):
    say, _ = talk()
    descriptor = os.open(f"/proc/{os.getppid()}/stat", os.O_RDONLY)
    answer = say(HELLO, [descriptor])
    os.close(descriptor)
    assert b"neither a cgroup's CPU time nor that of process" in answer


def test_a_name_and_a_cpu_time_are_one_agents_only(talk, host, make_meter):
    make_meter("a")
    same_name, same_time = (talk()[0] for _ in range(2))
    other, taken = host.usage("b")(), host.usage("a")()
    answers = same_name(HELLO, [other]), same_time(b'{"op":"hello","agent":"c"}', [taken])
    for descriptor in (other, taken):
        os.close(descriptor)
    assert (b"called 'a' is here already" in answers[0], b"is counted for 'a' already" in answers[1]) == (
        True,
        True,
    )


def test_whoever_asks_without_end_is_cut(talk, host, monkeypatch):
    monkeypatch.setattr(session, "REQUESTS_PER_S", 20)
    say, _ = talk()
    descriptor = host.usage("a")()
    say(HELLO, [descriptor])
    os.close(descriptor)
    answers = []
    while not answers or b"refused" not in answers[-1]:
        answers.append(say(b'{"op":"status"}'))
    assert b"more than 20 requests in a second" in answers[-1]


def test_what_one_connection_does_wrong_leaves_the_others_alone(talk, make_meter, host):
    meter, windows = make_meter(), []
    with meter.phase(Phase.TRAIN, windows.append):
        talk()[0](b"garbage")
        meter.sample()
        host.spend(2.0, 50.0, {"a": 1.0}, others_s=1.0)
    meter.settle()
    assert windows[0].readings[0].joules == pytest.approx(15.0)


def test_descriptors_that_are_not_kept_are_closed(talk, host, service):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        say, raw = talk()
        descriptor = host.usage("a")()
        say(b'{"op":"status"}', [descriptor])
        os.close(descriptor)
        raw.close()
    service.until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
