"""What Prometheus reads from the coordinator: the totals of the log and the latest heartbeats, at scrape.

No run id is a label of a hot series; wattbed_run_info carries it. An agent that serves /metrics itself
is left to it; for one that does not, its heartbeats are shown here under the same names.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.loop import Loop
from coordinator.machine import State
from coordinator.sessions import Sessions
from coordinator.totals import Totals
from fleet.domain import Heartbeat


class CoordinatorCollector(Collector):
    """Reads the machine's state, the totals and the sessions whenever it is asked."""

    def __init__(self, loop: Loop, sessions: Sessions) -> None:
        self._loop = loop
        self._sessions = sessions

    def collect(self) -> Iterable[Metric]:
        """Every family, with help and unit."""
        state = self._loop.state
        yield from _devices(state, self._sessions)
        yield from _runs(state, self._loop.totals)
        yield from _ledger(self._loop.totals)
        yield from _heartbeats(state, self._sessions)


def _devices(state: State, sessions: Sessions) -> Iterator[Metric]:
    attached = GaugeMetricFamily("wattbed_device_attached", "1 while its stream is open", labels=["device"])
    info = InfoMetricFamily("wattbed_device", "What a device is", labels=["device"])
    for device in list(state.devices.values()):
        attached.add_metric([device.name], float(sessions.find(device.name, device.session) is not None))
        capabilities = device.capabilities
        facts = {"kind": capabilities.kind, "machine": capabilities.machine, "cpu_model": capabilities.cpu_model}
        info.add_metric([device.name], facts | {"agent_version": capabilities.agent_version})
    yield from (attached, info)


def _runs(state: State, totals: Totals) -> Iterator[Metric]:
    info = InfoMetricFamily("wattbed_run", "Runs that have not ended", labels=["run"])
    round_ = GaugeMetricFamily("wattbed_run_round", "The round a run is in", labels=["experiment"])
    waiting = GaugeMetricFamily("wattbed_run_waiting_devices", "Devices a run waits for", labels=["experiment"])
    quality = GaugeMetricFamily(
        "wattbed_model_quality", "Latest evaluation of a run's model", labels=["experiment", "metric"]
    )
    for run in [r for r in state.runs.values() if not r.phase.ended]:
        name = run.experiment.name
        info.add_metric([run.run], {"experiment": name, "phase": run.phase.value})
        round_.add_metric([name], run.round)
        waiting.add_metric([name], len(run.outstanding))
        for metric in totals.evaluations.get(run.run, ()):
            quality.add_metric([name, metric.name], metric.value)
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
    yield from (info, round_, waiting, quality, rounds, ended, seconds, events)


def _ledger(totals: Totals) -> Iterator[Metric]:
    families = (
        (
            "wattbed_assignment_energy_joules",
            "Energy of assignments as their devices reported it",
            ("device", "phase", "component", "source", "quality"),
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


def _heartbeats(state: State, sessions: Sessions) -> Iterator[Metric]:
    joules = CounterMetricFamily(
        "wattbed_agent_energy_joules",
        "Attributed energy since the agent started",
        labels=["agent", "phase", "component", "quality"],
    )
    seconds = CounterMetricFamily(
        "wattbed_agent_phase_seconds", "Time in each phase since the agent started", labels=["agent", "phase"]
    )
    watts = GaugeMetricFamily(
        "wattbed_power_watts", "Present power", labels=["host", "component", "device", "source"]
    )
    for name, heartbeat in _latest(state, sessions):
        for total in heartbeat.totals:
            if total.joules is not None:
                joules.add_metric([name, total.phase, total.component, total.quality], total.joules)
        for phase, phase_seconds in {t.phase: t.seconds for t in heartbeat.totals}.items():
            seconds.add_metric([name, phase], phase_seconds)
        for power in heartbeat.power:
            watts.add_metric([name, power.component, name, power.source], power.watts)
    yield from (joules, seconds, watts)


def _latest(state: State, sessions: Sessions) -> Iterator[tuple[str, Heartbeat]]:
    """The latest heartbeat of each attached device that nobody can scrape."""
    for device in list(state.devices.values()):
        session = sessions.find(device.name, device.session) if device.session else None
        if session and session.heartbeat and device.metrics_address is None:
            yield device.name, session.heartbeat
