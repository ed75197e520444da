"""The metric families of sources of joules, as agents and the meter of a host both show them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from edge_agent.energy.counter import RAIL, Rejected
from edge_agent.energy.tally import SourceState

AGENT_ENERGY = "wattbed_agent_energy_joules"
AGENT_LABELS = ("agent", "phase", "component", "quality", "scope")


@dataclass(frozen=True)
class AgentJoules:
    """Joules of an agent in one phase, and what they cover. `joules` None: not measured."""

    agent: str
    phase: str
    component: str
    quality: str
    scope: str
    joules: float | None


def agent_energy(rows: Iterable[AgentJoules]) -> Metric:
    """Joules by agent and phase; sources that cover the same part of a device in the same way are added up."""
    family = CounterMetricFamily(
        AGENT_ENERGY, "Energy by agent and what it was doing, since its meter started", labels=AGENT_LABELS
    )
    sums: dict[tuple[str, ...], float] = {}
    for row in rows:
        if row.joules is not None:
            key = row.agent, row.phase, row.component, row.quality, row.scope
            sums[key] = sums.get(key, 0.0) + row.joules
    for labels, joules in sums.items():
        family.add_metric(labels, joules)
    return family


def phase_seconds(rows: Iterable[tuple[str, str, float]]) -> Metric:
    """Seconds by agent and phase."""
    family = CounterMetricFamily(
        "wattbed_agent_phase_seconds",
        "Time by agent and phase, since its meter started",
        labels=("agent", "phase"),
    )
    for agent, phase, seconds in rows:
        family.add_metric((agent, phase), seconds)
    return family


def host_energy(host: str, states: Sequence[SourceState]) -> Iterator[Metric]:
    """Joules of the host by source, and of its rails under a name of their own: those overlap."""
    energy = CounterMetricFamily(
        "wattbed_host_energy_joules",
        "Energy of the host since its meter started; add up one scope only",
        labels=("host", "component", "device", "source", "scope", "quality"),
    )
    rails = CounterMetricFamily(
        "wattbed_rail_energy_joules",
        "Energy of parts that overlap the totals, since the meter started; never to be added up",
        labels=("host", "source", "rail"),
    )
    for state in states:
        info = state.info
        if state.joules is None:
            continue
        if info.component == RAIL:
            rails.add_metric((host, info.kind, info.rail or info.id), state.joules)
        else:
            device = info.id.partition(":")[2]
            energy.add_metric((host, info.component, device, info.kind, info.scope, info.quality), state.joules)
    yield energy
    yield rails


def self_checks(host: str, device: str, ratios: Mapping[str, float]) -> Metric:
    """How far sources agree with what should agree with them."""
    family = GaugeMetricFamily(
        "wattbed_energy_self_check_ratio",
        "Joules of a GPU's counter over those its power added up to, in the same seconds at start",
        labels=("host", "source", "device"),
    )
    for source, ratio in ratios.items():
        family.add_metric((host, source, device), ratio)
    return family


def sources(
    host: str, device: str, states: Sequence[SourceState], rejected: Sequence[Rejected]
) -> Iterator[Metric]:
    """What each source is and how it fares, and what could not be used and why."""
    labels = ("host", "source", "device")
    info = InfoMetricFamily("wattbed_energy_source", "What each source of joules is and covers")
    refused = InfoMetricFamily("wattbed_energy_source_rejected", "Sources that cannot be used here, and why")
    up = GaugeMetricFamily("wattbed_energy_source_up", "Whether the last reading succeeded", labels=labels)
    errors = CounterMetricFamily("wattbed_energy_read_errors", "Readings that failed", labels=(*labels, "reason"))
    wraps = CounterMetricFamily("wattbed_energy_counter_wraps", "Counters that passed their range", labels=labels)
    resets = CounterMetricFamily("wattbed_energy_counter_resets", "Counters that fell otherwise", labels=labels)
    gaps = CounterMetricFamily("wattbed_energy_gap_seconds", "Time nobody can say the joules of", labels=labels)
    age = GaugeMetricFamily("wattbed_energy_sample_age_seconds", "Age of the last good reading", labels=labels)
    for state in states:
        which = (host, state.info.id, device)
        info.add_metric(
            (),
            {
                "host": host,
                "source": state.info.id,
                "device": device,
                "scope": state.info.scope,
                "quality": state.info.quality,
                "detail": state.info.detail,
            },
        )
        up.add_metric(which, float(state.up))
        for reason, count in state.errors:
            errors.add_metric((*which, reason), count)
        wraps.add_metric(which, state.wraps)
        resets.add_metric(which, state.resets)
        gaps.add_metric(which, state.gap_s)
        if state.age_s is not None:
            age.add_metric(which, state.age_s)
    for r in rejected:
        refused.add_metric((), {"host": host, "source": r.id, "device": device, "reason": r.reason})
    yield from (info, refused, up, errors, wraps, resets, gaps, age)


def power(rows: Iterable[tuple[str, str, str, str, float]]) -> Metric:
    """Rows of (host, component, device, source, watts)."""
    family = GaugeMetricFamily(
        "wattbed_power_watts",
        "Mean power between the last two samples",
        labels=("host", "component", "device", "source"),
    )
    for *labels, watts in rows:
        family.add_metric(labels, watts)
    return family


def meter_cpu_seconds(host: str, device: str, seconds: float) -> Metric:
    """What metering costs."""
    family = CounterMetricFamily(
        "wattbed_energy_meter_cpu_seconds", "CPU time spent on metering", labels=("host", "device")
    )
    family.add_metric((host, device), seconds)
    return family
