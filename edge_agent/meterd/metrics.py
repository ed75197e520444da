"""What Prometheus sees of the meter of a host: sources, agents, the idle host and the rest, which add up."""

import platform
import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_agent import families
from edge_agent.energy.counter import RAIL
from edge_agent.meterd.host import HostMeter, share_info

THE_HOST = "_host"
"""The `device` of what belongs to no single agent."""


class HostCollector(Collector):
    """The families of one host. Reads no counter: the last tick is what is shown."""

    def __init__(
        self, meter: HostMeter, host: str | None = None, checks: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        self._meter = meter
        self._checks = checks
        self._host = host or platform.node()

    def collect(self) -> Iterator[Metric]:
        """All families. The host and its rows are of the same tick."""
        states, rows, seconds = self._meter.snapshot()
        yield from families.host_energy(self._host, states)
        infos = {state.info.id: share_info(state.info) for state in states}
        yield families.agent_energy(
            families.AgentJoules(agent, phase, info.component, info.quality, info.scope, joules)
            for (agent, phase, source), joules in rows.items()
            if (info := infos[source])
        )
        yield families.phase_seconds((agent, phase, spent) for (agent, phase), spent in seconds.items())
        yield families.power(
            (self._host, s.info.component, THE_HOST, s.info.id, s.watts)
            for s in states
            if s.watts is not None and s.info.component != RAIL
        )
        idle = GaugeMetricFamily(
            "wattbed_energy_idle_watts",
            "Power of the idle host by source, as measured while no agent worked or as given",
            labels=("host", "source"),
        )
        for source, watts in self._meter.idle_watts().items():
            idle.add_metric((self._host, source), watts)
        yield idle
        yield from families.sources(self._host, THE_HOST, states, self._meter.rejected)
        yield families.self_checks(self._host, THE_HOST, self._checks())
        yield families.meter_cpu_seconds(self._host, THE_HOST, time.process_time())
