"""Calibrating devices one after another, and showing what a calibration found."""

import asyncio
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli import cells, options
from cli.client import Operator
from cli.options import FAILED, INTERRUPTED, Coordinator, Json, State, address, console, say_json
from cli.report import table
from cli.sheets import Sheet
from fleet.calibration import UNITS, Calibration, CalibrationPlan, CalibrationRow, UnitJoules
from fleet.calibration_plans import plan as make_plan
from fleet.errors import BadRequest, Unreachable, WattbedError
from fleet.experiment import read

PATIENCE_S = 30.0
RETRY_S = 0.5


def calibrate(
    devices: Annotated[
        list[str] | None, typer.Argument(metavar="[DEVICE]...", help="Names of devices.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every device that is attached.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few, short repeats: a minute a device.")] = False,
    experiment: Annotated[
        Path | None,
        typer.Option("--experiment", metavar="FILE", help="For its workload, instead of the standard one."),
    ] = None,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Measure what a step and a megabyte cost devices, one after another."""
    if bool(devices) == every:
        raise BadRequest("name the devices to calibrate, or give --all")
    plan = make_plan(read(experiment) if experiment else None, quick=quick)
    names = list(dict.fromkeys(devices or ()))
    show = None if as_json else console(stderr=True)
    try:
        found = asyncio.run(calibrated(address(coordinator, state), names, plan, show))
    except KeyboardInterrupt:
        console(stderr=True).print(
            "\ndetached: the calibration that has begun goes on; its outcome will be in the log"
        )
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        say_json([as_values(c) for c in found])
    for each in found:
        if isinstance(each, NotCalibrated):
            console(stderr=True).print(f"wattbed: {each.message}")
        elif not as_json:
            console().print(*(table(s) for s in sheets(each)), sep="\n")
    if any(isinstance(each, NotCalibrated) for each in found):
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class NotCalibrated:
    """A device that could not be calibrated, and why; the others are calibrated all the same."""

    device: str
    error: str
    message: str


async def calibrated(
    at: str, names: list[str], plan: CalibrationPlan, show: Console | None
) -> tuple[Calibration | NotCalibrated, ...]:
    """Calibrates `names`, or all that are attached, one at a time: those that share a host disturb each other."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[what]}"),
    )
    async with Operator(at) as operator:
        if not names:
            names = [d.device for d in await operator.devices() if d.attached]
            if not names:
                raise BadRequest(f"no device is attached to {at}")
        hidden = show is None or not show.is_terminal
        with Progress(*columns, console=show, disable=hidden, transient=True) as bars:
            return tuple([await _outcome(operator, name, plan, bars) for name in names])


async def _outcome(
    operator: Operator, device: str, plan: CalibrationPlan, bars: Progress
) -> Calibration | NotCalibrated:
    try:
        return await _one(operator, device, plan, bars)
    except (BadRequest, Unreachable):
        raise
    except WattbedError as error:
        return NotCalibrated(device, type(error).__name__, str(error))


async def _one(operator: Operator, device: str, plan: CalibrationPlan, bars: Progress) -> Calibration:
    """One calibration. A coordinator that restarts is waited for, and the calibration joined again."""
    name, bar = uuid.uuid4().hex, bars.add_task(device, total=None, what="")
    clock = asyncio.get_running_loop().time
    heard_at = clock()
    while True:
        try:
            async for said in operator.calibrate(device, name, plan):
                heard_at = clock()
                if isinstance(said, Calibration):
                    bars.update(bar, what="")
                    return said
                bars.update(bar, completed=said.done, total=said.total, what=said.what)
        except Unreachable:
            if clock() - heard_at > PATIENCE_S:
                raise
        await asyncio.sleep(RETRY_S)


def sheets(calibration: Calibration) -> Iterator[Sheet]:
    """Seconds of each kind of work, joules by source, and what could not be measured."""
    yield seconds_sheet(calibration)
    yield joules_sheet(calibration)
    if any(not row.repeats for row in calibration.rows):
        yield missing_sheet(calibration)


def headline(c: Calibration) -> str:
    """What was calibrated, how, and how long it took."""
    how = "quick: too few repeats to trust the spread" if c.plan.quick else "full"
    return (
        f"{c.device}: {c.plan.workload}, model of {cells.size(c.model_bytes)}, {how}, "
        f"{c.plan.repeats} repeats of {c.plan.window_s:g} s or more, took {cells.seconds(c.seconds)}"
    )


def seconds_sheet(calibration: Calibration) -> Sheet:
    """A row per kind of work: seconds per unit."""
    rows = tuple(
        (
            *(row.work, _setting(row), UNITS[row.work]),
            *(f"{row.units:.4g}", cells.number(row.seconds), cells.number(row.iqr_seconds)),
            cells.percent(row.residual),
        )
        for row in _done(calibration.rows)
    )
    numbers = ("units per window", "seconds per unit", "IQR", "residual")
    return Sheet(headline(calibration), ("work", "setting", "unit"), numbers, rows)


def joules_sheet(calibration: Calibration) -> Sheet:
    """A row per kind of work and source: joules per unit, whole and above idling."""
    rows = tuple(
        (
            *(row.work, _setting(row), UNITS[row.work], j.source, j.component, j.scope, j.quality),
            *(cells.joules(v) for v in (j.joules, j.iqr_joules, j.dynamic_joules)),
            *(cells.percent(j.residual), " ".join(j.flags)),
        )
        for row, j in _joules(calibration)
    )
    words = ("work", "setting", "unit", "source", "component", "scope", "quality")
    numbers = ("joules per unit", "IQR", "dynamic", "residual", "flags")
    return Sheet(f"{calibration.device}: joules; of idle_after, the residual is the drift", words, numbers, rows)


def missing_sheet(calibration: Calibration) -> Sheet:
    """What could not be measured, and why."""
    rows = tuple((row.work, _setting(row), row.reason) for row in calibration.rows if not row.repeats)
    return Sheet(f"{calibration.device}: not measured", ("work", "setting", "reason"), (), rows)


def as_values(calibration: Calibration | NotCalibrated) -> dict[str, Any]:
    """The calibration for machines, the options of its workload as an object; or why there is none."""
    values = asdict(calibration)
    if isinstance(calibration, NotCalibrated):
        return values
    plan = values["plan"]
    plan["options"] = json.loads(plan.pop("options_json"))
    for row, of in zip(values["rows"], calibration.rows, strict=True):
        row["unit"] = UNITS[of.work]
    return values


def _done(rows: Iterable[CalibrationRow]) -> Iterator[CalibrationRow]:
    return (row for row in rows if row.repeats)


def _joules(calibration: Calibration) -> Iterator[tuple[CalibrationRow, UnitJoules]]:
    return ((row, joules) for row in _done(calibration.rows) for joules in row.joules)


def _setting(row: CalibrationRow) -> str:
    parts = (
        "" if row.width is None else f"width {row.width:g}",
        row.precision or "",
        "" if row.bits is None else f"{row.bits} bits",
    )
    return " ".join(part for part in parts if part)
