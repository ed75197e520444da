"""The commands. Each translates its options, calls one function and prints what it gave."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import options, testbed
from cli.backup import backup, restore
from cli.calibrate import calibrate
from cli.client import ask
from cli.devices import devices_app
from cli.doctor_command import doctor
from cli.energy_commands import energy_app
from cli.generate import generate
from cli.join import join
from cli.learn import learn
from cli.listings import data_app, runs_app
from cli.options import (
    FAILED,
    INTERRUPTED,
    UNREACHABLE,
    USAGE,
    Coordinator,
    Json,
    State,
    address,
    console,
    say_json,
)
from cli.plan import plan
from cli.quality import quality
from cli.reproduce import reproduce_app
from cli.token import login, token_app
from fleet.errors import BadRequest, Unreachable, WattbedError

app = typer.Typer(
    name="wattbed",
    help="A testbed for energy-aware generative AI on edge hardware.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(runs_app, name="runs")
app.add_typer(devices_app, name="devices")
app.add_typer(data_app, name="data")
app.add_typer(energy_app, name="energy")
app.add_typer(reproduce_app, name="reproduce")
app.add_typer(token_app, name="token")
for command in (
    testbed.up,
    testbed.down,
    testbed.logs,
    testbed.scale,
    doctor,
    calibrate,
    plan,
    learn,
    generate,
    quality,
    join,
    login,
):
    app.command()(command)

app.command()(backup)
app.command()(restore)

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`.")]


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment in TOML.")],
    follow: Annotated[bool, typer.Option("--follow/--detach", help="Show it until it ends, or return.")] = True,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Start a run of an experiment and follow it; Ctrl-C leaves it running."""
    from cli.run import start, watch
    from fleet.experiment import read

    experiment, at = read(file), address(coordinator, state)
    name = start(experiment, at)
    if follow:
        raise typer.Exit(watch(name, at, as_json))
    if as_json:
        say_json({"run": name})
    else:
        console().print(f"{name} runs; `wattbed runs show {name} --follow` shows it")


@app.command()
def report(
    run: RunName,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write a row per reading.")] = None,
    folder: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write all, and the sample grids.")
    ] = None,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show what a run gave and cost: rounds, devices, bytes, and joules with source and quality."""
    from cli import report as reports
    from cli import request_report

    at, with_grids = address(coordinator, state), bool(html or folder)
    found, grids = asyncio.run(reports.fetch(at, run, with_grids=with_grids))
    served = asyncio.run(request_report.fetch(at, found.run.run, with_grids=with_grids))
    written: list[Path] = []
    if html is not None:
        from cli.html import page

        written += reports.write_files({html: page(found, grids, served).encode()})
    if csv is not None:
        written += reports.write_files({csv: reports.as_csv(found).encode()})
    if folder is not None:
        written += reports.write(found, grids, folder, served)
    if as_json:
        typer.echo(reports.json_text(found, served), nl=False)
    elif written:
        console().print("\n".join(f"wrote {path}" for path in written))
    else:
        console().print(reports.tables(found, served))


@app.command()
def replay(
    run: RunName,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write the log, a JSON object per line.")
    ] = None,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Fold a run's log anew and compare the outcome with the live state."""
    from cli.run import replayed

    found, lines = ask(address(coordinator, state), lambda operator: replayed(operator, run, export))
    if as_json:
        say_json(asdict(found) | ({} if export is None else {"exported": lines, "file": str(export)}))
    else:
        same = "the same state" if found.same_state else "ANOTHER state than the live one"
        out = console()
        out.print(f"{found.run.run}: {found.events} events give {same}, sha256 {found.state_sha256}")
        if export is not None:
            out.print(f"wrote {lines} events to {export}")
    if not found.same_state:
        raise typer.Exit(FAILED)


def exit_code(error: WattbedError) -> int:
    """What the shell is told about an error."""
    if isinstance(error, BadRequest):
        return USAGE
    return UNREACHABLE if isinstance(error, Unreachable) else FAILED


def main() -> None:
    """The entry point: no error that wattbed knows of shows a traceback."""
    try:
        app()
    except WattbedError as error:
        code = exit_code(error)
        if "--json" in sys.argv[1:]:
            print(json.dumps({"error": type(error).__name__, "message": str(error), "exit_code": code}))
        print(f"wattbed: {error}", file=sys.stderr)
        sys.exit(code)
    except OSError as error:
        print(f"wattbed: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("wattbed: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
