"""The commands that look after a device: drain, revoke, rename; and what is said of its certificate."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli import options
from cli.client import ask
from cli.listings import clock_time
from cli.options import Coordinator, Json, State, address, console, say_json
from fleet.domain import DeviceSummary

Name = Annotated[str, typer.Argument(metavar="NAME", help="A device's name.")]


def stream(device: DeviceSummary) -> str:
    """Whether it is here, and whether it is wanted."""
    if device.enrolled is not None and device.enrolled.revoked_at_s is not None:
        return "revoked"
    if device.capabilities is None:
        return "never seen"
    return ("attached" if device.attached else "away") + (", drained" if device.drained else "")


def kind(device: DeviceSummary) -> str:
    """What it said it is, or what it joined as."""
    if device.capabilities is not None:
        return device.capabilities.kind
    return device.enrolled.kind if device.enrolled else ""


def values(device: DeviceSummary) -> dict[str, Any]:
    """All of it for machines, with the word that people see for its stream."""
    return asdict(device) | {"stream": stream(device)}


def certificate(device: DeviceSummary) -> str:
    """How it came by its certificate, and until when that is good."""
    enrolled = device.enrolled
    if enrolled is None:
        return "none: plain text, on loopback"
    if enrolled.revoked_at_s is not None:
        return f"revoked {clock_time(enrolled.revoked_at_s)}: {enrolled.reason}"
    return (
        f"joined {clock_time(enrolled.at_s)} with token {enrolled.token}, good until "
        f"{clock_time(enrolled.expires_at_s)}, renews itself; key {enrolled.key_sha256[:16]}..."
    )


def clock(device: DeviceSummary) -> str:
    """How far its clock is from the coordinator's."""
    if device.clock_skew_s is None:
        return "not known while it is away"
    return f"{device.clock_skew_s:+.3f} s from the coordinator's"


def drain(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Give it work again.")] = False,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Give a device nothing new; what it works on it may finish."""
    found = ask(address(coordinator, state), lambda operator: operator.administration.drain(name, not undo))
    word = "is given work again" if undo else "is given nothing new; `--undo` takes that back"
    _say(found, f"{name} {word}", as_json)


def revoke(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")] = "revoked by the operator",
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Withdraw a device's certificate: its calls end now, and nothing is taken from it any more."""
    found = ask(address(coordinator, state), lambda operator: operator.administration.revoke(name, reason))
    _say(found, f"{name} is revoked; it may join again with a new token", as_json)


def rename(
    name: Name,
    to: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Give a device another name; what the ledger has of it stays under the old one."""
    found = ask(address(coordinator, state), lambda operator: operator.administration.rename(name, to))
    _say(found, f"{name} is {to} now", as_json)


def _say(found: DeviceSummary, words: str, as_json: bool) -> None:
    if as_json:
        say_json(values(found))
    else:
        console().print(words)
