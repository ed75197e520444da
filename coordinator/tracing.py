"""OpenTelemetry traces of runs, as an option: a trace per run, and in it a span per round, phase and transfer.

A span is made when what it stands for is over, from the times in the events: nothing is kept open, and a run that
goes on after a restart goes on in its trace, because ids are digests of what they name. A transfer is known by its
end only, so its span has no length; how long devices took is in the spans of their phases.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from coordinator.events import (
    BytesMoved,
    EnergyMeasured,
    Event,
    ModelAggregated,
    RoundFailed,
    RoundOpened,
    RunEnded,
    RunStarted,
)
from fleet.errors import Unequipped

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE = "wattbed-coordinator"
ENDPOINTS = ("WATTBED_OTLP", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Where spans are sent by OTLP over gRPC, such as http://127.0.0.1:4317; the first that is set counts."""


def from_environment(environ: Mapping[str, str]) -> "Tracer | None":
    """A tracer where the environment names an endpoint; Unequipped where the packages are missing."""
    endpoint = next((environ[name] for name in ENDPOINTS if environ.get(name)), None)
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise Unequipped(
            f"traces were asked for and {error.name} is not here: "
            "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-grpc"
        ) from None
    return Tracer(OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://")))


class Tracer:
    """Sends spans to `exporter`, in batches from a thread of the SDK's."""

    def __init__(self, exporter: "SpanExporter", *, at_once: bool = False) -> None:
        """`at_once`: each span is exported when it is made, for tests."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        self._ids = _Ids()
        resource = Resource.create({"service.name": SERVICE})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource)  # type: ignore[arg-type]
        self._provider.add_span_processor(
            SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter)
        )
        self._tracer = self._provider.get_tracer("wattbed")
        self._began_s: dict[tuple[str, int], float] = {}

    def remember(self, event: Event) -> None:
        """Enters an event of before: nothing is sent."""
        match event:
            case RunStarted():
                self._began_s[event.run, 0] = event.at_s
            case RoundOpened():
                self._began_s[event.run, event.round] = event.at_s
            case ModelAggregated() | RoundFailed():
                self._began_s.pop((event.run, event.round), None)
            case RunEnded():
                self._began_s = {key: at_s for key, at_s in self._began_s.items() if key[0] != event.run}

    def tell(self, event: Event) -> None:
        """Enters an event that has just happened, and sends the span that it ends."""
        said: dict[str, Any]
        match event:
            case RunEnded():
                said = {"outcome": event.outcome, "reason": event.reason}
                self._send(f"run {event.run}", event.run, 0, self._began(event.run, 0, event), event.at_s, said)
            case ModelAggregated():
                said = {"round": event.round, "model_bytes": event.size_bytes, "aggregate_s": event.seconds}
                self._round(event, said)
            case RoundFailed():
                self._round(event, {"round": event.round, "failed": event.reason})
            case EnergyMeasured(measured=m):
                joules = {f"joules.{r.component}.{r.quality}": r.joules for r in m.readings}
                said = {"device": event.device, "round": m.round, "phase": m.phase.value} | joules
                end_s = m.started_at_s + m.seconds
                self._send(f"{m.phase.value}", event.run, m.round, m.started_at_s, end_s, said, own=m.window)
            case BytesMoved():
                said = {"device": event.device, "round": event.round, "wire_bytes": event.wire_bytes}
                own = f"{event.device}/{event.direction}/{event.at_s}"
                name = f"transfer {event.direction}"
                self._send(name, event.run, event.round, event.at_s, event.at_s, said, own=own)
        self.remember(event)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()

    def _began(self, run: str, round: int, event: Event) -> float:
        return self._began_s.get((run, round), event.at_s)

    def _round(self, event: ModelAggregated | RoundFailed, said: Mapping[str, Any]) -> None:
        began_s = self._began(event.run, event.round, event)
        self._send(f"round {event.round}", event.run, event.round, began_s, event.at_s, said)

    def _send(
        self,
        name: str,
        run: str,
        round: int,
        began_s: float,
        ended_s: float,
        said: Mapping[str, Any],
        own: str | None = None,
    ) -> None:
        """A span of the run (round 0), of one of its rounds, or, with an id of its `own`, of something in it."""
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        trace = _digest(16, run)
        me, parent = _digest(8, run, round), None if round == 0 and own is None else _digest(8, run, 0)
        if own is not None:
            me, parent = _digest(8, run, round, own), _digest(8, run, round)
        self._ids.trace, self._ids.span = trace, me
        above = None
        if parent is not None:
            sampled = TraceFlags(TraceFlags.SAMPLED)
            above = set_span_in_context(
                NonRecordingSpan(SpanContext(trace, parent, is_remote=True, trace_flags=sampled))
            )
        attributes = {f"wattbed.{k}": v for k, v in ({"run": run} | dict(said)).items() if v is not None}
        span = self._tracer.start_span(name, above, start_time=int(began_s * 1e9), attributes=attributes)
        span.end(int(ended_s * 1e9))


class _Ids:
    """Gives the ids that were put here for the next span."""

    def __init__(self) -> None:
        self.trace = self.span = 1

    def generate_trace_id(self) -> int:
        """16 bytes."""
        return self.trace

    def generate_span_id(self) -> int:
        """8 bytes."""
        return self.span

    def is_trace_id_random(self) -> bool:
        """It is a digest."""
        return False


def _digest(size_bytes: int, *names: str | int) -> int:
    text = "/".join(map(str, names))
    return int.from_bytes(blake2b(text.encode(), digest_size=size_bytes).digest(), "big") or 1
