"""Power of a Jetson: rails by INA3221 and INA238, and the board's total where it is known what adds up to it.

boards.toml knows the boards by their rail labels. A total is the module's or the carrier's input and so is of
component board: it holds CPU and GPU and is never added to them. Module, board and wall differ: an Orin Nano's
VDD_IN was 2.18 W while its carrier took 2.6 W.
"""

import re
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from edge_agent.energy.counter import RAIL, Raw, Rejected, SourceInfo
from edge_agent.energy.ina import Channel, channels
from edge_agent.energy.reading import Clock
from fleet.domain import Quality

INPUT = re.compile(r"VDD_IN|POM_5V_IN|VIN")
LONGEST_SAMPLE_GAP_S = 1.0
SHORTEST_WINDOW_S = 0.5


@dataclass(frozen=True)
class Board:
    """A board: its rail labels, those that add up to its total, what the total covers, who says so."""

    name: str
    rails: frozenset[str]
    total: tuple[str, ...]
    scope: str
    source: str


@cache
def boards() -> tuple[Board, ...]:
    """Every board whose total is known."""
    tables = tomllib.loads((files("edge_agent.energy") / "boards.toml").read_text(encoding="utf-8"))["board"]
    return tuple(
        Board(t["name"], frozenset(t["rails"]), tuple(t["total"]), t["scope"], t["source"]) for t in tables
    )


class RailPower:
    """The power of one channel, or of several added up; one that fails fails all."""

    def __init__(self, parts: Sequence[Channel], info: SourceInfo) -> None:
        self.info = info
        self._parts = tuple(parts)

    def read(self) -> Raw:
        """Watts, negative where the shunt's offset is; the time is that of the last part."""
        readings = [part.read() for part in self._parts]
        return Raw(sum(reading.value for reading in readings), max(reading.at_ns for reading in readings))


def find(host_sys: Path, clock: Clock = time.monotonic_ns) -> tuple[list[RailPower], list[Rejected]]:
    """The total of the board if it is known, and every rail that is not the total itself."""
    wired, rejected = channels(host_sys, clock)
    if not wired:
        return [], [*rejected, Rejected("ina3221", f"no INA3221 or INA238 below {host_sys}: not a Jetson")]
    parts, board = _total(wired)
    found = []
    if board is None:
        labels = ", ".join(channel.label for channel in wired)
        reason = f"which of the rails {labels} add up to the board is not known: they are shown, without a total"
        rejected.append(Rejected("ina3221:total", reason, "Send a trace: docs/energy.md says how"))
    elif len(parts) == 1:
        found.append(RailPower(parts, _total_info(parts[0].id, parts, board)))
    else:
        found.append(RailPower(parts, _total_info("ina3221:total", parts, board)))
    alone = set(parts) if len(parts) == 1 else set()
    found.extend(RailPower([channel], _rail_info(channel)) for channel in wired if channel not in alone)
    return found, rejected


def _total(wired: Sequence[Channel]) -> tuple[list[Channel], Board | None]:
    """The channels that add up to the board."""
    labels = [channel.label for channel in wired]
    for board in boards():
        if board.rails == set(labels) and len(labels) == len(board.rails):
            return [channel for channel in wired if channel.label in board.total], board
    inputs = [channel for channel in wired if INPUT.fullmatch(channel.label)]
    if len(inputs) != 1:
        return [], None
    label = inputs[0].label
    scope = "board" if label == "VIN" else "module"
    return inputs, Board("board not in the table", frozenset(labels), (label,), scope, "the rail's name")


def _total_info(id: str, parts: Sequence[Channel], board: Board) -> SourceInfo:
    added = " + ".join(channel.label for channel in parts)
    return SourceInfo(
        id=id,
        kind=parts[0].chip,
        component="board",
        scope=board.scope,
        quality=Quality.MEASURED,
        min_window_s=SHORTEST_WINDOW_S,
        detail=f"{board.name}: {added}",
        max_gap_s=LONGEST_SAMPLE_GAP_S,
    )


def _rail_info(channel: Channel) -> SourceInfo:
    return SourceInfo(
        id=channel.id,
        kind=channel.chip,
        component=RAIL,
        scope="module",
        quality=Quality.MEASURED,
        min_window_s=SHORTEST_WINDOW_S,
        detail=f"{channel.label} at {channel.address}",
        max_gap_s=LONGEST_SAMPLE_GAP_S,
        rail=channel.label,
    )
