"""What Prometheus reads from the coordinator: the totals of the log and the latest heartbeats, at scrape.

No run id is a label of a hot series; wattbed_run_info carries it. An agent that serves /metrics itself
is left to it; for one that does not, what it said of itself is shown here under the same names.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator import run_metrics
from coordinator.loop import Loop
from coordinator.machine import Device, State
from coordinator.sessions import Session, Sessions
from coordinator.totals import Totals
from fleet.domain import Heartbeat


class CoordinatorCollector(Collector):
    """Reads the machine's state, the totals and the sessions whenever it is asked."""

    def __init__(self, loop: Loop, sessions: Sessions) -> None:
        self._loop = loop
        self._sessions = sessions

    def collect(self) -> Iterable[Metric]:
        """Every family, with help and unit."""
        state, totals = self._loop.state, self._loop.totals
        yield from _devices(state, self._sessions, frozenset(totals.left))
        yield from run_metrics.collect(state, totals.tallies, self._loop.now_s())
        yield from _rounds(totals)
        yield from _ledger(totals)
        hidden = [(d, s) for d, s in _attached(state, self._sessions) if d.metrics_address is None]
        yield from _heartbeats([(d.name, s.heartbeat) for d, s in hidden if s.heartbeat])
        yield from _meters(hidden)
        yield from _limits(hidden)


def _attached(state: State, sessions: Sessions) -> Iterator[tuple[Device, Session]]:
    for device in list(state.devices.values()):
        session = sessions.find(device.name, device.session) if device.session else None
        if session:
            yield device, session


def _devices(state: State, sessions: Sessions, left: frozenset[str]) -> Iterator[Metric]:
    attached = GaugeMetricFamily("wattbed_device_attached", "1 while its stream is open", labels=["device"])
    silent = GaugeMetricFamily(
        "wattbed_device_silent",
        "1 where the stream broke and has not come back; 0 after a goodbye",
        labels=["device"],
    )
    info = InfoMetricFamily("wattbed_device", "What a device is", labels=["device"])
    skew = GaugeMetricFamily(
        "wattbed_device_clock_skew_seconds", "The device's clock minus the coordinator's", labels=["device"]
    )
    expires = GaugeMetricFamily(
        "wattbed_device_certificate_expires_timestamp_seconds",
        "When the certificate of a device runs out that is not revoked",
        labels=["device"],
    )
    cpu = CounterMetricFamily("wattbed_device_cpu_seconds", "CPU time of the agent's processes", labels=["device"])
    here = {device.name: session for device, session in _attached(state, sessions)}
    for device in list(state.devices.values()):
        attached.add_metric([device.name], float(device.name in here))
        silent.add_metric([device.name], float(device.session is None and device.name not in left))
        capabilities = device.capabilities
        facts = {"kind": capabilities.kind, "machine": capabilities.machine, "cpu_model": capabilities.cpu_model}
        info.add_metric([device.name], facts | {"agent_version": capabilities.agent_version})
    for name, session in here.items():
        if heartbeat := session.heartbeat:
            cpu.add_metric([name], heartbeat.cpu_seconds_total)
        if (skew_s := session.clock_skew_s) is not None:
            skew.add_metric([name], skew_s)
    for name, enrolment in list(state.register.devices.items()):
        if enrolment.revoked_at_s is None:
            expires.add_metric([name], enrolment.expires_at_s)
    yield from (attached, silent, info, cpu, skew, expires)


def _rounds(totals: Totals) -> Iterator[Metric]:
    rounds = CounterMetricFamily("wattbed_rounds", "Rounds by outcome", labels=["outcome"])
    for outcome in ("aggregated", "failed"):
        rounds.add_metric([outcome], totals.rounds[outcome])
    ended = CounterMetricFamily("wattbed_runs_ended", "Runs that ended, by outcome", labels=["outcome"])
    for outcome in ("completed", "stopped", "failed"):
        ended.add_metric([outcome], totals.runs_ended[outcome])
    seconds = CounterMetricFamily("wattbed_aggregate_seconds", "Time spent in aggregation")
    seconds.add_metric([], totals.aggregate_seconds)
    events = CounterMetricFamily("wattbed_log_events", "Events in the log")
    events.add_metric([], totals.events)
    yield from (rounds, ended, seconds, events)


def _ledger(totals: Totals) -> Iterator[Metric]:
    families = (
        (
            "wattbed_assignment_energy_joules",
            "Energy of assignments as their devices reported it",
            ("device", "phase", "component", "source", "scope", "quality"),
            totals.joules,
        ),
        ("wattbed_assignment_seconds", "Time of assignments", ("device", "phase"), totals.seconds),
        ("wattbed_assignment_windows", "Windows measured", ("device", "phase"), totals.windows),
        (
            "wattbed_assignment_unmeasured_windows",
            "Windows that no source could say anything about",
            ("device", "phase"),
            totals.unmeasured_windows,
        ),
        ("wattbed_wire_bytes", "Bytes counted on the wire", ("device", "direction"), totals.wire_bytes),
        ("wattbed_update_bytes", "Payload bytes of updates that were counted", ("device",), totals.update_bytes),
        ("wattbed_updates", "Updates received and refused", ("device", "outcome"), totals.updates),
        (
            "wattbed_predicted_energy_joules",
            "Energy of assignments as it was predicted",
            ("device",),
            totals.predicted_joules,
        ),
        (
            "wattbed_predicted_seconds",
            "Time of assignments as it was predicted",
            ("device",),
            totals.predicted_seconds,
        ),
    )
    for name, help_, labels, counts in families:
        family = CounterMetricFamily(name, help_, labels=labels)
        for key, value in list(counts.items()):
            family.add_metric([key] if isinstance(key, str) else list(key), value)
        yield family


