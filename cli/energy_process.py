"""Energy counters of this host, through `python -m edge_agent.energy` as a process of its own.

The command may not import the agent; what it prints is JSON.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.compose import Run, run
from fleet.errors import BadRequest, WattbedError

MODULE = "edge_agent.energy"
WRONG_USE = 2


@dataclass(frozen=True)
class Probe:
    """What can be read here: sources (with `joules`, what their counters stand at), and what cannot and why."""

    sources: tuple[Mapping[str, Any], ...]
    rejected: tuple[Mapping[str, Any], ...]


def probe(sysfs: Path | None = None, procfs: Path | None = None, start: Run = run) -> Probe:
    """Looks for sources below `sysfs` and `procfs`, the host's own without. WattbedError: the process failed."""
    found = json.loads(_ask(["probe", "--json", *trees(sysfs, procfs)], start))
    return Probe(tuple(found["sources"]), tuple(found["rejected"]))


def any_counter() -> bool:
    """Whether this host has anything but the model of an agent to measure energy with."""
    return bool(probe().sources)


def record(
    file: Path, seconds: float, hertz: float, sysfs: Path | None, procfs: Path | None, start: Run = run
) -> str:
    """Writes raw readings of every source to `file` for `seconds`; what the process said."""
    rates = ["--seconds", f"{seconds:g}", "--hz", f"{hertz:g}"]
    return _ask(["record", str(file), *rates, *trees(sysfs, procfs)], start).strip()


def replay(file: Path, start: Run = run) -> dict[str, Any]:
    """What the readings in `file` come to, per source."""
    answer: dict[str, Any] = json.loads(_ask(["replay", str(file), "--json"], start))
    return answer


def trees(sysfs: Path | None, procfs: Path | None) -> list[str]:
    """The options that name another host's trees."""
    named = (("--sysfs", sysfs), ("--procfs", procfs))
    return [word for option, folder in named if folder is not None for word in (option, str(folder))]


def _ask(arguments: Sequence[str], start: Run) -> str:
    outcome = start([sys.executable, "-m", MODULE, *arguments], os.environ)
    if outcome.code != 0:
        why = outcome.last_line.removeprefix(f"{MODULE}: ")
        raise (BadRequest if outcome.code == WRONG_USE else WattbedError)(why)
    return outcome.out
