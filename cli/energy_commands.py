"""The commands about a host's own energy counters: record, replay."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import cells, energy_process
from cli.options import Json, console, say_json
from cli.report import table
from cli.sheets import Sheet

energy_app = typer.Typer(help="Record a host's energy counters, or replay a record.", no_args_is_help=True)

Sysfs = Annotated[
    Path | None,
    typer.Option("--sysfs", metavar="DIR", help="Another root for /sys.", file_okay=False, exists=True),
]
Procfs = Annotated[
    Path | None,
    typer.Option("--procfs", metavar="DIR", help="Another root for /proc.", file_okay=False, exists=True),
]
COUNTED = ("readings", "wraps", "resets", "gaps")


@energy_app.command(name="record")
def record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the readings go, one JSON object a line.")],
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="How long.")] = 60.0,
    hertz: Annotated[float, typer.Option("--hz", metavar="H", help="Readings of each source per second.")] = 10.0,
    sysfs: Sysfs = None,
    procfs: Procfs = None,
    as_json: Json = False,
) -> None:
    """Write the raw readings of every energy source of this host to a file."""
    said = energy_process.record(file, seconds, hertz, sysfs, procfs)
    if as_json:
        say_json({"file": str(file), "size_bytes": file.stat().st_size, "said": said})
    else:
        console().print(said)


@energy_app.command(name="replay")
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `wattbed energy record` wrote.")],
    as_json: Json = False,
) -> None:
    """Say what the readings in a file come to, source by source, by the pipeline that measures."""
    found = energy_process.replay(file)
    if as_json:
        say_json(found)
        return
    rows = tuple(_row(name, source) for name, source in found["sources"].items())
    console().print(table(Sheet("Readings replayed", ("source", "errors"), ("joules", "time", *COUNTED), rows)))


def _row(name: str, source: dict[str, Any]) -> tuple[str, ...]:
    errors = ", ".join(f"{count} {reason}" for reason, count in source["errors"].items()) or "none"
    counts = (str(source[word]) for word in COUNTED)
    return (name, errors, cells.joules(source["joules"]), cells.seconds(source["seconds"]), *counts)
