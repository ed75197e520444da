"""What a batch costs a device, fitted to the batches it made: seconds and joules from images and widths per step.

    seconds, joules = start + sum_t [ step + n (i + a w_t + b w_t^2) ]     n images, width w_t in step t

[R] A step has a part that no image adds to (the calls themselves), and parts per image: one that no width changes
(the image itself, channels that fill up a processor's vectors), one linear in the width (memory) and one
quadratic (multiplications, [P] DDSM: w^2 within 1 %). All five are fitted together, none below zero, to relative
errors, with little weight on odd batches. Before anything was measured a preset stands in, from the kind of
device, and it keeps its shape, not its size, where measurements say nothing: a first batch scales it.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from fleet.energy import EnergyReading, Quality, choose, total
from fleet.kinds import DeviceKind
from fleet.origin import Origin

MACS_PER_CORE_S = 2e9
"""[assumed] Multiplications per second and core that a small network reaches in torch on a processor."""

STEP_S = 0.004
"""[assumed] A denoising step of no images: the calls of some hundred layers."""

START_S = 0.02
"""[assumed] What a batch takes besides its steps, once its model is in memory."""

GUESSED_MACS = 5e6
"""[assumed] Of a forward pass of one image where the workload cannot say."""

BUSY_CORES = 1.0
"""[assumed] Logical CPUs that a device keeps busy while it generates, for the preset's joules."""

RECENT = 60
"""Batches that a fit looks back on."""

PRIOR_WEIGHT = 0.1
"""Of each point of the scaled preset, against 1 of a batch that was measured."""

ODD = 0.2
"""Relative distance beyond which a batch is given less weight."""

MARGIN_QUANTILE = 0.95
PRESET_MARGIN = 1.0
LEAST_MARGIN = 0.1
"""What a prediction is stretched by before a deadline is promised on it."""

UNKNOWN_MARGIN = 4.0
"""The same for a batch behind others on a device that nothing was measured of: its preset may be far off."""


@dataclass(frozen=True)
class BatchSample:
    """One batch that was made: `seconds` and `readings` of its window of generation."""

    images: int
    widths: tuple[float, ...]
    seconds: float
    readings: tuple[EnergyReading, ...] = ()


@dataclass(frozen=True)
class Terms:
    """The five constants of one unit, seconds or joules."""

    start: float
    step: float
    image: float
    linear: float
    square: float

    def of(self, images: int, widths: Sequence[float]) -> float:
        """What a batch takes."""
        return float(_features(images, widths) @ np.array(astuple(self)))

    def each(self, width: float) -> float:
        """What one image adds to a step at `width`."""
        return self.image + self.linear * width + self.square * width * width

    def times(self, factor: float) -> "Terms":
        """All of them so many times as large."""
        return Terms(*(factor * x for x in astuple(self)))


@dataclass(frozen=True)
class BatchCost:
    """What batches of one model cost one device. `samples` 0: presets throughout.

    `joules` were fitted to readings of `quality` and `scope` by `source`, or are those of the preset where None.
    `margin`: so much longer, relatively, nineteen in twenty batches took at the most. What images fewer than
    `least_images` or steps narrower than `least_width` save was not measured: no deadline should rest on it.
    """

    seconds: Terms
    joules: Terms
    origin: Origin
    samples: int = 0
    quality: Quality | None = None
    scope: str = ""
    source: str = ""
    margin: float = PRESET_MARGIN
    least_images: int = 1
    least_width: float = 0.0

    def promised_s(self, images: int, widths: Sequence[float]) -> float:
        """Seconds to promise a deadline on, without the margin: nothing is quicker than what was measured."""
        narrowest = [max(w, self.least_width) for w in widths]
        return self.seconds.of(max(images, self.least_images), narrowest)


def preset(kind: DeviceKind | None, cores: float, macs: float | None) -> BatchCost:
    """Before anything was measured. macs: multiplications of a forward pass of one image at full width."""
    usable = max(0.05, min(cores, BUSY_CORES) if cores else BUSY_CORES)
    square = (macs or GUESSED_MACS) / (MACS_PER_CORE_S * usable)
    seconds = Terms(START_S, STEP_S, 0.05 * square, 0.1 * square, 0.85 * square)
    watts = kind.energy.watts(usable) if kind else 10.0
    return BatchCost(seconds, seconds.times(watts), Origin.PRESET)


def fitted(samples: Sequence[BatchSample], before: BatchCost) -> BatchCost:
    """The cost fitted to `samples`, the latest last; `before` where there are none. Deterministic."""
    recent = [s for s in samples if s.seconds > 0][-RECENT:]
    if not recent:
        return before
    seconds = np.array([s.seconds for s in recent])
    terms = _terms(recent, seconds, before.seconds)
    over = seconds / np.array([terms.of(s.images, s.widths) for s in recent]) - 1
    few = PRESET_MARGIN / (1 + len(recent))
    margin = max(LEAST_MARGIN, float(np.quantile(over, MARGIN_QUANTILE)), few)
    found = replace(
        before,
        seconds=terms,
        origin=Origin.FITTED,
        samples=len(recent),
        margin=margin,
        least_images=min(s.images for s in recent),
        least_width=min(w for s in recent for w in s.widths),
    )
    slower = terms.of(8, (1.0,) * 10) / before.seconds.of(8, (1.0,) * 10)
    found = replace(found, joules=before.joules.times(slower))
    windows = [s.readings for s in recent]
    for choice in choose(windows).values():
        totals = [total([w], choice) for w in windows]
        known = [(s, t.joules) for s, t in zip(recent, totals, strict=True) if t.joules and not t.missing]
        if not known:
            continue
        measured = np.array([joules for _, joules in known])
        return replace(
            found,
            joules=_terms([s for s, _ in known], measured, before.joules),
            quality=choice.quality,
            scope=choice.scope,
            source=", ".join(sorted(totals[0].techniques)),
        )
    return found


def _features(images: int, widths: Sequence[float]) -> np.ndarray:
    w = np.asarray(widths, float)
    return np.array([1.0, w.size, images * w.size, images * w.sum(), images * (w * w).sum()])


def _terms(samples: Sequence[BatchSample], values: np.ndarray, before: Terms) -> Terms:
    """Non-negative least squares of relative errors, thrice, with less weight on what lay far off before."""
    from scipy.optimize import nnls  # takes a second, and a coordinator that starts again is waited for

    x = np.stack([_features(s.images, s.widths) for s in samples])
    guess = np.array(astuple(before))
    guess = guess * float(np.median(values / (x @ guess)))
    steps = max(len(s.widths) for s in samples)
    grid = np.stack([_features(n, (w,) * steps) for n in (1, 8, 32) for w in (0.25, 0.5, 0.75, 1.0)])
    wanted = grid @ guess
    weights = np.ones(len(samples))
    for _ in range(3):
        rows = np.concatenate([x / values[:, None] * weights[:, None], PRIOR_WEIGHT * grid / wanted[:, None]])
        right = np.concatenate([weights, np.full(len(grid), PRIOR_WEIGHT)])
        scale = np.maximum(np.abs(rows).max(axis=0), 1e-12)
        found, _ = nnls(rows / scale, right)
        guess = found / scale
        off = np.abs(x @ guess / values - 1)
        weights = np.sqrt(1 / np.maximum(1.0, off / ODD))
    return Terms(*(float(v) for v in guess))
