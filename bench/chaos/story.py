"""A run that faults are injected into until it ends, and the same run left alone."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chaos.faults import Fault, Hand, Hurt
from chaos.witness import Findings, JoulesWatch, entries, examine, models

from cli.client import Operator
from fleet.errors import WattbedError
from fleet.experiment import Experiment

STUCK_S = 60.0
"""A run that does nothing for so long, with nothing done to it, is stuck."""
BETWEEN_S = (0.05, 0.8)


class Bed(Protocol):
    """A coordinator and agents, be they processes or containers."""

    names: tuple[str, ...]
    address: str
    http: str
    look_every_s: float
    """How often to look at the log: a look costs a process where the log is in a container."""

    async def attached(self) -> None:
        """Waits until every agent is attached."""

    async def begin(self, experiment: Experiment) -> str:
        """Starts a run."""

    def happened(self, run: str) -> Counter[str]:
        """How many events of each kind the log has of a run; none while it cannot be read."""

    def log_file(self) -> Path:
        """The log as it is now."""

    def said(self, name: str) -> str:
        """What the coordinator or an agent wrote to its own log."""


@dataclass
class Outcome:
    """What came of one run. `models` is by round; `findings` says what does not hold."""

    run: str
    seconds: float
    phase: str = ""
    hurt: Hurt = field(default_factory=Hurt)
    findings: Findings = field(default_factory=Findings)
    models: dict[int, str] = field(default_factory=dict)
    scrapes: int = 0


async def left_alone(bed: Bed, experiment: Experiment) -> dict[int, str]:
    """The models of a run that nothing is done to."""
    run = await begun(bed, experiment)
    await ended(bed, run)
    return models(entries(bed.log_file(), run))


async def disturbed(
    bed: Bed, experiment: Experiment, faults: Mapping[str, Fault], seed: int, most: int | None = None
) -> Outcome:
    """Injects faults one after the other, at most `most`, each of `faults` before any of them again."""
    run, began_s = await begun(bed, experiment), time.monotonic()
    hand = Hand(bed, random.Random(seed), Hurt())
    with JoulesWatch(bed.http) as watch:
        waiting: list[str] = []
        while not over(bed, run) and (most is None or hand.hurt.counts.total() < most):
            await hand.hold(*BETWEEN_S)
            if not waiting:
                waiting = sorted(faults)
                hand.dice.shuffle(waiting)
            name = waiting.pop()
            hand.hurt.counts[name] += 1
            await faults[name](hand)
            await _goes_on(bed, run)
        await ended(bed, run)
        await bed.attached()
    outcome = Outcome(run, time.monotonic() - began_s, hurt=hand.hurt, scrapes=watch.scrapes)
    log = bed.log_file()
    outcome.findings = examine(log, run, {name: bed.said(name) for name in bed.names})
    outcome.findings.broken += hand.hurt.broken + watch.fell + await _replayed(bed, run)
    story = entries(log, run)
    outcome.phase = next(e.body["outcome"] for e in story if e.kind == "RunEnded")
    outcome.models = models(story)
    return outcome


async def begun(bed: Bed, experiment: Experiment) -> str:
    """A new run, once every agent is attached."""
    await bed.attached()
    return await bed.begin(experiment)


def over(bed: Bed, run: str) -> bool:
    """Whether the run has ended, by its log."""
    return bed.happened(run)["RunEnded"] > 0


async def _goes_on(bed: Bed, run: str) -> None:
    """Waits until something happens in the run, or nothing has for STUCK_S."""
    before, deadline = bed.happened(run).total(), time.monotonic() + STUCK_S
    while True:
        now = bed.happened(run)
        if now["RunEnded"] or (now["RoundOpened"] and now.total() > before):
            return
        if time.monotonic() > deadline:
            last = [f"{e.seq} {e.kind}" for e in entries(bed.log_file(), run)[-12:]]
            said = "\n".join(f"{n}: {bed.said(n)[-1500:]}" for n in ("coordinator", *bed.names))
            raise AssertionError(f"{run} stands still for {STUCK_S} s after {last}\n{said}")
        await asyncio.sleep(bed.look_every_s)


async def ended(bed: Bed, run: str) -> None:
    """Waits for the end of a run; AssertionError if it stands still."""
    while not over(bed, run):
        await _goes_on(bed, run)


async def _replayed(bed: Bed, run: str) -> list[str]:
    """Whether the log, folded anew, gives the state that the coordinator has."""
    for _ in range(100):
        with suppress(WattbedError):
            async with Operator(bed.address) as operator:
                replay = await operator.replay(run)
            return [] if replay.same_state else [f"{run}: the log folds to another state than the live one"]
        await asyncio.sleep(0.1)
    return [f"{run}: the coordinator does not answer"]
