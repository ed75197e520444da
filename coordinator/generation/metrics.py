"""What Prometheus reads of requests: the tally of the log and the machine's state, at scrape."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.generation.tally import BUCKETS_S, RequestTally
from coordinator.loop import Loop
from coordinator.machine import State

OUTCOMES = ("served", "refused", "cancelled", "failed", "expired")


class GenerationCollector(Collector):
    """Reads the machine's state and the book of requests whenever it is asked."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        state, tally = self._loop.state, self._loop.book.tally
        yield from _requests(state, tally)
        yield from _made(state, tally)
        yield from _predicted(tally)
        yield from _models(state, self._loop.book.storage)


def _requests(state: State, tally: RequestTally) -> Iterator[Metric]:
    outcomes = CounterMetricFamily("wattbed_requests", "Requests for images that are over", labels=["outcome"])
    for outcome in OUTCOMES:
        outcomes.add_metric([outcome], tally.outcomes[outcome])
    misses = CounterMetricFamily(
        "wattbed_request_deadline_misses", "Requests that were admitted and came late, or expired in a queue"
    )
    misses.add_metric([], tally.misses)
    retries = CounterMetricFamily(
        "wattbed_request_retries", "Requests that were placed anew after a device was lost"
    )
    retries.add_metric([], tally.retries)
    waiting = GaugeMetricFamily("wattbed_requests_waiting", "Requests that are not over", labels=["stage"])
    begun = {r for p in state.generations.batches.values() if p.began_at_s is not None for r in p.left}
    asked = state.generations.requests
    waiting.add_metric(["unplaced"], sum(a.batch is None for a in asked.values()))
    waiting.add_metric(["queued"], sum(a.batch is not None and name not in begun for name, a in asked.items()))
    waiting.add_metric(["begun"], len(begun))
    latency = HistogramMetricFamily(
        "wattbed_request_latency_seconds",
        "From a request to its images being safe at the coordinator",
        labels=["device", "place"],
    )
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    for device, latencies in list(tally.latencies.items()):
        buckets = list(zip(bounds, accumulate(list(latencies.counts)), strict=True))
        latency.add_metric([device, _place(state, device)], buckets, latencies.sum_s)
    yield from (outcomes, misses, retries, waiting, latency)


def _made(state: State, tally: RequestTally) -> Iterator[Metric]:
    images = CounterMetricFamily(
        "wattbed_generated_images", "Images that were made", labels=["device", "place", "width", "steps"]
    )
    for (device, width, steps), count in list(tally.images.items()):
        images.add_metric([device, _place(state, device), width, steps], count)
    joules = CounterMetricFamily(
        "wattbed_generation_energy_joules",
        "Energy of batches of images; one total per quality and scope, so add up within both",
        labels=["device", "place", "width", "steps", "phase", "quality", "scope"],
    )
    for (device, *rest), sum_joules in list(tally.joules.items()):
        joules.add_metric([device, _place(state, device), *rest], sum_joules)
    batches = CounterMetricFamily(
        "wattbed_generation_batches", "Batches of images that were made", labels=["device"]
    )
    for device, count in list(tally.batches.items()):
        batches.add_metric([device], count)
    batched = CounterMetricFamily("wattbed_generation_batched_requests", "Requests in them", labels=["device"])
    for device, count in list(tally.batched.items()):
        batched.add_metric([device], count)
    yield from (images, joules, batches, batched)


def _predicted(tally: RequestTally) -> Iterator[Metric]:
    families = (
        ("wattbed_generation_seconds", "Time of denoising, of batches that were made", ("device",), tally.seconds),
        (
            "wattbed_generation_predicted_seconds",
            "The same as it was predicted",
            ("device",),
            tally.predicted_seconds,
        ),
        (
            "wattbed_generation_measured_joules",
            "Energy of denoising, of batches that were made",
            ("device", "quality", "scope"),
            tally.measured_joules,
        ),
        (
            "wattbed_generation_predicted_joules",
            "The same as it was predicted",
            ("device",),
            tally.predicted_joules,
        ),
    )
    for name, help_, names, counts in families:
        family = CounterMetricFamily(name, help_, labels=names)
        for key, value in list(counts.items()):
            family.add_metric([key] if isinstance(key, str) else list(key), value)
        yield family


def _models(state: State, storage: dict[str, tuple[int, int]]) -> Iterator[Metric]:
    models = GaugeMetricFamily(
        "wattbed_device_models", "Models to generate with on a device's disk", labels=["device"]
    )
    kept = GaugeMetricFamily(
        "wattbed_device_models_kept", "Models that a device was told to keep", labels=["device"]
    )
    for device, held in state.generations.held.items():
        models.add_metric([device], len(held))
    for device, refs in state.generations.kept.items():
        kept.add_metric([device], len(refs))
    used = GaugeMetricFamily(
        "wattbed_device_model_bytes", "Disk that models take, and may take", labels=["device", "of"]
    )
    for device, (held_bytes, storage_bytes) in list(storage.items()):
        used.add_metric([device, "held"], held_bytes)
        used.add_metric([device, "storage"], storage_bytes)
    yield from (models, kept, used)


def _place(state: State, device: str) -> str:
    known = state.devices.get(device)
    return (known.capabilities.place if known else "") or "device"
