"""A disk that takes nothing for a while, and a wall clock that is set: the loop waits for the one, not for the other."""

import asyncio
import errno

import pytest

from coordinator import loop as loops
from coordinator.clock import SteadyClock
from coordinator.events import ModelInitialised, RunStarted, TimePassed
from coordinator.loop import Loop
from coordinator.machine import RunPhase
from coordinator.machine.todo import Initialise
from coordinator.store import Store
from fleet.errors import StorageFull
from fleet.experiment import Experiment, parse

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


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(loops, "STORAGE_RETRY_S", 0.01)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "log")


async def settled(true):
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


async def initialising(effect):
    if isinstance(effect, Initialise):
        return (ModelInitialised(1.0, effect.run, "a" * 64, 4),)
    await asyncio.Event().wait()
    return ()


def start(name="x-1"):
    return RunStarted(1.0, name, "", EXPERIMENT)


async def test_what_an_effect_found_out_while_the_disk_was_full_is_written_when_it_is_not(store, monkeypatch):
    loop, append = Loop(store, initialising, "test"), store.append
    refused = []

    def full(events):
        if any(isinstance(e, ModelInitialised) for e in events) and len(refused) < 3:
            refused.append(events)
            raise StorageFull("no room")
        return append(events)

    monkeypatch.setattr(store, "append", full)
    await loop.submit(start())
    await settled(lambda: loop.state.runs["x-1"].phase is RunPhase.EVALUATING)
    assert len(refused) == 3
    assert loop.refused_s is None
    await loop.stop()


async def test_a_full_disk_is_told_to_who_waits_and_shows(store, monkeypatch):
    loop = Loop(store, initialising, "test")
    await loop.submit(TimePassed(1.0))
    with monkeypatch.context() as patch:
        patch.setattr(store, "append", lambda events: (_ for _ in ()).throw(StorageFull("no room")))
        with pytest.raises(StorageFull):
            await loop.submit(start())
        assert loop.refused_s is not None
    await loop.submit(start())
    assert loop.refused_s is None
    await loop.stop()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
async def test_an_effect_that_the_disk_stands_in_the_way_of_is_repeated_and_fails_no_run(store, number):
    tries = []

    async def execute(effect):
        if isinstance(effect, Initialise) and len(tries) < 3:
            tries.append(effect)
            raise OSError(number, "the disk")
        return await initialising(effect)

    loop = Loop(store, execute, "test")
    await loop.submit(start())
    await settled(lambda: loop.state.runs["x-1"].phase is RunPhase.EVALUATING)
    assert len(tries) == 3
    await loop.stop()


async def test_a_loop_that_stops_gives_a_disk_up_that_takes_nothing(store, monkeypatch):
    loop = Loop(store, initialising, "test")
    await loop.submit(TimePassed(1.0))
    monkeypatch.setattr(store, "append", lambda events: (_ for _ in ()).throw(StorageFull("no room")))
    loop.post(TimePassed(2.0))
    async with asyncio.timeout(5):
        await loop.stop()


async def test_a_loop_that_stops_begins_nothing(store):
    begun = []

    async def execute(effect):
        begun.append(effect)
        return ()

    loop = Loop(store, execute, "test")
    loop.begin_nothing()
    await loop.submit(start())
    await loop.stop()
    assert begun == []


def test_a_read_only_log_is_said_to_be_one(store):
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StorageFull, match="readonly"):
        store.append([TimePassed(1.0)])


class Hands:
    """A wall clock and a steady one, set by hand."""

    def __init__(self):
        self.wall_s, self.steady_s = 1000.0, 5.0

    def clock(self):
        return SteadyClock(lambda: self.wall_s, lambda: self.steady_s)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_moves_no_deadline_and_shows(jump_s):
    hands = Hands()
    clock = hands.clock()
    hands.wall_s += jump_s + 7
    hands.steady_s += 7
    assert (clock(), clock.off_s) == (1007.0, jump_s)


@pytest.mark.parametrize(("jump_s", "then_s"), [(3600.0, 4600.0), (-3600.0, 1000.0)])
def test_it_is_taken_on_when_nothing_waits_but_time_never_goes_back(jump_s, then_s):
    hands = Hands()
    clock = hands.clock()
    hands.wall_s += jump_s
    clock.follow(1000.0)
    assert clock() == then_s


def test_after_a_restart_time_goes_on_from_the_end_of_the_log_though_the_wall_clock_was_set_back():
    hands = Hands()
    clock = hands.clock()
    clock.not_before(4600.0)
    hands.steady_s += 10
    assert clock() == 4610.0
