"""Joining a coordinator with this machine, and being its agent from then on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Data, Json, console, say_json
from fleet.errors import BadRequest
from fleet.identity import parse_token

STATE = Path(".wattbed/agent")
AGENT = (sys.executable, "-m", "edge_agent")


def join(
    token: Annotated[
        str | None,
        typer.Argument(metavar="TOKEN", help="What `wattbed token create` printed; - reads it from stdin."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="This device's name; its host name.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Its kind, where neither the token nor the machine tells.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="HOST:PORT", help="Join there, and not where the token says.")
    ] = None,
    run: Annotated[bool, typer.Option("--run/--no-run", help="Be the agent, or only join.")] = True,
    state: Annotated[
        Path, typer.Option("--state", help="The folder of key, certificate and cache.", file_okay=False)
    ] = STATE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Join a coordinator with this machine and run its agent; without TOKEN run it as it joined before."""
    facts = {"WATTBED_STATE": str(state.resolve())}
    if token is not None:
        text = sys.stdin.read().strip() if token == "-" else token
        parse_token(text)
        facts |= {"WATTBED_TOKEN": text, "WATTBED_DEVICE": name or socket.gethostname()}
    elif not (state / "identity").is_dir():
        raise BadRequest(f"nothing has joined from {state}: give the TOKEN that `wattbed token create` printed")
    more = {"WATTBED_KIND": kind, "WATTBED_JOIN": at, "WATTBED_DATA": data and str(data.resolve())}
    facts |= {variable: value for variable, value in more.items() if value}
    # For operators: which coordinator their commands go to. An agent goes where it joined.
    environment = {n: value for n, value in os.environ.items() if n != "WATTBED_COORDINATOR"} | facts
    if token is not None:
        _join(environment, as_json)
    if run:
        sys.stdout.flush()
        os.execve(AGENT[0], AGENT, environment)


def _join(environment: dict[str, str], as_json: bool) -> None:
    """In a process of its own, whose errors are shown as they are."""
    done = subprocess.run([*AGENT, "--join"], env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
    facts = json.loads(done.stdout)
    if as_json:
        say_json(facts)
    else:
        console().print(f"joined {facts['coordinator']} as {facts['device']}, a {facts['kind']}")
