"""Starting a run, watching it, and reading its log."""

import json
import uuid
from pathlib import Path

from cli.client import Operator, ask
from cli.follow import COMPLETED, Display, JsonLines, Lines, LiveTable, event_json, follow
from cli.options import FAILED, INTERRUPTED, console
from cli.report import write_files
from fleet.domain import LoggedEvent, Replay, RunSummary
from fleet.errors import BadRequest
from fleet.experiment import Experiment


def start(experiment: Experiment, address: str) -> str:
    """Starts a run and returns its id."""
    key = uuid.uuid4().hex
    return ask(address, lambda operator: operator.start(experiment, key))


def watch(run: str, address: str, as_json: bool) -> int:
    """Follows a run to its end; 0 completed, 1 failed or stopped, 130 when Ctrl-C left it running."""
    out = console()
    display: Display = JsonLines(out) if as_json else LiveTable(out) if out.is_terminal else Lines(out)
    try:
        ended = ask(address, lambda operator: follow(operator, run, display))
    except KeyboardInterrupt:
        console(stderr=True).print(f"\ndetached: {run} goes on; `wattbed runs stop {run}` would stop it")
        return INTERRUPTED
    if isinstance(display, JsonLines):
        display.summary(ended)
    else:
        out.print(ended_line(ended))
    return 0 if ended.phase == COMPLETED else FAILED


def ended_line(run: RunSummary) -> str:
    """How a run ended."""
    why = f": {run.reason}" if run.reason else ""
    return f"{run.run} {run.phase} after round {run.round} of {run.rounds}{why}; `wattbed report {run.run}`"


async def replayed(operator: Operator, run: str, export: Path | None) -> tuple[Replay, int]:
    """The coordinator's replay of a run; its log goes to `export`, and the number of lines is returned.

    BadRequest for the log of a run that has not ended: it has no last line yet.
    """
    found = await operator.find(run)
    lines = 0
    if export is not None:
        if found.ended_at_s is None:
            raise BadRequest(f"{found.run} is still {found.phase}; its log can be exported once it has ended")
        events = [e async for e in operator.watch(found.run) if isinstance(e, LoggedEvent)]
        text = "".join(json.dumps(event_json(e), ensure_ascii=False) + "\n" for e in events)
        write_files({export: text.encode()})
        lines = len(events)
    return await operator.replay(found.run), lines
