import asyncio

import pytest

from coordinator.clock import SteadyClock
from coordinator.events import DeviceAttached, DeviceDetached, RunEnded, RunStarted
from coordinator.loop import Loop
from coordinator.machine import RunPhase
from coordinator.machine.todo import Initialise
from coordinator.store import Store
from fleet.domain import Capabilities
from fleet.errors import StorageFull, UnknownRun
from fleet.experiment import Experiment, parse

MACHINE = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")
EXPERIMENT = parse(
    Experiment,
    {
        "name": "x", "seed": 1, "rounds": 3, "shards": 3,
        "workload": {"name": "noop", "options": {}},
        "policy": {"name": "fixed", "options": {}},
        "round": {"mode": "sync", "min_devices": 2, "devices": 3, "quorum": 2, "deadline_s": 50},
        "server": {"optimizer": "fedavg", "lr": 1.0},
        "quantizer": {"block_size": 64, "error_feedback": True},
        "evaluate": {"every": 1},
    },
    where="x",
)  # fmt: skip


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def start(tmp_path):
    """A loop on one log, as often as it is called."""

    def make(execute=None, clock=None):
        async def nothing(effect):
            return ()

        clock = clock or Clock()
        return Loop(Store(tmp_path / "log"), execute or nothing, "test", SteadyClock(clock, clock))

    return make


def run_started(name="x-1"):
    return RunStarted(100.0, name, "", EXPERIMENT)


async def test_what_was_submitted_is_there_after_a_restart(start):
    await start().submit(run_started())
    assert start().state.runs["x-1"].phase is RunPhase.INITIALISING


async def test_what_cannot_be_is_told_to_who_said_it_and_to_nobody_else(start):
    loop = start()
    outcomes = await asyncio.gather(
        loop.submit(run_started()), loop.submit(RunEnded(100.0, "y-9", "stopped", None)), return_exceptions=True
    )
    assert [type(o) for o in outcomes] == [type(None), UnknownRun]


async def test_several_events_of_one_submission_happen_together_or_not_at_all(start):
    loop = start()
    with pytest.raises(UnknownRun):
        await loop.submit(run_started(), RunEnded(100.0, "y-9", "stopped", None))
    assert not loop.state.runs


async def test_an_effect_is_started_once_while_it_is_due_and_ended_when_it_is_not(start):
    story = []

    async def execute(effect):
        story.append(("start", effect))
        try:
            await asyncio.Event().wait()
        finally:
            story.append(("end", effect))

    loop = start(execute)
    await loop.submit(run_started())
    await loop.submit(DeviceAttached(100.0, "a", "s", MACHINE, None))
    await loop.submit(RunEnded(100.0, "x-1", "stopped", None))
    await asyncio.sleep(0.01)
    assert story == [("start", Initialise("x-1")), ("end", Initialise("x-1"))]


async def test_an_effect_that_fails_ends_its_run_with_the_reason(start):
    async def execute(effect):
        raise ZeroDivisionError("by zero")

    loop = start(execute)
    await loop.submit(run_started())
    await asyncio.sleep(0.2)
    run = loop.state.runs["x-1"]
    assert (run.phase, run.reason) == (RunPhase.FAILED, "initialise: ZeroDivisionError: by zero")


async def test_a_log_that_cannot_be_written_changes_nothing(start, monkeypatch):
    loop = start()
    await loop.submit(run_started())

    def full(events):
        raise StorageFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(loop._store, "append", full)
        with pytest.raises(StorageFull):
            await loop.submit(run_started("x-2"))
    await loop.submit(run_started("x-3"))
    assert list(loop.state.runs) == ["x-1", "x-3"]


async def test_watchers_hear_what_is_in_the_log_and_only_of_their_run(start):
    loop, heard = start(), []
    loop.watch("x-1", heard.append)
    await loop.submit(run_started("x-2"), run_started("x-1"))
    assert [(e.kind, e.seq) for e in heard] == [("RunStarted", 3)]


async def test_the_end_of_a_stream_that_never_was_is_no_matter(start):
    loop = start()
    await loop.submit(DeviceDetached(100.0, "ghost", "s", "cut"))
    assert not loop.state.devices


async def test_time_in_the_log_never_goes_back(start):
    clock = Clock()
    loop = start(clock=clock)
    await loop.submit(run_started())
    clock.now_s = 5.0
    assert loop.now_s() == 100.0


async def test_what_was_overtaken_on_its_way_to_the_log_happens_when_it_comes(start):
    loop = start()
    await loop.submit(DeviceAttached(105.0, "a", "s1", MACHINE, None), DeviceDetached(103.0, "a", "s1", "late"))
    await loop.submit(run_started())
    assert [line.at_s for line in loop._store.read()] == [100.0, 105.0, 105.0, 105.0]
