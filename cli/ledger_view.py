"""What the ledger of a run adds up to. Pure functions over RunReport.

Joules of different quality or scope are never added: a modelled joule never hides in a measured sum, and
the wall never counts its own processor twice. `energy` keeps every source a row of its own; a total is of one
quality and scope, and fleet.energy chooses once for a whole report what each device's totals are made of. What is
missing is counted and said, never taken as zero.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fleet.domain import (
    DeviceReport,
    EnergyReading,
    Origin,
    Phase,
    Quality,
    RoundReport,
    RunReport,
)
from fleet.energy import APART, Choice, Choices, Total, choose, over_devices, scope_in_host, total

FID = "fid"


@dataclass(frozen=True)
class EnergySum:
    """Joules of one source. `missing` windows or phases gave none, so the true sum is above `joules`.

    `joules` None: no reading gave any. The bounds are None unless every counted reading has them.
    """

    quality: Quality
    source: str
    component: str
    scope: str
    joules: float | None
    low_joules: float | None
    high_joules: float | None
    missing: int


@dataclass(frozen=True)
class Comparison:
    """Predicted beside measured for one assignment. Errors are (actual - predicted) / predicted.

    `joules` are of the `quality` and `scope` that were predicted, else of the best quality that every phase has;
    None unless every phase has them.
    """

    round: int
    device: str
    origin: Origin
    predicted_joules: float | None
    joules: float | None
    quality: Quality | None
    scope: str | None
    sources: tuple[str, ...]
    joules_error: float | None
    predicted_seconds: float | None
    seconds: float | None
    seconds_error: float | None


@dataclass(frozen=True)
class CurvePoint:
    """The model of one round, and the joules of one quality and scope spent until it existed."""

    round: int
    quality: Quality
    scope: str
    joules: float
    value: float


@dataclass(frozen=True)
class Bytes:
    """Bytes of assignments, all counted: payloads of updates, and both directions on the wire."""

    update_bytes: int
    wire_up_bytes: int
    wire_down_bytes: int


def readings(devices: Iterable[DeviceReport]) -> Iterator[EnergyReading]:
    """Every reading of every phase."""
    for device in devices:
        for phase in device.phases:
            yield from phase.readings


def energy(found: Iterable[EnergyReading]) -> tuple[EnergySum, ...]:
    """One sum per quality, source, component and scope, sorted by them."""
    groups: dict[tuple[Quality, str, str, str], list[EnergyReading]] = {}
    for reading in found:
        key = (reading.quality, reading.source, reading.component, reading.scope)
        groups.setdefault(key, []).append(reading)
    return tuple(_sum(*key, groups[key]) for key in sorted(groups))


def _sum(quality: Quality, source: str, component: str, scope: str, group: list[EnergyReading]) -> EnergySum:
    known = [r for r in group if r.joules is not None]
    return EnergySum(
        quality,
        source,
        component,
        scope,
        joules=_total([r.joules for r in known]),
        low_joules=_total([r.low_joules for r in known]),
        high_joules=_total([r.high_joules for r in known]),
        missing=len(group) - len(known),
    )


def _total(values: list[float | None]) -> float | None:
    """The sum; None when there is nothing to add or a summand is not known."""
    known = [v for v in values if v is not None]
    return math.fsum(known) if known and len(known) == len(values) else None


def counted(devices: Iterable[DeviceReport]) -> Bytes:
    """Bytes over `devices`."""
    devices = tuple(devices)
    return Bytes(
        sum(d.update_bytes for d in devices),
        sum(d.wire_up_bytes for d in devices),
        sum(d.wire_down_bytes for d in devices),
    )


def all_devices(report: RunReport) -> Iterator[DeviceReport]:
    """Every assignment of every round."""
    for round_ in report.rounds:
        yield from round_.devices


def busy_seconds(device: DeviceReport) -> float | None:
    """Seconds an assignment took the device, idling left out; None before any phase was reported."""
    return _total([p.seconds for p in device.phases if p.phase is not Phase.IDLE])


def choices(report: RunReport) -> dict[str, Choices]:
    """What the totals of each device are made of, chosen once for all of `report`, so that its parts add up."""
    windows: dict[str, list[tuple[EnergyReading, ...]]] = {}
    for device in all_devices(report):
        windows.setdefault(device.device, []).extend(p.readings for p in device.phases)
    return {device: choose(found) for device, found in windows.items()}


def totals(devices: Iterable[DeviceReport], chosen: Mapping[str, Choices]) -> tuple[Total, ...]:
    """The joules of some assignments: one total per quality and scope, never added to each other."""
    return over_devices(
        total([p.readings for p in device.phases], choice)
        for device in devices
        if device.phases
        for choice in chosen.get(device.device, {}).values()
    )


def is_counted(device: str, reading: EnergyReading, chosen: Mapping[str, Choices]) -> bool:
    """Whether a reading of `device` is part of its totals."""
    return any(c.counts(reading) for c in chosen.get(device, {}).values())


def best_total(device: DeviceReport, chosen: Iterable[Choice] | None = None) -> Total | None:
    """Joules of an assignment, idling left out, in the best quality that every phase has; None without one.

    `chosen`: by these choices only; without, by those that fit this assignment best.
    """
    windows = [p.readings for p in device.phases if p.phase is not Phase.IDLE]
    found = [total(windows, c) for c in (choose(windows).values() if chosen is None else chosen)]
    return next((t for t in found if t.joules is not None and not t.missing), None)


def _predicted_total(device: DeviceReport) -> Total | None:
    """The total that a prediction is to be held against: of the quality and scope that it was fitted to."""
    predicted = device.predicted
    if predicted.quality is None or predicted.scope is None:
        return best_total(device)
    windows = [
        tuple(r for r in p.readings if (r.quality, scope_in_host(r)) == (predicted.quality, predicted.scope))
        for p in device.phases
        if p.phase is not Phase.IDLE
    ]
    return best_total(device, choose(windows).values())


def comparisons(report: RunReport) -> tuple[Comparison, ...]:
    """Every assignment that delivered, predicted beside measured."""
    return tuple(
        compare(round_.round, device)
        for round_ in report.rounds
        for device in round_.devices
        if device.status == "arrived"
    )


def compare(round_: int, device: DeviceReport) -> Comparison:
    """One assignment, predicted beside measured."""
    predicted, seconds = device.predicted, busy_seconds(device)
    spent = _predicted_total(device)
    joules = None if spent is None else spent.joules
    return Comparison(
        round=round_,
        device=device.device,
        origin=predicted.origin,
        predicted_joules=predicted.joules,
        joules=joules,
        quality=None if spent is None else spent.quality,
        scope=None if spent is None else spent.scope,
        sources=() if spent is None else spent.sources,
        joules_error=_relative(joules, predicted.joules),
        predicted_seconds=predicted.seconds,
        seconds=seconds,
        seconds_error=_relative(seconds, predicted.seconds),
    )


def _relative(actual: float | None, predicted: float | None) -> float | None:
    return None if actual is None or not predicted else (actual - predicted) / predicted


def metric(round_: RoundReport, name: str) -> float | None:
    """The metric `name` of a round's model; None where it was not evaluated."""
    return next((m.value for m in round_.metrics if m.name == name), None)


