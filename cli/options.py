"""Options that several commands share, and how a command answers."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli import last_up, local
from fleet.errors import BadRequest

FAILED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
"""Exit codes; 0 is success."""

DEFAULT_STATE = Path(".wattbed")
DEFAULT_ADDRESS = f"{local.LOOPBACK}:{local.GRPC_PORT}"
WIDE = 200
"""Columns of a table that goes to a file or a pipe, where nothing folds."""

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
State = Annotated[
    Path, typer.Option("--state", help="The folder of the local testbed.", file_okay=False, show_default=True)
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="WATTBED_DATA", help="A folder of data sets.", file_okay=False, exists=True),
]
Coordinator = Annotated[
    str | None,
    typer.Option(
        "--coordinator",
        envvar="WATTBED_COORDINATOR",
        metavar="HOST:PORT",
        help="The coordinator to ask; without it the local testbed's, else " + DEFAULT_ADDRESS + ".",
    ),
]


def address(asked: str | None, state: Path) -> str:
    """The coordinator that is asked for, else that of the testbed noted in `state`, else the standard one.

    Processes that run come before containers, and containers before processes that ran once.
    """
    if asked is not None:
        return asked
    testbed, containers = local.load(state), last_up.load(state)
    if testbed is not None and testbed.alive:
        return testbed.address
    if containers is not None and containers.coordinator is not None:
        return containers.coordinator
    return DEFAULT_ADDRESS if testbed is None else testbed.address


def refuse_misplaced(context: typer.Context) -> None:
    """BadRequest for an option between a group and its subcommand, where it would be read by nobody."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(p.opts[-1] for p in context.command.params if p.name == name)
            raise BadRequest(f"{option} belongs after `{context.invoked_subcommand}`")


def console(*, stderr: bool = False) -> Console:
    """Where a command prints: as wide as the terminal, or WIDE where there is none."""
    out = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = WIDE
    return out


def say_json(value: Any) -> None:
    """Prints one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
