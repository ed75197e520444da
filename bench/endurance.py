"""A day in fast forward: thousands of rounds on one coordinator, and what is left of memory, files and disk.

The real loop, log, blobs, effects and machine in this process, without a network: devices answer their tasks as
soon as they are pushed, with real payloads, and the clock is a virtual one that each round moves on by
24 h / rounds. Memory is a line fitted through what was held after each run of the second half, when what is kept
by design is full: the ledgers of the last KEPT_RUNS runs, and SQLite's pages. The quick form ends soon after that,
so its line is shown and not judged. At the end the log of 100,000 events and more is folded by a process of its
own, as a coordinator does that starts.

    python endurance.py start FOLDER     (the process that starts)
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import aside  # noqa: F401
import numpy as np
import psutil
from chaos.bed import noop
from provenance import ROOT, Provenance, Spread, parser, publish, table
from xxhash import xxh3_128

from coordinator.clock import SteadyClock
from coordinator.effects import KEPT_RUNS, Effects
from coordinator.events import (
    BytesMoved,
    DeviceAttached,
    EnergyMeasured,
    RunEnded,
    RunStarted,
    UpdateReceived,
    from_json,
)
from coordinator.loop import Loop
from coordinator.sessions import Session, Sessions
from coordinator.shelves import Shelves
from coordinator.store import Store
from fleet.domain import Capabilities, EnergyReading, Phase, PhaseMeasured, Quality, Task
from quantizer import decode, encode

DEVICES = 3
DAY_S = 86_400.0
MACHINE = Capabilities("mini-pc-n100", "cpu", 4, 8 << 30, "x86_64", "0")
EVENTS = 100_000
START_S = 2.0
MOST_GROWTH_BYTES = 4096
"""Memory per round, beyond which it does not count as flat: 24 h of rounds of a minute are 6 MB then."""


class VirtualClock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Sample:
    """After one run: rounds so far, bytes of memory, open files, bytes of log and blobs."""

    rounds: int
    memory_bytes: int
    files: int
    log_bytes: int
    blob_bytes: int


@dataclass
class Day:
    """What a day came to. Starts are seconds, processor seconds beside."""

    rounds: int = 0
    events: int = 0
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    ledger_per_round_bytes: float = 0.0
    memory_per_round_bytes: float = 0.0
    files_per_round: float = 0.0
    log_per_round_bytes: float = 0.0
    blobs_left_bytes: int = 0
    start: Spread | None = None
    start_cpu: Spread | None = None
    start_events: int = 0


class Device:
    """Answers tasks with a real payload, and says what they took."""

    def __init__(self, name: str, loop: Loop, sessions: Sessions, shelves: Shelves) -> None:
        self.name, self._loop, self._shelves = name, loop, shelves
        self.session = Session(uuid.uuid4().hex, name)
        sessions.open(self.session)

    async def live(self) -> None:
        await self._loop.submit(DeviceAttached(self._loop.now_s(), self.name, self.session.name, MACHINE, None))
        while message := await self.session.outgoing.get():
            if isinstance(message, Task):
                await self._carry_out(message)

    async def _carry_out(self, task: Task) -> None:
        a, loop = task.assignment, self._loop
        with self._shelves.models(a.run).mapped(a.model_sha256) as model:
            payload = encode(decode(model), a.bits_up, seed=a.seed, block_size=task.block_size)
        digest = xxh3_128(payload).hexdigest()
        receiving = self._shelves.updates(a.run, self.name).receive(digest, len(payload), 0)
        receiving.write(payload)
        receiving.commit()
        loop.post(BytesMoved(loop.now_s(), a.run, a.round, self.name, "down", a.model_bytes))
        loop.post(BytesMoved(loop.now_s(), a.run, a.round, self.name, "up", len(payload)))
        for phase in (Phase.DOWNLOAD, Phase.TRAIN, Phase.QUANTIZE):
            self._measured(task, phase)
        await loop.submit(UpdateReceived(loop.now_s(), a.run, a.round, self.name, digest, len(payload), 1, 0.0))
        self._measured(task, Phase.UPLOAD)

    def _measured(self, task: Task, phase: Phase) -> None:
        a, loop = task.assignment, self._loop
        reading = EnergyReading(
            source="model", component="cpu", scope="wall", quality=Quality.ESTIMATED, joules=1.5
        )
        window = PhaseMeasured(uuid.uuid4().hex, a.run, a.round, phase, loop.now_s(), 0.5, (reading,))
        loop.post(EnergyMeasured(loop.now_s(), a.run, self.name, window))


async def live(folder: Path, runs: int, rounds: int) -> Day:
    """A day of `runs` runs with `rounds` rounds each."""
    day, clock, began_s = Day(), VirtualClock(), time.monotonic()
    store, shelves = Store(folder / "log.sqlite"), Shelves(folder / "blobs")
    sessions = Sessions(lambda device, progress: None)
    effects = Effects(store, shelves, sessions, None)
    loop = effects.loop = Loop(store, effects.execute, "endurance", SteadyClock(clock, clock))
    devices = [Device(f"device-{i}", loop, sessions, shelves) for i in range(DEVICES)]
    living = [asyncio.create_task(d.live()) for d in devices]
    for number in range(runs):
        name = f"day-{number}"
        over = asyncio.Event()

        def look(line: object, over: asyncio.Event = over) -> None:
            kind = getattr(line, "kind", "")
            if kind == "ModelAggregated":
                clock.now_s += DAY_S / (runs * rounds)
            if kind == RunEnded.__name__:
                over.set()

        unwatch = loop.watch(name, look)
        await loop.submit(RunStarted(loop.now_s(), name, name, noop("day", DEVICES, rounds, model_bytes=8000)))
        waiting = asyncio.create_task(over.wait())
        await asyncio.wait([waiting, *living], return_when=asyncio.FIRST_COMPLETED)
        for task in living:
            if task.done():
                task.result()
        unwatch()
        day.rounds += rounds
        await asyncio.sleep(0.05)  # what the run left is dropped
        day.samples.append(_sample(folder, day.rounds))
    for task in living:
        task.cancel()
    await loop.stop()
    effects.close()
    store.close()
    day.seconds = time.monotonic() - began_s
    day.events = loop.totals.events
    _fit(day)
    return day


def _sample(folder: Path, rounds: int) -> Sample:
    gc.collect()
    process = psutil.Process()
    log_bytes = sum(f.stat().st_size for f in folder.glob("log.sqlite"))
    blobs = sum(f.stat().st_size for f in (folder / "blobs").rglob("*") if f.is_file())
    return Sample(rounds, process.memory_info().rss, process.num_fds(), log_bytes, blobs)


def _fit(day: Day) -> None:
    warm = day.samples[max(len(day.samples) // 2, KEPT_RUNS + 1) :]
    cold = day.samples[:KEPT_RUNS]
    day.ledger_per_round_bytes = float(np.polyfit([s.rounds for s in cold], [s.memory_bytes for s in cold], 1)[0])
    x = [s.rounds for s in warm]
    day.memory_per_round_bytes = float(np.polyfit(x, [s.memory_bytes for s in warm], 1)[0])
    day.files_per_round = float(np.polyfit(x, [s.files for s in warm], 1)[0])
    day.log_per_round_bytes = (warm[-1].log_bytes - warm[0].log_bytes) / (warm[-1].rounds - warm[0].rounds)
    day.blobs_left_bytes = warm[-1].blob_bytes


def fill(folder: Path, wanted: int) -> int:
    """Repeats the log under other names until it has `wanted` events; how many it has."""
    store = Store(folder / "log.sqlite")
    lines = [line for line in store.read() if from_json(line.kind, line.json)]
    count, copy = len(lines), 0
    while count < wanted:
        copy += 1
        bodies = [(e.kind, e.json.replace('"run":"day-', f'"run":"copy-{copy}-')) for e in lines]
        store.append([from_json(kind, body) for kind, body in bodies])
        count += len(lines)
    store.close()
    return count


def start(folder: Path) -> dict[str, float]:
    """What a coordinator does with its log when it starts, and how long it takes."""

    async def fold() -> dict[str, float]:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        store = Store(folder / "log.sqlite")

        async def nothing(effect: object) -> tuple[()]:
            return ()

        loop = Loop(store, nothing, "endurance")
        took = {"seconds": time.perf_counter() - began_s, "cpu_s": time.process_time() - cpu_s}
        assert loop.totals.events >= EVENTS
        os._exit(print(json.dumps(took), flush=True) or 0)

    return asyncio.run(fold())


def report(day: Day, quick: bool) -> str:
    """The page. Of a quick day memory is not judged."""
    assert day.start is not None
    assert day.start_cpu is not None
    first, last = day.samples[len(day.samples) // 2], day.samples[-1]
    growth, warm = day.memory_per_round_bytes, (first.memory_bytes / 1e6, last.memory_bytes / 1e6)
    limit, began = f"below {MOST_GROWTH_BYTES:,}", f"start from {day.start_events:,} events (s)"
    rows: list[tuple[str, str, str, bool | None]] = [
        ("rounds", f"{day.rounds:,}", "" if quick else "at least 2,000", None),
        (f"memory per round, first {KEPT_RUNS} runs (bytes)", f"{day.ledger_per_round_bytes:,.0f}", "", None),
        (
            "memory per round, second half (bytes)",
            f"{growth:,.0f}",
            limit,
            None if quick else growth < MOST_GROWTH_BYTES,
        ),
        ("memory, half-way and at the end (MB)", "{:.1f}, {:.1f}".format(*warm), "", None),
        (
            "open files, half-way and at the end",
            f"{first.files}, {last.files}",
            "no more",
            last.files <= first.files,
        ),
        ("log per round (bytes)", f"{day.log_per_round_bytes:,.0f}", "", None),
        ("blobs left of all runs (bytes)", f"{day.blobs_left_bytes:,}", "", None),
        (began, str(day.start), f"below {START_S:g}", day.start.median < START_S),
        ("the same, processor (s)", str(day.start_cpu), "", None),
    ]
    shown = [(*row[:3], {True: "yes", False: "no"}.get(row[3], "")) for row in rows]
    return f"""# A day in fast forward

