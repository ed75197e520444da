"""Backing a coordinator up and restoring it: `python -m coordinator.backup` on the folder of its state."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import local, options
from cli.options import Json, State, console, say_json
from fleet import errors
from fleet.errors import WattbedError

Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="The coordinator's own state; else `coordinator` in --state."),
]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write.")],
    folder: Folder = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Write all that the coordinator of this machine has to one file, also while it runs."""
    _tell(asked("create", file, folder or state / local.COORDINATOR), f"wrote {file}", as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that `wattbed backup` wrote.")],
    folder: Folder = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Make the coordinator of an archive in an empty folder; start it to go on with its runs."""
    into = folder or state / local.COORDINATOR
    _tell(asked("restore", file, into), f"restored {into}", as_json)


def asked(what: str, file: Path, folder: Path) -> dict[str, Any]:
    """What the archive has. The error that the coordinator's own program named."""
    command = [sys.executable, "-m", "coordinator.backup", what, str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        said: dict[str, Any] = json.loads(done.stdout)
        return said
    try:
        failed = json.loads(done.stderr.splitlines()[-1])
        kind = getattr(errors, failed["error"], WattbedError)
    except (ValueError, KeyError, IndexError):
        raise WattbedError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}") from None
    raise (kind if issubclass(kind, WattbedError) else WattbedError)(failed["message"])


def _tell(said: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        say_json(said)
        return
    at = datetime.fromtimestamp(said["at_s"], UTC).isoformat(sep=" ", timespec="seconds")
    console().print(
        f"{done}: {said['events']} events, {said['files']} files, {said['size_bytes']} bytes, as of {at}"
    )
