"""What Prometheus sees of an agent: the meter, read at scrape. No series where nothing was measured."""

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_agent.energy.meter import Meter
from fleet.errors import AddressInUse


class AgentCollector(Collector):
    """The families of one agent, called `device` on this host."""

    def __init__(self, device: str, meter: Meter, host: str | None = None) -> None:
        self._device = device
        self._meter = meter
        self._host = host or platform.node()

    def collect(self) -> Iterator[Metric]:
        """All families, from one look at the meter each."""
        yield from self._phases()
        yield self._power()
        yield from self._sources()

    def _phases(self) -> Iterator[Metric]:
        energy = CounterMetricFamily(
            "wattbed_agent_energy_joules",
            "Energy of this agent by what it was doing, since it started",
            labels=("agent", "phase", "component", "quality"),
        )
        seconds = CounterMetricFamily(
            "wattbed_agent_phase_seconds",
            "Time this agent spent in each phase, since it started",
            labels=("agent", "phase"),
        )
        totals = self._meter.totals()
        for total in totals:
            if total.joules is not None:
                energy.add_metric((self._device, total.phase, total.component, total.quality), total.joules)
        for phase, spent in {total.phase: total.seconds for total in totals}.items():
            seconds.add_metric((self._device, phase), spent)
        yield energy
        yield seconds

    def _power(self) -> Metric:
        power = GaugeMetricFamily(
            "wattbed_power_watts",
            "Mean power over the last heartbeat interval",
            labels=("host", "component", "device", "source"),
        )
        for p in self._meter.power():
            power.add_metric((self._host, p.component, self._device, p.source), p.watts)
        return power

    def _sources(self) -> Iterator[Metric]:
        info = InfoMetricFamily("wattbed_energy_source", "What each source of joules is and covers")
        up = GaugeMetricFamily(
            "wattbed_energy_source_up",
            "Whether the last reading of the source succeeded",
            labels=("host", "source", "device"),
        )
        errors = CounterMetricFamily(
            "wattbed_energy_read_errors", "Readings that failed", labels=("host", "source", "device", "reason")
        )
        states = self._meter.up()
        for source in self._meter.sources:
            info.add_metric(
                (),
                {
                    "host": self._host,
                    "source": source.id,
                    "device": self._device,
                    "scope": source.scope,
                    "quality": source.quality,
                    "detail": source.detail,
                },
            )
            up.add_metric((self._host, source.id, self._device), float(states[source.id]))
        for (id, reason), count in self._meter.read_errors().items():
            errors.add_metric((self._host, id, self._device, reason), count)
        yield info
        yield up
        yield errors


def serve(collector: AgentCollector, host: str, port: int) -> int:
    """Serves /metrics from a thread of its own and returns the port; AddressInUse when it is taken."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise AddressInUse(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from None
    return int(server.server_port)
