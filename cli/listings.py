"""The commands that look at runs and at data sets, and list them."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from cli import cells, options
from cli.client import ask
from cli.options import Coordinator, Data, Json, State, address, console, refuse_misplaced, say_json
from cli.report import table
from cli.sheets import Sheet
from fleet.domain import RunSummary

runs_app = typer.Typer(help="List runs, show one, or stop one.", invoke_without_command=True)
data_app = typer.Typer(help="List data sets, or fetch one.", no_args_is_help=True)

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`.")]


@runs_app.callback()
def runs(
    context: typer.Context,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """List runs, show one, or stop one."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    found = ask(address(coordinator, state), lambda operator: operator.runs())
    if as_json:
        say_json([asdict(r) for r in found])
    else:
        console().print(table(_runs_sheet(found)) if found else "no runs yet")


def _runs_sheet(runs: tuple[RunSummary, ...]) -> Sheet:
    rows = [
        (
            *(r.run, r.experiment, f"{r.phase}: {r.reason}" if r.reason else r.phase, clock_time(r.started_at_s)),
            f"{r.round}/{r.rounds}",
            str(r.devices),
            cells.seconds(None if r.ended_at_s is None else r.ended_at_s - r.started_at_s),
        )
        for r in runs
    ]
    words = ("run", "experiment", "phase", "started")
    return Sheet("Runs", words, ("round", "devices", "took"), tuple(rows))


def clock_time(at_s: float) -> str:
    """A time of the coordinator, in UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@runs_app.command(name="show")
def show_run(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", help="Show it until it ends.")] = False,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show one line about a run, or follow it to its end."""
    at = address(coordinator, state)
    found = ask(at, lambda operator: operator.find(run))
    if follow:
        from cli.run import watch

        raise typer.Exit(watch(found.run, at, as_json))
    if as_json:
        say_json(asdict(found))
    else:
        console().print(table(_runs_sheet((found,))))


@runs_app.command(name="stop")
def stop_run(
    run: RunName,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")] = "stopped by the operator",
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Stop a run; what it has measured stays in the ledger."""
    at = address(coordinator, state)
    name = ask(at, lambda operator: operator.find(run)).run
    stopped = ask(at, lambda operator: operator.stop(name, reason))
    if as_json:
        say_json(asdict(stopped))
    else:
        console().print(f"{stopped.run} {stopped.phase} in round {stopped.round} of {stopped.rounds}")


@data_app.command(name="list")
def list_data(data: Data = None, as_json: Json = False) -> None:
    """List the data sets, and which of them are here and sound."""
    from cli.data import found

    sets = tuple(found(data))
    if as_json:
        say_json([asdict(s) for s in sets])
    else:
        rows = tuple((s.name, "here" if s.problem is None else "not here", s.problem or s.detail) for s in sets)
        console().print(table(Sheet("Data sets", ("name", "state", "detail"), (), rows)))


@data_app.command(name="get")
def get_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, as `wattbed data list` names it.")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="Where its files lie; without it, its publisher's.")
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            "--to", metavar="DIR", envvar="WATTBED_DATA", help="The folder of data sets.", file_okay=False
        ),
    ] = Path("data"),
    as_json: Json = False,
) -> None:
    """Fetch a data set and check it against its checksums."""
    from cli.data import get

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = shown.add_task(file)
            shown.update(tasks[file], completed=done, total=total)

        place = get(name, source, folder, show)
    if as_json:
        say_json({"name": name, "folder": str(place)})
    else:
        console().print(f"{name} is in {place}; use it with --data {folder}")