def _heartbeats(heard: Iterable[tuple[str, Heartbeat]]) -> Iterator[Metric]:
    joules = CounterMetricFamily(
        "wattbed_agent_energy_joules",
        "Attributed energy since the agent started",
        labels=["agent", "phase", "component", "scope", "quality"],
    )
    seconds = CounterMetricFamily(
        "wattbed_agent_phase_seconds", "Time in each phase since the agent started", labels=["agent", "phase"]
    )
    watts = GaugeMetricFamily(
        "wattbed_power_watts", "Present power", labels=["host", "component", "device", "source"]
    )
    for name, heartbeat in heard:
        for key, sum_joules in _by_scope(heartbeat).items():
            joules.add_metric([name, *key], sum_joules)
        for phase, phase_seconds in {t.phase: t.seconds for t in heartbeat.totals}.items():
            seconds.add_metric([name, phase], phase_seconds)
        for power in heartbeat.power:
            watts.add_metric([name, power.component, name, power.source], power.watts)
    yield from (joules, seconds, watts)


def _by_scope(heartbeat: Heartbeat) -> dict[tuple[str, str, str, str], float]:
    """Joules by (phase, component, scope, quality): two sources of one component, such as two sockets, are one."""
    sums: dict[tuple[str, str, str, str], float] = {}
    for t in heartbeat.totals:
        if t.joules is not None:
            key = (t.phase.value, t.component, t.scope, t.quality.value)
            sums[key] = sums.get(key, 0.0) + t.joules
    return sums


def _meters(hidden: Iterable[tuple[Device, Session]]) -> Iterator[Metric]:
    info = InfoMetricFamily("wattbed_energy_source", "What each source of joules is and covers")
    rejected = InfoMetricFamily("wattbed_energy_source_rejected", "Sources that cannot be read, and why")
    up = GaugeMetricFamily(
        "wattbed_energy_source_up",
        "Whether the last reading of the source succeeded",
        labels=["host", "source", "device"],
    )
    for device, session in hidden:
        place = {"host": device.name, "device": device.name}
        for meter in device.capabilities.meters:
            covers = {"scope": meter.scope, "quality": meter.quality.value, "detail": meter.detail}
            info.add_metric([], place | {"source": meter.source} | covers)
        for rejection in device.capabilities.rejected_meters:
            rejected.add_metric([], place | {"source": rejection.source, "reason": rejection.reason})
        if session.heartbeat:
            answered = {power.source for power in session.heartbeat.power}
            for source in dict.fromkeys(m.source for m in device.capabilities.meters):
                up.add_metric([device.name, source, device.name], float(source in answered))
    yield from (info, rejected, up)


def _limits(hidden: Iterable[tuple[Device, Session]]) -> Iterator[Metric]:
    quota = GaugeMetricFamily("wattbed_device_cpu_quota_cores", "CPU seconds per second at most", labels=["agent"])
    limit = GaugeMetricFamily("wattbed_device_memory_limit_bytes", "Memory at most", labels=["agent"])
    memory = GaugeMetricFamily("wattbed_device_memory_bytes", "Memory in use", labels=["agent"])
    rate = GaugeMetricFamily(
        "wattbed_link_rate_bits_per_second",
        "Rate of the emulated link; with a trace its ceiling",
        labels=["agent", "direction"],
    )
    delay = GaugeMetricFamily(
        "wattbed_link_delay_seconds", "Delay of the emulated link, one way", labels=["agent"]
    )
    info = InfoMetricFamily("wattbed_link", "What emulates the link")
    for device, session in hidden:
        capabilities = device.capabilities
        limit.add_metric([device.name], capabilities.memory_bytes)
        if session.heartbeat:
            memory.add_metric([device.name], session.heartbeat.memory_bytes)
        if capabilities.cpu_quota is not None:
            quota.add_metric([device.name], capabilities.cpu_quota)
        if link := capabilities.link:
            if link.rate_by != "none":
                rate.add_metric([device.name, "up"], link.rate_up_bps)
                rate.add_metric([device.name, "down"], link.rate_down_bps)
            if link.delay_by != "none":
                delay.add_metric([device.name], link.delay_s)
            by = {"rate_by": link.rate_by, "delay_by": link.delay_by, "loss_by": link.loss_by}
            info.add_metric([], {"agent": device.name} | by | {"trace": link.trace})
    yield from (quota, limit, memory, rate, delay, info)
