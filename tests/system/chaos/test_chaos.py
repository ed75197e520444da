"""Short stories of faults; `bench/reliability.py` has the long one. The seed decides what happens when."""

import asyncio
import time

from chaos import faults, story
from chaos.bed import noop
from chaos.clock import jumping
from chaos.disks import AS_ROOT

from cli.client import Operator
from fleet.domain import LoggedEvent

STOPS_WITHIN_S = 10.0
LEFT_OUT = {
    "coordinator: SIGKILL, again while it starts",
    "coordinator: SIGTERM",  # a test of its own
    "coordinator: SIGSTOP for up to 8 s",
    "everything: SIGKILL",
}
SEED = 5
ROUNDS = 14


def every(bed):
    """The faults that can be injected here."""
    return faults.ANYWHERE | (AS_ROOT if bed.state.is_mount() else {})


def experiment(name, rounds, **changes):
    return noop(name, 3, rounds, train_steps=4, step_s=0.05, **changes)


async def test_whatever_is_killed_cut_or_full_the_run_ends_with_the_models_of_one_that_was_left_alone(bed):
    calm = await story.left_alone(bed, experiment("chaos", ROUNDS))
    left = {name: fault for name, fault in every(bed).items() if name not in LEFT_OUT}
    while left:  # a fast machine ends a run before every fault had its turn
        outcome = await story.disturbed(bed, experiment("chaos", ROUNDS), left, SEED, most=len(left))
        assert outcome.findings.broken == []
        assert (outcome.phase, outcome.models) == ("completed", calm)
        assert outcome.hurt.counts.total() > 0
        assert outcome.findings.acknowledged > 0
        left = {name: fault for name, fault in left.items() if name not in outcome.hurt.counts}


async def test_a_coordinator_that_is_told_to_stop_says_so_ends_in_time_and_the_round_goes_on(bed):
    await bed.attached()
    run = await bed.begin(experiment("stopped", 6))
    told = asyncio.Event()

    async def follow():
        async with Operator(bed.address) as operator:
            async for message in operator.watch(run):
                if isinstance(message, LoggedEvent) and message.kind == "RoundOpened":
                    told.set()

    following = asyncio.create_task(follow())
    await told.wait()
    began_s = time.monotonic()
    code, _ = await asyncio.to_thread(bed.terminate, "coordinator", STOPS_WITHIN_S)
    (error,) = await asyncio.gather(following, return_exceptions=True)
    alone = [path.name for path in bed.state.iterdir() if path.name.startswith("log.sqlite")]
    assert (code, alone) == (0, ["log.sqlite"])
    assert "the coordinator is stopping" in str(error)
    assert time.monotonic() - began_s < STOPS_WITHIN_S
    bed.start_coordinator()
    await story.ended(bed, run)


async def test_a_clock_that_jumps_by_an_hour_closes_no_round_early_and_holds_none_up(bed):
    bed.kill("coordinator")
    outcome, calm = await jumping(bed, experiment("clock", 5, deadline_s=30), seed=3)
    assert outcome.findings.broken == []
    assert (outcome.phase, outcome.models) == ("completed", calm)
    assert outcome.hurt.counts.total() > 0
