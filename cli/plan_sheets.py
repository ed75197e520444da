"""A plan as tables and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from cli import cells
from cli.plan import Known
from cli.sheets import Sheet
from fleet.experiment import Experiment
from optimizer.fitting import Cost
from optimizer.planning import RADIO, DevicePlan, Price, RoundPlan
from optimizer.policy import Decision

LEFT_OUT = "does not take part"


def notes(experiment: Experiment, known: Known, made: RoundPlan, counted: str) -> Iterator[str]:
    """What the tables are about."""
    yield f"{experiment.name}: round {made.round} by policy {experiment.policy.name!r}; nothing is run"
    yield f"planned for {known.source}" + (f", after {', '.join(known.runs)}" if known.runs else "")
    if counted:
        yield f"without measurements of some devices: {counted}"
    offered, wanted = len(known.candidates), experiment.round.devices + experiment.round.over_commit
    if experiment.round.mode == "sync" and wanted < offered:
        yield f"a round offers the policy a sample of {wanted} of these {offered} devices; here it has all"


def sheets(made: RoundPlan) -> Iterator[Sheet]:
    """Who does what, at what price by phase, from which constants, and what the usual would cost."""
    yield Sheet(
        "Plan",
        ("device", "kind", "bits", "precision", "clock", "power", "joules are"),
        ("width", "steps", "seconds", "joules"),
        tuple(_row(d) for d in made.devices),
    )
    phases = tuple(
        (
            *(d.candidate.device, p.phase, p.known),
            *(cells.seconds(p.seconds), cells.joules(p.joules), str(p.samples or cells.NOT_MEASURED)),
            *(_spread(p.residual_seconds), _spread(p.residual_joules)),
        )
        for d in made.devices
        if d.cost
        for p in d.cost.phases
    )
    numbers = ("seconds", "joules", "samples", "seconds are off by", "joules are off by")
    yield Sheet("By phase", ("device", "phase", "known from"), numbers, phases)
    constants = tuple(
        (
            *(d.candidate.device, c.name, c.unit, c.known),
            *(cells.number(c.value), str(c.samples or cells.NOT_MEASURED), _spread(c.residual)),
        )
        for d in made.devices
        for c in d.constants
    )
    yield Sheet("Constants", ("device", "of", "unit", "known from"), ("value", "samples", "off by"), constants)
    rows = [_price("this plan", made.price), *(_price(name, price) for name, price in made.baselines.items())]
    yield Sheet(
        f"This plan and the usual ones (the radio is modelled: {RADIO:g} W while sending)",
        ("scheme", "joules"),
        ("radio, estimated", "slowest", "bytes up", "bytes down"),
        tuple(rows),
    )
    if made.quality:
        found = tuple(
            (q.metric, *(f"{q.at(b):.4g}" for b in (4, 6, 8, 16)), str(q.samples), _spread(q.residual))
            for q in made.quality
        )
        heads = ("4 bits", "6 bits", "8 bits", "16 bits", "runs", "off by")
        yield Sheet("Quality by bits, fitted over runs", ("metric",), heads, found)
    if made.mac_joules:
        mac = tuple((str(n), cells.joules(j)) for n, j in made.mac_joules.items())
        title = "A step on a chip with n-bit arithmetic: estimated by MACs, spent by no device here"
        yield Sheet(title, ("n",), ("joules",), mac)


def as_values(experiment: Experiment, known: Known, made: RoundPlan, counted: str) -> dict[str, Any]:
    """The plan for machines."""
    return {
        "experiment": experiment.name,
        "policy": experiment.policy.name,
        "round": made.round,
        "source": known.source,
        "runs": list(known.runs),
        "note": counted,
        "devices": [_device(d) for d in made.devices],
        "price": asdict(made.price),
        "baselines": {name: asdict(price) for name, price in made.baselines.items()},
        "quality": [asdict(q) for q in made.quality],
        "mac_level_estimated_joules_per_step": made.mac_joules,
        "point": None if made.point is None else asdict(made.point),
    }


def _device(d: DevicePlan) -> dict[str, Any]:
    return {
        "device": d.candidate.device,
        "kind": d.candidate.capabilities.kind,
        "calibrated": d.candidate.calibration is not None,
        "chosen": None if d.decision is None else _chosen(d.decision),
        "predicted": None if d.cost is None else _cost(d.cost),
        "constants": [asdict(c) for c in d.constants],
        "baselines": {name: _cost(cost) for name, cost in d.baselines.items()},
    }


def _chosen(d: Decision) -> dict[str, Any]:
    return {k: v for k, v in asdict(d).items() if k not in ("device", "predicted")}


def _cost(cost: Cost) -> dict[str, Any]:
    quality, scope = cost.kind or (None, None)
    return {
        "joules": cost.joules,
        "seconds": cost.seconds,
        "quality": quality,
        "scope": scope,
        "known": cost.known,
        "phases": [asdict(p) for p in cost.phases],
    }


def _row(d: DevicePlan) -> tuple[str, ...]:
    device, chosen, cost = (d.candidate.device, d.candidate.capabilities.kind), d.decision, d.cost
    if chosen is None or cost is None:
        return (*device, LEFT_OUT, *[""] * 8)
    clock = "as it is" if chosen.frequency_hz is None else f"{chosen.frequency_hz / 1e9:.3g} GHz"
    power = "as it is" if chosen.power_limit_watts is None else f"{chosen.power_limit_watts:g} W"
    return (
        *(*device, cells.bits(chosen.bits_up, chosen.bits_down), chosen.precision, clock, power, _kind(cost)),
        *(f"{chosen.width:g}", str(chosen.train_steps), cells.seconds(cost.seconds), cells.joules(cost.joules)),
    )


def _kind(cost: Cost) -> str:
    return f"{cost.kind[0]}, {cost.kind[1]}" if cost.kind and cost.joules is not None else cells.NOT_MEASURED


def _price(name: str, price: Price) -> tuple[str, ...]:
    joules = [
        f"{cells.joules(t.joules)} ({t.quality}, {t.scope})" if t.joules is not None else f"{t.devices} not known"
        for t in price.totals
    ]
    sizes = (cells.size(None if b is None else round(b)) for b in (price.up_bytes, price.down_bytes))
    return (name, ", ".join(joules), cells.joules(price.radio_joules), cells.seconds(price.seconds), *sizes)


def _spread(residual: float | None) -> str:
    return cells.NOT_MEASURED if residual is None else f"{100 * residual:.1f} %"
