"""A coordinator in this process whose wall clock jumps by an hour and back, with agents as real processes."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

from chaos.bed import Bed
from chaos.faults import Hurt
from chaos.story import Outcome, begun, ended, left_alone, over
from chaos.witness import entries, examine, models

from coordinator.clock import SteadyClock
from coordinator.server import Settings, run
from fleet.experiment import Experiment

JUMP_S = 3600.0
NAME = "coordinator: clock jumps by an hour"


class WallClock:
    """The time of day, and what somebody has set it to."""

    def __init__(self) -> None:
        self.jumped_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.jumped_s


@contextlib.asynccontextmanager
async def serving(bed: Bed, wall: WallClock) -> AsyncIterator[None]:
    """The coordinator of `bed`, in this process."""
    ready, stopping = asyncio.get_running_loop().create_future(), asyncio.Event()
    settings = Settings(bed.address, bed.http, bed.state, None, "chaos")
    served = asyncio.create_task(run(settings, ready, stopping, SteadyClock(wall)))
    await asyncio.wait([served, ready], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        stopping.set()
        await served


async def jumping(bed: Bed, experiment: Experiment, seed: int) -> tuple[Outcome, dict[int, str]]:
    """The outcome of a run in which the clock jumps forth and back, and the models of the same run left alone."""
    wall, dice, hurt = WallClock(), random.Random(seed), Hurt()
    async with serving(bed, wall):
        for name in bed.names:
            if name not in bed.running:
                bed.start_agent(name)
        calm = await left_alone(bed, experiment)
        began_s, name = time.monotonic(), await begun(bed, experiment)
        while not over(bed, name):
            await asyncio.sleep(dice.uniform(0.1, 0.8))
            wall.jumped_s += dice.choice((-JUMP_S, JUMP_S))
            hurt.counts[NAME] += 1
        await ended(bed, name)
    outcome = Outcome(name, time.monotonic() - began_s, hurt=hurt)
    outcome.findings = examine(bed.log_file(), name, {n: bed.said(n) for n in bed.names})
    story = entries(bed.log_file(), name)
    outcome.phase = next(e.body["outcome"] for e in story if e.kind == "RunEnded")
    outcome.models = models(story)
    return outcome, calm
