"""Counters over all requests, for Prometheus: they only go up, also over restarts of the coordinator."""

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import sqrt

from fleet.energy import choose, total
from fleet.generation import Batch, GenerationMeasured, Recipe
from fleet.phase import Phase

BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0)
"""From a few images on a server to a queue of minutes."""

WIDTH_STEP = 0.05
"""Widths are labels rounded to this: there would be a series for each otherwise."""

How = tuple[str, str, str]
"""Device, width and steps."""


@dataclass
class Latencies:
    """One histogram."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass
class RequestTally:
    """`joules` is by device, width, steps, phase, quality and scope: of one window one total of each quality.

    `seconds` and the predictions are of the window of generation of batches that were made from end to end.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    misses: int = 0
    retries: int = 0
    latencies: dict[str, Latencies] = field(default_factory=dict)
    images: Counter[How] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    batched: Counter[str] = field(default_factory=Counter)
    joules: defaultdict[tuple[str, str, str, str, str, str], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    measured_joules: defaultdict[tuple[str, str, str], float] = field(default_factory=lambda: defaultdict(float))
    predicted_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    predicted_joules: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def served(self, device: str, seconds: float, late: bool) -> None:
        """A request whose images are safe."""
        self.outcomes["served"] += 1
        self.misses += late
        self.latencies.setdefault(device, Latencies()).add(seconds)

    def measured(self, batch: Batch, window: GenerationMeasured) -> None:
        """A window of a batch."""
        width, steps = labels(batch.recipe)
        for choice in choose([window.readings]).values():
            joules = total([window.readings], choice).joules
            if joules is not None:
                key = (batch.device, width, steps, window.phase.value, choice.quality.value, choice.scope)
                self.joules[key] += joules

    def made(self, batch: Batch, window: GenerationMeasured) -> None:
        """A batch that was made from end to end, with its window of generation."""
        assert window.phase is Phase.GENERATE
        self.images[batch.device, *labels(batch.recipe)] += batch.images
        self.batches[batch.device] += 1
        self.batched[batch.device] += len(batch.portions)
        self.seconds[batch.device] += window.seconds
        expected = batch.expected
        if expected.seconds is not None:
            self.predicted_seconds[batch.device] += expected.seconds
        if expected.joules is not None:
            self.predicted_joules[batch.device] += expected.joules
        for choice in choose([window.readings]).values():
            if (joules := total([window.readings], choice).joules) is not None:
                self.measured_joules[batch.device, choice.quality.value, choice.scope] += joules


def labels(recipe: Recipe) -> tuple[str, str]:
    """Width, the root of the mean square rounded to WIDTH_STEP, and steps."""
    width = round(sqrt(recipe.mean_square_width) / WIDTH_STEP) * WIDTH_STEP
    return f"{width:.2f}", str(recipe.steps)
