"""The tables of a report as text, laid out once for the terminal and for the page."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cli import cells
from cli.ledger_view import (
    all_devices,
    busy_seconds,
    choices,
    compare,
    counted,
    energy,
    metric,
    metric_names,
    readings,
    totals,
)
from fleet.domain import DeviceReport, RoundReport, RunReport
from fleet.energy import Choices


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
    """The rounds, the devices of each round, the joules of the run, and what the devices are."""
    chosen = choices(report)
    yield rounds_sheet(report, chosen)
    if any(r.devices for r in report.rounds):
        yield devices_sheet(report, chosen)
        yield totals_sheet(report, chosen)
        yield sources_sheet(report)
    if report.equipment:
        yield equipment_sheet(report)
    yield from (sheet for sheet in (links_sheet(report), levers_sheet(report)) if sheet.rows)


def metric_notes(report: RunReport) -> tuple[str, ...]:
    """What each metric was computed with."""
    return tuple(f"{name}: {detail}" for name, detail in metric_names(report).items() if detail)


def rounds_sheet(report: RunReport, chosen: Mapping[str, Choices]) -> Sheet:
    """A row per round: time, updates, bytes, joules with quality, scope and source, metrics, the model's name."""
    names = tuple(metric_names(report))
    numbers = ("seconds", "updates", "wire up", "wire down", "joules", *names, "model")
    rows = tuple(tuple(_round_row(r, names, chosen)) for r in report.rounds)
    return Sheet("Rounds", ("round", "status"), numbers, rows)


def _round_row(round_: RoundReport, names: tuple[str, ...], chosen: Mapping[str, Choices]) -> Iterator[str]:
    devices = round_.devices
    moved = counted(devices)
    arrived = sum(d.status == "arrived" for d in devices)
    yield str(round_.round)
    yield _status(round_)
    yield cells.seconds(round_.seconds)
    yield f"{arrived}/{len(devices)}" if devices else cells.NOT_MEASURED
    yield cells.size(moved.wire_up_bytes if devices else None)
    yield cells.size(moved.wire_down_bytes if devices else None)
    yield cells.energy(totals(devices, chosen))
    yield from (cells.number(metric(round_, name)) for name in names)
    yield cells.digest(round_.model_sha256)


def devices_sheet(report: RunReport, chosen: Mapping[str, Choices]) -> Sheet:
    """A row per assignment: bits, bytes, loss, and time and joules beside what was predicted."""
    numbers = (
        *("bits", "update", "wire up", "wire down", "loss"),
        *("seconds", "predicted", "error", "joules", "predicted", "error"),
    )
    rows = tuple(tuple(_device_row(r, d, chosen)) for r in report.rounds for d in r.devices)
    return Sheet("Devices", ("round", "device", "kind", "status"), numbers, rows)


def _device_row(round_: RoundReport, device: DeviceReport, chosen: Mapping[str, Choices]) -> Iterator[str]:
    beside, arrived = compare(round_.round, device), device.status == "arrived"
    yield from (str(round_.round), device.device, device.kind, _status(device))
    yield cells.bits(device.bits_up, device.bits_down)
    yield cells.size(device.update_bytes)
    yield cells.size(device.wire_up_bytes)
    yield cells.size(device.wire_down_bytes)
    yield cells.number(device.loss)
    yield cells.seconds(busy_seconds(device))
    yield cells.seconds(beside.predicted_seconds)
    yield cells.percent(beside.seconds_error if arrived else None)
    yield cells.energy(totals([device], chosen))
    yield cells.joules(beside.predicted_joules)
    yield cells.percent(beside.joules_error if arrived else None)


def _status(of: RoundReport | DeviceReport) -> str:
    return f"{of.status}: {of.reason}" if of.reason and of.status != "closed" else of.status


def totals_sheet(report: RunReport, chosen: Mapping[str, Choices]) -> Sheet:
    """A row per total: one quality, one scope, the sources it is made of. No row may be added to another."""
    rows = tuple(
        (
            *(t.quality, t.scope, "+".join(t.sources)),
            *(cells.joules(j) for j in (t.joules, t.low_joules, t.high_joules)),
            str(t.missing),
        )
        for t in totals(all_devices(report), chosen)
    )
    return Sheet(
        "Joules of the run", ("quality", "scope", "sources"), ("joules", "from", "to", "windows missing"), rows
    )


def sources_sheet(report: RunReport) -> Sheet:
    """A row per source, whether its joules are in a total or not; "missing" counts the phases it gave none for."""
    rows = tuple(
        (
            *(s.quality, s.source, s.component, s.scope),
            *(cells.joules(j) for j in (s.joules, s.low_joules, s.high_joules)),
            str(s.missing),
        )
        for s in energy(readings(all_devices(report)))
    )
    return Sheet(
        "Joules of the run by source; these overlap",
        ("quality", "source", "component", "scope"),
        ("joules", "from", "to", "missing"),
        rows,
    )


def equipment_sheet(report: RunReport) -> Sheet:
    """A row per device: what it is and what measures it."""
    rows = tuple(
        (
            *(e.device, e.capabilities.kind, e.capabilities.cpu_model),
            ", ".join(f"{m.source} ({m.quality}, {m.scope})" for m in e.capabilities.meters) or "none",
            "none" if e.capabilities.cpu_quota is None else f"{e.capabilities.cpu_quota:g} CPUs",
        )
        for e in report.equipment
    )
    return Sheet("Devices of the run", ("device", "kind", "processor", "sources of joules"), ("cpu quota",), rows)


def links_sheet(report: RunReport) -> Sheet:
    """A row per device with an emulated link: what it is like, and what emulates it."""
    rows = tuple(
        (
            *(e.device, link.rate_by, link.delay_by, link.loss_by, link.trace),
            *(cells.rate(link.rate_up_bps), cells.rate(link.rate_down_bps)),
            *(cells.milliseconds(link.delay_s), cells.milliseconds(link.jitter_s), f"{100 * link.loss:.3g} %"),
        )
        for e in report.equipment
        if (link := e.capabilities.link) is not None
    )
    words = ("device", "rate by", "delay by", "loss by", "trace")
    return Sheet("Emulated links", words, ("up", "down", "delay", "jitter", "loss"), rows)


def levers_sheet(report: RunReport) -> Sheet:
    """A row per outcome of a lever: what was asked for, what was set, and how many phases ended so."""
    found = Counter(
        (d.device, outcome) for d in all_devices(report) for phase in d.phases for outcome in phase.levers
    )
    rows = tuple(
        (
            *(device, o.lever, o.reason if o.applied is not None else f"refused: {o.reason}"),
            *(f"{o.requested:g}", cells.NOT_MEASURED if o.applied is None else f"{o.applied:g}", str(phases)),
        )
        for (device, o), phases in sorted(found.items(), key=lambda item: (item[0][0], item[0][1].lever))
    )
    return Sheet("Levers", ("device", "lever", "outcome"), ("requested", "applied", "phases"), rows)
