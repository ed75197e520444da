"""A trace: raw readings of every source of a host in one file, one JSON object a line.

    {"wattbed_trace": 1, "agent_version": "0.1.0", "machine": "aarch64", ...}     once, first
    {"source": {"id": "ina3221:1-0040/VDD_IN", ...}, "reads": "watts"}            once per source
    {"rejected": {"id": "nvml", "reason": "...", "fix": ""}}                      once per rejected source
    {"t_ns": 12, "src": "ina3221:1-0040/VDD_IN", "raw": 5.31, "err": null}        one reading
    {"t_ns": 13, "src": "ina3221:1-0040/VDD_IN", "raw": null, "err": "EIO"}       one that failed

`raw` is joules of a counter or watts of a sensor before anything was made of them, `t_ns` the monotonic clock
of the host when the source was read. A line that is none of these is an error that names it.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from edge_agent.energy.counter import Rejected, SourceInfo
from fleet.domain import Quality
from fleet.errors import BadRequest

VERSION = 1

Reads = Literal["joules", "watts"]
Facts = Mapping[str, str | int | float | None]


class BadTrace(BadRequest):
    """A file is no trace, or one that is cut short; the message names the line."""


@dataclass(frozen=True)
class Reading:
    """One line: `raw` None means that the source failed, for the reason `err`."""

    t_ns: int
    src: str
    raw: float | None
    err: str | None


@dataclass(frozen=True)
class Source:
    """A source of a trace, and whether its raw readings are joules or watts."""

    info: SourceInfo
    reads: Reads


@dataclass(frozen=True)
class Trace:
    """A whole trace; readings are in the order of the file."""

    facts: Facts
    sources: Mapping[str, Source]
    rejected: tuple[Rejected, ...]
    readings: tuple[Reading, ...]


def head_line(facts: Facts) -> str:
    """The first line."""
    return json.dumps({"wattbed_trace": VERSION, **facts})


def source_line(source: Source) -> str:
    """What one source is."""
    return json.dumps({"source": asdict(source.info), "reads": source.reads})


def rejected_line(rejected: Rejected) -> str:
    """A source that was looked for and not found."""
    return json.dumps({"rejected": asdict(rejected)})


def reading_line(reading: Reading) -> str:
    """One reading."""
    return json.dumps(asdict(reading))


def read(path: Path) -> Trace:
    """The trace in a file; BadTrace with file and line for everything that is not one."""
    lines = _objects(path)
    where, head = next(lines, (f"{path}:1", {}))
    if head.pop("wattbed_trace", None) != VERSION:
        raise BadTrace(f'{where}: not a trace: the first line has no "wattbed_trace": {VERSION}')
    sources: dict[str, Source] = {}
    rejected: list[Rejected] = []
    readings: list[Reading] = []
    latest: dict[str, int] = {}
    for where, line in lines:
        try:
            if "source" in line:
                source = _source(line)
                if source.info.id in sources:
                    raise ValueError(f"source {source.info.id} is declared twice")
                sources[source.info.id] = source
            elif "rejected" in line:
                rejected.append(Rejected(**line["rejected"]))
            else:
                reading = _reading(line, sources)
                if reading.t_ns < latest.get(reading.src, reading.t_ns):
                    raise ValueError(f"{reading.src} goes back from {latest[reading.src]} to {reading.t_ns} ns")
                latest[reading.src] = reading.t_ns
                readings.append(reading)
        except (ValueError, TypeError, KeyError) as error:
            raise BadTrace(f"{where}: {error.args[0] if isinstance(error, ValueError) else repr(error)}") from None
    return Trace(head, sources, tuple(rejected), tuple(readings))


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's place and its object."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadTrace(f"{path}: {error.strerror}") from None
    if not content:
        raise BadTrace(f"{path}:1: the file is empty")
    lines = content.split(b"\n")
    whole = lines[-1] == b""
    if whole:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if number == len(lines) and not whole:
            raise BadTrace(f"{where}: the file ends in the middle of a line: it was cut short")
        try:
            parsed = json.loads(line)
        except ValueError:
            raise BadTrace(f"{where}: not JSON: {line[:60]!r}") from None
        if not isinstance(parsed, dict):
            raise BadTrace(f"{where}: not an object: {line[:60]!r}")
        yield where, parsed


def _source(line: dict[str, Any]) -> Source:
    given: dict[str, Any] = line["source"]
    known = {field.name for field in fields(SourceInfo)}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"unknown fields of a source: {', '.join(unknown)}")
    if line.get("reads") not in ("joules", "watts"):
        raise ValueError(f"reads is {line.get('reads')!r}, not joules or watts")
    return Source(SourceInfo(**{**given, "quality": Quality(given["quality"])}), line["reads"])


def _reading(line: dict[str, Any], sources: Mapping[str, Source]) -> Reading:
    if set(line) != {"t_ns", "src", "raw", "err"}:
        raise ValueError(
            f"a reading has t_ns, src, raw and err; this line has {', '.join(sorted(line)) or 'nothing'}"
        )
    reading = Reading(**line)
    if reading.src not in sources:
        raise ValueError(f"a reading of {reading.src!r}, which no line before declares")
    if type(reading.t_ns) is not int:
        raise ValueError(f"t_ns is {reading.t_ns!r}, not a whole number")
    if (reading.raw is None) == (reading.err is None):
        raise ValueError("exactly one of raw and err must be null")
    if reading.raw is not None and not (type(reading.raw) in (int, float) and math.isfinite(reading.raw)):
        raise ValueError(f"raw is {reading.raw!r}, not a finite number")
    if reading.err is not None and not isinstance(reading.err, str):
        raise ValueError(f"err is {reading.err!r}, not a word")
    return reading
