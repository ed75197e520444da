"""What Prometheus sees of an agent: the meter, read at scrape. No series where nothing was measured."""

import platform
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_agent import families
from edge_agent.energy.meter import MODEL, DeviceMeter
from fleet import pages
from fleet.pages import Checks


class AgentCollector(Collector):
    """The families of one agent, called `device` on this host."""

    def __init__(self, device: str, meter: DeviceMeter, host: str | None = None) -> None:
        self._device = device
        self._meter = meter
        self._host = host or platform.node()

    def collect(self) -> Iterator[Metric]:
        """All families, from one look at the meter each."""
        totals = self._meter.totals()
        yield families.agent_energy(
            families.AgentJoules(self._device, t.phase, t.component, t.quality, t.scope, t.joules) for t in totals
        )
        seconds = {total.phase: total.seconds for total in totals}
        yield families.phase_seconds((self._device, phase, spent) for phase, spent in seconds.items())
        yield families.power(
            (self._host, p.component, self._device, p.source, p.watts) for p in self._meter.power()
        )
        states = self._meter.states()
        yield from families.host_energy(self._host, [s for s in states if s.info.kind != MODEL])
        yield from families.sources(self._host, self._device, states, self._meter.rejected)
        yield families.self_checks(self._host, self._device, self._meter.self_checks())
        yield families.meter_cpu_seconds(self._host, self._device, self._meter.cpu_seconds())


def serve(
    collectors: Iterable[Collector], host: str, port: int, checks: Callable[[], Checks] | None = None
) -> int:
    """Serves /metrics and /healthz from threads, and /readyz where there are `checks`; the port. AddressInUse."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    there: dict[str, pages.Application] = {"/metrics": make_wsgi_app(registry), "/healthz": pages.alive}
    if checks is not None:
        there["/readyz"] = pages.ready(checks)
    _, port = pages.serve(host, port, there)
    return port
