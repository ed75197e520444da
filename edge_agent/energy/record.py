"""Keeps the raw readings of every source of a host as a trace."""

import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from edge_agent.energy.counter import ReadFailed
from edge_agent.energy.discover import Found
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.reading import Clock, reason_of
from edge_agent.energy.trace import (
    Facts,
    Reading,
    Reads,
    Source,
    head_line,
    reading_line,
    rejected_line,
    source_line,
)
from edge_agent.energy.unwrap import CounterTracker
from edge_agent.probe import cpu_model

AnyTracker = CounterTracker | SensorTracker


def host_facts(note: str = "") -> Facts:
    """What the trace says of this host: no name, address or serial number of it."""
    return {
        "agent_version": version("wattbed"),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cpu_model": cpu_model(),
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": note,
    }


def record(
    file: TextIO,
    found: Found,
    facts: Facts,
    seconds: float,
    hertz: float,
    clock: Clock = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Writes `seconds` of readings at `hertz` to `file`, whole lines at a time; returns how many readings."""
    file.write(head_line(facts) + "\n")
    for tracker in found.trackers:
        reads: Reads = "joules" if isinstance(tracker, CounterTracker) else "watts"
        file.write(source_line(Source(tracker.info, reads)) + "\n")
    for rejected in found.rejected:
        file.write(rejected_line(rejected) + "\n")
    began_ns, period_ns = clock(), int(1e9 / hertz)
    count = 0
    for tick in range(round(seconds * hertz) + 1):
        sleep(max(0.0, (began_ns + tick * period_ns - clock()) * 1e-9))
        lines = [reading_line(reading) + "\n" for reading in readings(found.trackers, clock)]
        file.write("".join(lines))
        file.flush()
        count += len(lines)
    return count


def readings(trackers: tuple[AnyTracker, ...], clock: Clock) -> Iterator[Reading]:
    """One raw reading of each source, now."""
    for tracker in trackers:
        try:
            raw = tracker.source.read()
        except (ReadFailed, OSError) as error:
            yield Reading(clock(), tracker.info.id, None, reason_of(error))
        else:
            yield Reading(raw.at_ns, tracker.info.id, raw.value, None)


def record_to(path: Path, found: Found, seconds: float, hertz: float, note: str = "") -> int:
    """Writes a trace of this host to `path`; returns how many readings it has."""
    with path.open("w", encoding="utf-8") as file:
        return record(file, found, host_facts(note), seconds, hertz)
