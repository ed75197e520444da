"""A run's report for a terminal, for spreadsheets, and as files in a folder."""

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli import request_view
from cli.client import Operator
from cli.ledger_view import as_json, choices, is_counted
from cli.request_report import Served
from cli.sheets import Sheet, headline, metric_notes, sheets
from fleet.domain import DeviceReport, RoundReport, RunReport
from fleet.errors import BadRequest, UnknownBlob

NOTHING = Served()
OF_DEVICE = (
    *("device", "kind", "status", "bits_up", "bits_down", "precision", "width", "train_steps", "samples"),
    *("loss", "update_bytes", "wire_up_bytes", "wire_down_bytes"),
)
OF_READING = ("source", "component", "scope", "joules", "low_joules", "high_joules")
CSV_COLUMNS = (
    *("run", "round", *OF_DEVICE, "predicted_joules", "predicted_seconds"),
    *("phase", "seconds", "quality", *OF_READING, "flags", "in_total"),
)
"""One row per reading. What belongs to the assignment or the phase is repeated on each of its rows.

`in_total` is "yes" where the reading is part of a total. Rows with it add up within one quality and scope; others
overlap them.
"""


def tables(report: RunReport, served: Served = NOTHING) -> Group:
    """The whole report for a terminal."""
    asked = [table(request_view.summary(served.reports))] if served.reports else []
    notes = [Text(note, style="dim") for note in metric_notes(report)]
    return Group(Text(headline(report), style="bold"), *(table(s) for s in sheets(report)), *asked, *notes)


def table(sheet: Sheet) -> Group:
    """One sheet for a terminal."""
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for name in sheet.words:
        drawn.add_column(name)
    for name in sheet.numbers:
        drawn.add_column(name, justify="right")
    for row in sheet.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return Group("", Text(sheet.title, style="bold"), drawn)


def csv_rows(report: RunReport) -> Iterator[dict[str, Any]]:
    """A row per reading; a phase or device without any still has one. Absent is empty, never 0."""
    chosen = choices(report)
    for round_ in report.rounds:
        for device in round_.devices:
            common = {"run": report.run.run, "round": round_.round} | _of_device(device)
            for phase in device.phases or (None,):
                timed = common if phase is None else common | {"phase": phase.phase, "seconds": phase.seconds}
                for reading in (phase and phase.readings) or (None,):
                    if reading is None:
                        yield timed
                    else:
                        named = {column: getattr(reading, column) for column in OF_READING}
                        counts = "yes" if is_counted(device.device, reading, chosen) else "no"
                        flags = " ".join(reading.flags)
                        yield timed | named | {"quality": reading.quality, "flags": flags, "in_total": counts}


def _of_device(device: DeviceReport) -> dict[str, Any]:
    predicted = device.predicted
    return {column: getattr(device, column) for column in OF_DEVICE} | {
        "predicted_joules": predicted.joules,
        "predicted_seconds": predicted.seconds,
    }


def as_csv(report: RunReport) -> str:
    """csv_rows below a header line."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(csv_rows(report))
    return out.getvalue()


def json_text(report: RunReport, served: Served = NOTHING) -> str:
    """ledger_view.as_json, written out; with the requests for images, where there were any."""
    values = as_json(report)
    if served.reports:
        values["requests"] = [request_view.as_json(r) for r in served.reports]
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def grid_name(round_: RoundReport) -> str:
    """The file a round's sample grid is written to."""
    return f"grid-{round_.round:03d}.png"


def write(
    report: RunReport, grids: Mapping[str, bytes], folder: Path, served: Served = NOTHING
) -> tuple[Path, ...]:
    """Writes report.json, .csv and .html and the sample grids (`grids`: PNG by sha256); the paths written."""
    from cli.html import page

    contents: dict[str, bytes] = {
        "report.json": json_text(report, served).encode(),
        "report.csv": as_csv(report).encode(),
        "report.html": page(report, grids, served).encode(),
    }
    for round_ in report.rounds:
        if round_.grid_sha256 is not None and round_.grid_sha256 in grids:
            contents[grid_name(round_)] = grids[round_.grid_sha256]
    return write_files({folder / name: content for name, content in contents.items()})


def write_files(contents: Mapping[Path, bytes]) -> tuple[Path, ...]:
    """Writes each file, making its folder; BadRequest names one that cannot be written."""
    for path, content in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise BadRequest(f"cannot write {path}: {error.strerror or error}") from error
    return tuple(contents)


async def fetch(address: str, run: str, *, with_grids: bool) -> tuple[RunReport, dict[str, bytes]]:
    """The report of a run, or of the LATEST, and its sample grids as PNG by sha256 where they still exist."""
    grids: dict[str, bytes] = {}
    async with Operator(address) as operator:
        report = await operator.report((await operator.find(run)).run)
        for sha256 in {r.grid_sha256 for r in report.rounds if r.grid_sha256 and with_grids}:
            with contextlib.suppress(UnknownBlob):
                grids[sha256] = await operator.artifact(report.run.run, sha256)
    return report, grids
