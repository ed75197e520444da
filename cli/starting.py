"""What one sees while a compose testbed starts: a live table in a terminal, else a line for each thing done."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.compose_up import Shown
from cli.parts import Part

MARKS = {"ready": "green", "starting": "yellow", "broken": "red"}


def standing(found: Sequence[Part]) -> dict[str, tuple[str, str]]:
    """Per service its mark and what its containers do, such as ("starting", "2 of 3 ready")."""
    services: dict[str, list[Part]] = {}
    for one in found:
        services.setdefault(one.service, []).append(one)
    said = {}
    for name, here in services.items():
        ready = sum(p.ready for p in here)
        faults = [f for p in here if (f := p.fault)]
        mark = "broken" if faults else "ready" if ready == len(here) else "starting"
        words = {p.health or p.state for p in here if not p.ready}
        detail = faults[0] if faults else ", ".join(sorted(words)) or "ready"
        said[name] = (mark, detail if len(here) == 1 else f"{ready} of {len(here)} ready")
    return said


class _LiveTable:
    """The services and, below, the last line that was said."""

    def __init__(self, live: Live) -> None:
        self._live, self._line, self._found = live, "", tuple[Part, ...]()

    def say(self, line: str) -> None:
        self._line = plain(line) or self._line
        self._draw()

    def parts(self, found: Sequence[Part]) -> None:
        self._found = tuple(found)
        self._draw()

    def _draw(self) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, (mark, detail) in standing(self._found).items():
            table.add_row(Text("●", style=MARKS[mark]), name, detail)
        width = max(20, self._live.console.width - 4)
        self._live.update(Group(table, Spinner("dots", Text(self._line[:width], style="dim"))))


class _Lines:
    """A line when work begins, and one for each service that becomes ready."""

    def __init__(self, out: Console) -> None:
        self._out, self._done = out, set[str]()

    def say(self, line: str) -> None:
        if line.startswith(("building ", "pulling ", "starting ")):
            self._out.print(line)

    def parts(self, found: Sequence[Part]) -> None:
        for name, (mark, detail) in standing(found).items():
            if mark == "ready" and name not in self._done:
                self._done.add(name)
                self._out.print(f"{name} {detail}")


@contextmanager
def display(out: Console, *, silent: bool) -> Iterator[Shown]:
    """Shows a start on `out` for as long as it lasts, or nothing if `silent`."""
    if silent:
        yield Shown()
    elif out.is_terminal:
        with Live(console=out, refresh_per_second=8, transient=True) as live:
            table = _LiveTable(live)
            yield Shown(table.say, table.parts)
    else:
        lines = _Lines(out)
        yield Shown(lines.say, lines.parts)


def plain(line: str) -> str:
    """A line without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip()
