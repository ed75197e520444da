"""The tables of a report as text, laid out once for the terminal and for the page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cli import cells
from cli.ledger_view import (
    all_devices,
    busy_seconds,
    compare,
    counted,
    energy,
    metric,
    metric_names,
    readings,
)
from fleet.domain import DeviceReport, RoundReport, RunReport


@dataclass(frozen=True)
class Sheet:
    """A table: columns of words, then columns of numbers; each row has one cell for each."""

    title: str
    words: tuple[str, ...]
    numbers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def headline(report: RunReport) -> str:
    """What run this is and how it stands."""
    run = report.run
    why = f" ({run.reason})" if run.reason else ""
    began = datetime.fromtimestamp(run.started_at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lasted = "" if run.ended_at_s is None else f", took {cells.seconds(run.ended_at_s - run.started_at_s)}"
    rounds = f"round {run.round} of {run.rounds}"
    return f"{run.run}: {run.experiment}, {run.phase}{why}, {rounds}, began {began}{lasted}"


def sheets(report: RunReport) -> Iterator[Sheet]:
    """The rounds, then the devices of each round, then the joules of the run."""
    yield rounds_sheet(report)
    if any(r.devices for r in report.rounds):
        yield devices_sheet(report)
        yield totals_sheet(report)


def metric_notes(report: RunReport) -> tuple[str, ...]:
    """What each metric was computed with."""
    return tuple(f"{name}: {detail}" for name, detail in metric_names(report).items() if detail)


def rounds_sheet(report: RunReport) -> Sheet:
    """A row per round: time, updates, bytes, joules with quality and source, metrics, the model's name."""
    names = tuple(metric_names(report))
    numbers = ("seconds", "updates", "wire up", "wire down", "joules", *names, "model")
    rows = tuple(tuple(_round_row(r, names)) for r in report.rounds)
    return Sheet("Rounds", ("round", "status"), numbers, rows)


def _round_row(round_: RoundReport, names: tuple[str, ...]) -> Iterator[str]:
    devices = round_.devices
    moved = counted(devices)
    arrived = sum(d.status == "arrived" for d in devices)
    yield str(round_.round)
    yield _status(round_)
    yield cells.seconds(round_.seconds)
    yield f"{arrived}/{len(devices)}" if devices else cells.NOT_MEASURED
    yield cells.size(moved.wire_up_bytes if devices else None)
    yield cells.size(moved.wire_down_bytes if devices else None)
    yield cells.energy(list(readings(devices)))
    yield from (cells.number(metric(round_, name)) for name in names)
    yield cells.digest(round_.model_sha256)


def devices_sheet(report: RunReport) -> Sheet:
    """A row per assignment: bits, bytes, loss, and time and joules beside what was predicted."""
    numbers = (
        *("bits", "update", "wire up", "wire down", "loss"),
        *("seconds", "predicted", "error", "joules", "predicted", "error"),
    )
    rows = tuple(tuple(_device_row(r, d)) for r in report.rounds for d in r.devices)
    return Sheet("Devices", ("round", "device", "kind", "status"), numbers, rows)


def _device_row(round_: RoundReport, device: DeviceReport) -> Iterator[str]:
    beside = compare(round_.round, device)
    yield from (str(round_.round), device.device, device.kind, _status(device))
    yield cells.bits(device.bits_up, device.bits_down)
    yield cells.size(device.update_bytes)
    yield cells.size(device.wire_up_bytes)
    yield cells.size(device.wire_down_bytes)
    yield cells.number(device.loss)
    yield cells.seconds(busy_seconds(device))
    yield cells.seconds(beside.predicted_seconds)
    yield cells.percent(beside.seconds_error)
    yield cells.energy(list(readings([device])))
    yield cells.joules(beside.predicted_joules)
    yield cells.percent(beside.joules_error)


def _status(of: RoundReport | DeviceReport) -> str:
    return f"{of.status}: {of.reason}" if of.reason and of.status != "closed" else of.status


def totals_sheet(report: RunReport) -> Sheet:
    """A row per quality and source; "missing" counts the phases it gave no joules for."""
    rows = tuple(
        (
            *(s.quality, s.source, s.component, s.scope),
            *(cells.joules(j) for j in (s.joules, s.low_joules, s.high_joules)),
            str(s.missing),
        )
        for s in energy(readings(all_devices(report)))
    )
    return Sheet(
        "Joules of the run by quality and source",
        ("quality", "source", "component", "scope"),
        ("joules", "from", "to", "missing"),
        rows,
    )