def metric_names(report: RunReport) -> dict[str, str]:
    """Names of the metrics in the order they first appear, each with what it was computed with."""
    return {m.name: m.detail for round_ in report.rounds for m in round_.metrics}


def chief_metric(report: RunReport) -> str | None:
    """The metric that says most: the FID where there is one, else the first; None before any evaluation."""
    names = list(metric_names(report))
    return FID if FID in names else names[0] if names else None


def curve(report: RunReport, name: str) -> tuple[CurvePoint, ...]:
    """Metric `name` against the joules spent until then, one point per evaluated round, quality and scope.

    The untrained model stands at zero joules of every quality and scope that occurs in the run.
    """
    chosen = choices(report)
    known = [t for t in totals(all_devices(report), chosen) if t.joules is not None]
    spent = dict.fromkeys(((t.quality, t.scope) for t in known), 0.0)
    points = []
    for round_ in report.rounds:
        for t in totals(round_.devices, chosen):
            if t.joules is not None:
                spent[t.quality, t.scope] += t.joules
        value = metric(round_, name)
        if value is not None:
            points += [CurvePoint(round_.round, q, scope, joules, value) for (q, scope), joules in spent.items()]
    return tuple(points)


def ends(report: RunReport, name: str) -> tuple[float, float] | None:
    """The first and the last value of a metric; None with fewer than two."""
    values = [v for round_ in report.rounds if (v := metric(round_, name)) is not None]
    return (values[0], values[-1]) if len(values) > 1 else None


def without_source(report: RunReport) -> tuple[str, ...]:
    """Phases that name no source of joules, or where it gave none: a complete ledger has none of these."""
    return tuple(
        f"round {round_.round}, {device.device}, {phase.phase}"
        for round_ in report.rounds
        for device in round_.devices
        for phase in device.phases
        if not any(r.source and r.joules is not None and r.component not in APART for r in phase.readings)
    )


def as_json(report: RunReport) -> dict[str, Any]:
    """The report for machines: the ledger as it is, then `totals` and `comparisons` drawn from it.

    `totals.energy` has a row per source, `totals.joules` what may be called a total, over all and by round.

    Not measured is null. A number that is not finite is the string "NaN", "Infinity" or "-Infinity".
    """
    values = asdict(report)
    experiment_json = values.pop("experiment_json")
    devices, chosen = tuple(all_devices(report)), choices(report)
    found: dict[str, Any] = _strict(
        {
            **values,
            "experiment": json.loads(experiment_json) if experiment_json else None,
            "totals": {
                **asdict(counted(devices)),
                "energy": [asdict(s) for s in energy(readings(devices))],
                "joules": [asdict(t) for t in totals(devices, chosen)],
                "joules_by_round": [
                    {"round": r.round, **asdict(t)} for r in report.rounds for t in totals(r.devices, chosen)
                ],
            },
            "comparisons": [asdict(c) for c in comparisons(report)],
        }
    )
    return found


def _strict(value: Any) -> Any:
    """`value` in the types of RFC 8259, whose numbers are finite."""
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
