"""What Prometheus sees of the relay, read at scrape."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_agent.link.flow import Tally
from edge_agent.link.relay import Relay


class RelayCollector(Collector):
    """Counters by kind and direction; present rates by peer while one is connected."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def collect(self) -> Iterator[Metric]:
        """All families."""
        labels = ("kind", "direction")
        payload = CounterMetricFamily(
            "wattbed_relay_payload_bytes", "Bytes that the relay passed on", labels=labels
        )
        stalls = CounterMetricFamily("wattbed_relay_stalls", "Pieces held back for a lost packet", labels=labels)
        stalled = CounterMetricFamily("wattbed_relay_stall_seconds", "Time they were held back", labels=labels)
        held = GaugeMetricFamily("wattbed_relay_held_bytes", "Bytes that are on their way", labels=labels)
        open_now = GaugeMetricFamily(
            "wattbed_relay_connections", "Connections through the relay", labels=("kind",)
        )
        resets = CounterMetricFamily("wattbed_relay_resets", "Connections reset on purpose", labels=("kind",))
        unreachable = CounterMetricFamily(
            "wattbed_relay_unreachable", "Connections ended as the coordinator did not answer", labels=("kind",)
        )
        taken = GaugeMetricFamily(
            "wattbed_relay_overhead_seconds", "What the relay itself adds, taken off every delay"
        )
        taken.add_metric((), self._relay.taken_s)
        pairs = list(self._relay.pairs)
        for kind, tally in self._relay.tallies.items():
            mine = [pair for pair in pairs if pair.port.kind == kind]
            open_now.add_metric((kind,), len(mine))
            resets.add_metric((kind,), tally.resets)
            unreachable.add_metric((kind,), tally.unreachable)
            for direction, ended, flows in (
                ("up", tally.up, [pair.up for pair in mine]),
                ("down", tally.down, [pair.down for pair in mine]),
            ):
                total = Tally()
                for part in (ended, *(flow.tally for flow in flows)):
                    total.add(part)
                payload.add_metric((kind, direction), total.payload_bytes)
                stalls.add_metric((kind, direction), total.stalls)
                stalled.add_metric((kind, direction), total.stall_s)
                held.add_metric((kind, direction), sum(flow.held_bytes for flow in flows))
        yield from (payload, stalls, stalled, held, open_now, resets, unreachable, taken, self._rates())

    def _rates(self) -> Metric:
        rate = GaugeMetricFamily(
            "wattbed_relay_rate_bits_per_second",
            "What a link lets through at this moment: its trace's rate, or what loss leaves of it",
            labels=("kind", "peer", "direction"),
        )
        now_s = self._relay.clock.now()
        present = {(pair.port.kind, pair.peer): pair for pair in list(self._relay.pairs)}
        for (kind, peer), pair in present.items():
            state = pair.trace.at(now_s)
            rate.add_metric((kind, peer, "up"), pair.up.line.rate_bps(state))
            rate.add_metric((kind, peer, "down"), pair.down.line.rate_bps(state))
        return rate
