"""Following a run: the log tells when something happened, the ledger tells what it cost.

A round's line is printed once, when nothing more is expected of it. A coordinator that restarts is
waited for, and the log is read on from the last event seen.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli import cells
from cli.client import Operator
from cli.ledger_view import choices, counted, totals
from fleet.domain import DeviceProgress, LoggedEvent, Progress, RoundReport, RunReport, RunSummary
from fleet.energy import Choices
from fleet.errors import Unreachable
from fleet.experiment import Experiment

PATIENCE_S = 30.0
RETRY_S = 0.5
REFRESH_S = 0.5
"""The ledger is asked for this often at most."""

COMPLETED = "completed"


class Display(Protocol):
    """Where a followed run is shown. `needs_ledger` False: `ledger` is never called."""

    needs_ledger: bool

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: Any) -> None: ...

    def event(self, event: LoggedEvent) -> None:
        """Something happened."""

    def progress(self, progress: DeviceProgress) -> None:
        """A device came further."""

    def ledger(self, report: RunReport) -> None:
        """The ledger as it stands now; the last call comes after the run has ended."""

    def lost(self, error: Unreachable) -> None:
        """The coordinator does not answer; it is tried again."""


async def follow(operator: Operator, run: str, display: Display, patience_s: float = PATIENCE_S) -> RunSummary:
    """Shows a run until it has ended; Unreachable when the coordinator stays away `patience_s`."""
    changed = asyncio.Event()
    with display:
        watcher = asyncio.create_task(_watch(operator, run, display, changed, patience_s))
        tasks = {watcher, asyncio.create_task(_refresh(operator, run, display, changed))}
        try:
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()  # the refresher ends by an error only, and then that is what happened
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if display.needs_ledger:
            display.ledger(await operator.report(run))
    return watcher.result()


async def _watch(
    operator: Operator, run: str, display: Display, changed: asyncio.Event, patience_s: float
) -> RunSummary:
    clock = asyncio.get_running_loop().time
    seen, heard_at = 0, clock()
    while True:
        try:
            async for item in operator.watch(run, seen):
                heard_at = clock()
                if isinstance(item, LoggedEvent):
                    seen = item.seq
                    display.event(item)
                    changed.set()
                else:
                    display.progress(item)
            summary = await operator.find(run)
            if summary.ended_at_s is not None:
                return summary
        except Unreachable as error:
            if clock() - heard_at > patience_s:
                raise
            display.lost(error)
        await asyncio.sleep(RETRY_S)


async def _refresh(operator: Operator, run: str, display: Display, changed: asyncio.Event) -> None:
    while True:
        await changed.wait()
        changed.clear()
        if not display.needs_ledger:
            continue
        with contextlib.suppress(Unreachable):  # the watch notices, and says so
            display.ledger(await operator.report(run))
        await asyncio.sleep(REFRESH_S)


def event_json(event: LoggedEvent) -> dict[str, Any]:
    """A line of the log for machines."""
    return {"seq": event.seq, "at_s": event.at_s, "kind": event.kind, "body": json.loads(event.json)}


class JsonLines:
    """One JSON object per event, and one {"summary": ...} at the end, which the command prints."""

    needs_ledger = False

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        pass

    def event(self, event: LoggedEvent) -> None:
        """Prints it."""
        self._write(event_json(event))

    def summary(self, summary: RunSummary) -> None:
        """Prints the last line."""
        self._write({"summary": asdict(summary)})

    def _write(self, value: dict[str, Any]) -> None:
        self._console.file.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._console.file.flush()

    def progress(self, progress: DeviceProgress) -> None:
        """Not part of the log."""

    def ledger(self, report: RunReport) -> None:
        """Never called."""

    def lost(self, error: Unreachable) -> None:
        """The next event says all there is to say."""


class Lines:
    """A line per round, for logs and pipes."""

    needs_ledger = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[tuple[int, str]] = set()
        self._lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        pass

    def event(self, event: LoggedEvent) -> None:
        """An event means the coordinator is back."""
        if self._lost:
            self._console.print("the coordinator is back")
        self._lost = False

    def progress(self, progress: DeviceProgress) -> None:
        """Too much for lines."""

    def ledger(self, report: RunReport) -> None:
        """Prints what is new about the rounds."""
        chosen = choices(report)
        for round_ in report.rounds:
            if round_.devices and self._first(round_.round, "opened"):
                self._console.print(opened_line(round_))
            if is_settled(round_, report) and self._first(round_.round, "settled"):
                self._console.print(settled_line(round_, report.run.rounds, chosen))

    def _first(self, round_: int, what: str) -> bool:
        fresh = (round_, what) not in self._told
        self._told.add((round_, what))
        return fresh

    def lost(self, error: Unreachable) -> None:
        """Says so, once."""
        if not self._lost:
            self._console.print(f"{error}; trying again")
        self._lost = True


class LiveTable(Lines):
    """A table of the devices at the foot of the terminal, and the lines of the rounds above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._report: RunReport | None = None
        self._progress: dict[str, Progress] = {}
        self._live = Live(console=console, transient=True, refresh_per_second=8, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def progress(self, progress: DeviceProgress) -> None:
        """Moves the device's bar."""
        self._progress[progress.device] = progress.progress

    def ledger(self, report: RunReport) -> None:
        """Fills the table in."""
        self._report = report
        super().ledger(report)

    def _render(self) -> Group:
        if self._report is None or not self._report.rounds:
            return Group(Text("waiting for the first round"))
        current = self._report.rounds[-1]
        run = self._report.run
        title = f"{run.run}  round {current.round} of {run.rounds}"
        if self._lost:
            title += "  (the coordinator does not answer)"
        live = {device: p for device, p in self._progress.items() if p.run == run.run}
        return Group(Text(title, style="bold"), device_table(current, live, choices(self._report)))


def is_settled(round_: RoundReport, report: RunReport) -> bool:
    """Whether nothing more is expected of a round: it failed, or its model is evaluated if that is due."""
    if report.run.ended_at_s is not None or round_.status == "failed":
        return True
    every = Experiment.model_validate_json(report.experiment_json).evaluate.every
    due = round_.round % every == 0 or round_.round == report.run.rounds
    return round_.status != "open" and (bool(round_.metrics) or not due)


def opened_line(round_: RoundReport) -> str:
    """Who works at which bits."""
    who = ", ".join(f"{d.device} {d.bits_up} bits" for d in round_.devices)
    return f"round {round_.round} opened: {who}"


def settled_line(round_: RoundReport, of: int, chosen: Mapping[str, Choices]) -> str:
    """What a round gave and what it cost."""
    metrics = ", ".join(f"{m.name} {cells.number(m.value)}" for m in round_.metrics) or "not evaluated"
    if not round_.devices:
        return f"round {round_.round} {round_.status}: {metrics}"
    arrived = sum(d.status == "arrived" for d in round_.devices)
    moved = counted(round_.devices)
    why = f" ({round_.reason})" if round_.reason and round_.status != "closed" else ""
    return (
        f"round {round_.round}/{of} {round_.status}{why}: {arrived}/{len(round_.devices)} updates in "
        f"{cells.seconds(round_.seconds)}, {cells.size(moved.wire_up_bytes)} up, "
        f"{cells.size(moved.wire_down_bytes)} down, {cells.energy(totals(round_.devices, chosen))}, {metrics}"
    )


def device_table(round_: RoundReport, live: dict[str, Progress], chosen: Mapping[str, Choices]) -> Table:
    """The devices of an open round: what each was asked, how far it is, and what it has cost so far."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("device", "bits", "phase", "progress", "up", "down", "joules"):
        table.add_column(name, justify="left" if name in ("device", "phase", "progress") else "right")
    for device in round_.devices:
        now = live.get(device.device)
        working = now is not None and now.round == round_.round and device.status == "assigned"
        bar = ProgressBar(total=now.total or 1, completed=now.done, width=24) if now and working else Text("")
        table.add_row(
            device.device,
            cells.bits(device.bits_up, device.bits_down),
            now.phase if now and working else device.status,
            bar,
            cells.size(device.wire_up_bytes),
            cells.size(device.wire_down_bytes),
            cells.energy(totals([device], chosen)),
        )
    return table