{day.rounds:,} rounds of {DEVICES} devices in {day.seconds:.0f} s, on a virtual clock that went on by 24 hours;
{day.events:,} events.

{table(["", "measured", "target", "held"], shown)}

Runs of {day.samples[0].rounds} rounds one after the other, with the real loop, log, blobs and effects; devices are
in the same process and send real payloads of a model of 8,000 bytes. The log grows for as long as a coordinator is
kept: nothing is ever deleted from it. Of a run's blobs its last model stays. A start is what a coordinator does
with its log, in a new process; it comes on top of the imports.

Memory of the first {KEPT_RUNS} runs is what their ledgers take, which are kept, with caches that fill: a run that
goes on for thousands of rounds has a ledger of as many in memory until {KEPT_RUNS} further runs have ended. Of
older runs the state keeps the experiment and how it ended."""


def main() -> None:
    if sys.argv[1:2] == ["start"]:
        start(Path(sys.argv[2]))
        return
    options = parser(__doc__).parse_args()
    origin = Provenance.now(options.seed, ["pydantic"])
    runs, rounds = (20, 6) if options.quick else (50, 44)
    with tempfile.TemporaryDirectory(prefix="wattbed-day-") as name:
        folder = Path(name)
        day = asyncio.run(live(folder, runs, rounds))
        day.start_events = fill(folder, EVENTS)
        took = []
        for _ in range(3 if options.quick else 7):
            command = [sys.executable, __file__, "start", name]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            took.append(json.loads(done.stdout))
        day.start = Spread.of([t["seconds"] for t in took])
        day.start_cpu = Spread.of([t["cpu_s"] for t in took])
    publish(options, "endurance", report(day, options.quick), day, origin)


if __name__ == "__main__":
    main()
