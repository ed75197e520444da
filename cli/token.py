"""The commands about join tokens, and the one that keeps an operator's credentials."""

import re
import shlex
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from cli import credentials, options
from cli.administration import NewToken
from cli.client import ask
from cli.listings import clock_time
from cli.options import Coordinator, Json, State, address, console, say_json
from cli.report import table
from cli.sheets import Sheet
from fleet.domain import TokenSummary
from fleet.errors import BadRequest
from fleet.tls import host_and_port, is_loopback

token_app = typer.Typer(help="Make a token that a new device joins with, list tokens, or withdraw one.")

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
IMAGE = f"wattbed-agent:{version('wattbed')}"


def seconds(text: str) -> float:
    """ "90s", "30m", "24h" or "7d" in seconds; BadRequest."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise BadRequest(f"{text!r} is not a time such as 30m, 24h or 7d")
    return float(found[1]) * UNITS_S[found[2]]


def lines(new: NewToken) -> tuple[str, str]:
    """What is pasted on the new device: the plain form, and the one with Docker."""
    kind = new.summary.kind
    only_here = all(is_loopback(host_and_port(at)[0]) for at in new.addresses)
    docker = [
        "docker run -d --name wattbed-agent --restart unless-stopped --init --read-only --tmpfs /tmp",
        "--cap-drop ALL --security-opt no-new-privileges --no-healthcheck",
        *(["--network host"] if only_here else []),
        "-v wattbed-agent:/var/lib/wattbed -e WATTBED_METRICS= -e WATTBED_DEVICE=$(hostname)",
        *([] if kind is None else [f"-e WATTBED_KIND={kind}"]),
        f"-e WATTBED_TOKEN={new.text} {IMAGE}",
    ]
    return shlex.join(["wattbed", "join", new.text]), " ".join(docker)


@token_app.command(name="create")
def create_token(
    kind: Annotated[str | None, typer.Option("--kind", help="Only for devices of this kind.")] = None,
    lives: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long it is good: 30m, 24h, 7d.")
    ] = "24h",
    uses: Annotated[int, typer.Option("--uses", min=1, help="How many devices may join with it.")] = 1,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="HOST:PORT", help="Where new devices reach the port for joining."),
    ] = None,
    benchmark: Annotated[
        bool, typer.Option("--benchmark/--no-benchmark", help="Measure a device when it has joined.")
    ] = True,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Make a token, and print the line to paste on a new device."""
    lives_s = seconds(lives)
    for where in at or ():
        host_and_port(where)
    new = ask(
        address(coordinator, state),
        lambda operator: operator.administration.create_token(kind, lives_s, uses, at or (), benchmark),
    )
    plain, docker = lines(new)
    if as_json:
        say_json(asdict(new.summary) | {"text": new.text, "at": new.addresses, "join": plain, "docker": docker})
        return
    out = console()
    whom = f"one {kind or 'device'}" if uses == 1 else f"{uses} devices" + (f" of kind {kind}" if kind else "")
    until = clock_time(new.summary.expires_at_s)
    out.print(f"token {new.summary.token}: {whom}, until {until}; whoever has the line can join", soft_wrap=True)
    out.print(f"\n{plain}\n\nor with Docker:\n\n{docker}", soft_wrap=True)


@token_app.command(name="list")
def list_tokens(
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """List tokens, and what is left of them."""
    found = ask(address(coordinator, state), lambda operator: operator.administration.tokens())
    if as_json:
        say_json([asdict(t) for t in found])
    else:
        console().print(table(_sheet(found)) if found else "no tokens")


@token_app.command(name="withdraw")
def withdraw_token(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="A token, as `wattbed token list` names it.")],
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Withdraw a token; devices that joined with it stay."""
    found = ask(address(coordinator, state), lambda operator: operator.administration.withdraw_token(token))
    if as_json:
        say_json(asdict(found))
    else:
        console().print(f"nobody joins with token {found.token} any more")


def _sheet(tokens: tuple[TokenSummary, ...]) -> Sheet:
    rows = tuple(
        (
            *(t.token, t.kind or "any", "withdrawn" if t.withdrawn else f"until {clock_time(t.expires_at_s)}"),
            f"{t.used}/{t.uses}",
        )
        for t in tokens
    )
    return Sheet("Join tokens", ("token", "kind", "good"), ("used",), rows)


def login(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="operator.pem or viewer.pem of a coordinator.", dir_okay=False)
    ],
    as_json: Json = False,
) -> None:
    """Keep an operator's or viewer's credentials, for commands to a coordinator on another machine."""
    from fleet.tls import read_bundle

    kept = credentials.keep(read_bundle(file))
    if as_json:
        say_json(asdict(kept) | {"path": str(kept.path)})
    else:
        until = clock_time(kept.expires_at_s)
        console().print(f"{kept.role} of authority {kept.authority_sha256[:16]}..., until {until}: {kept.path}")
