"""The schemes that are compared: width per step and steps chosen for each request, and the baselines. [R]

A scheme gives every request a schedule; clocks and bandwidth follow by `resources`. A scheme that ignores the
quality may miss it: the table says for how many requests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from optimizer.generation.quality import FULL_BITS, QualityLaws
from optimizer.generation.resources import Allocation, Clock, Demands, equal, share
from optimizer.generation.schedule import OutOfReach, Schedule, StepPrices, cheapest, cheapest_widths, narrowest

OURS = "width per step and steps"
"""The scheme that the others are held against."""


@dataclass(frozen=True)
class Work:
    """Requests (N,): qualities demanded, images, and what brings them to the client.

    `cycles` is what one full-width step of one image takes; a schedule's cost is in such steps.
    """

    qualities: tuple[float, ...]
    images: tuple[int, ...]
    cycles: float
    image_bits: float
    deadline_s: tuple[float, ...]
    gain: tuple[float, ...]
    watts: float
    noise_watts_per_hz: float

    def demands(self, schedules: Sequence[Schedule]) -> Demands:
        """What the schedules ask of clock and band."""
        images = np.asarray(self.images, float)
        return Demands(
            images * self.cycles * np.array([s.cost for s in schedules]),
            images * self.image_bits,
            np.asarray(self.deadline_s),
            np.asarray(self.gain),
            np.full(images.shape, self.watts),
            np.full(images.shape, self.noise_watts_per_hz),
        )


@dataclass(frozen=True)
class Served:
    """What a scheme does for each request, and the clocks and bands that follow."""

    schedules: tuple[Schedule, ...]
    allocation: Allocation

    def met(self, work: Work) -> int:
        """How many requests get their quality."""
        pairs = zip(self.schedules, work.qualities, strict=True)
        return sum(s.quality <= q * (1 + 1e-6) for s, q in pairs)


def every(
    work: Work,
    laws: QualityLaws,
    steps: Sequence[int],
    prices: StepPrices,
    clock: Clock,
    total_hz: float,
    fixed: Sequence[float],
    seed: int,
) -> dict[str, Callable[[], Served]]:
    """All schemes by name; `prices` are of steps at full bits. `fixed`: the widths of "fixed width".

    Calling one raises OutOfReach or Infeasible, which name request and constraint.
    """
    most, full = max(steps), prices
    random = np.random.default_rng(seed)
    drawn = random.choice(full.widths, len(work.qualities))

    def served(choose: Callable[[int, float], Schedule], band: Callable[..., Allocation] = share) -> Served:
        schedules = tuple(choose(n, q) for n, q in enumerate(work.qualities))
        return Served(schedules, band(work.demands(schedules), clock, total_hz))

    def wide(width: float, s: int) -> Schedule:
        at = full.widths.index(width)
        quality = float(laws.quality(width, s))
        return Schedule((width,) * s, FULL_BITS, s * full.costs[at], quality)

    def at_width(width: float, n: int, q: float) -> Schedule:
        return wide(width, most)

    def least_steps(quality: float) -> Schedule:
        enough = [s for s in sorted(steps) if laws.quality(1.0, s) <= quality]
        if not enough:
            raise OutOfReach(quality, float(laws.quality(1.0, most)), laws.metric)
        return wide(1.0, enough[0])

    found: dict[str, Callable[[], Served]] = {"full width": lambda: served(lambda n, q: wide(1.0, most))}
    for width in fixed:
        found[f"fixed width {width:g}"] = partial(served, partial(at_width, width))
    found |= {
        "random width": lambda: served(lambda n, q: wide(float(drawn[n]), most)),
        "step reduction only": lambda: served(lambda n, q: least_steps(q)),
        "one width": lambda: served(lambda n, q: narrowest(laws, q, most, FULL_BITS, full)),
        "width per step": lambda: served(lambda n, q: cheapest_widths(laws, q, most, FULL_BITS, full)),
        OURS: lambda: served(lambda n, q: cheapest(laws, q, steps, {FULL_BITS: full})),
        f"{OURS}; equal band": lambda: served(lambda n, q: cheapest(laws, q, steps, {FULL_BITS: full}), equal),
    }
    return found
