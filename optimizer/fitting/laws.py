"""The quality laws of one model from what was measured on it (fleet.quality), for the planner of images.

Each law is fitted along one line of the measurements: width at most steps and 32 bits, steps and bits at full
width. Of points with a width per step one number is fitted: how far a step's part in the harm goes by the bound of
its noise level, or is the same for all. What the laws say of all other points (two things reduced at once) is
predicted; `distances` says how well, and the margin of the laws covers nine in ten. Residuals are of leave-one-out
cross-validation.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from fleet.errors import BadRequest
from fleet.generation import Recipe
from fleet.quality import NoiseErrors, QualityPoint
from optimizer.generation.fitting import fit_bits, fit_steps, fit_width
from optimizer.generation.quality import FULL_BITS, BitsLaw, QualityLaws, StepErrors

COVERED = 0.9
"""Part of the combined measurements that a promise with the margin would have been kept for."""

EVEN_PARTS = tuple(k / 20 for k in range(21))
"""Of the harm that are tried as the same for all steps; the rest goes by the bound."""

METRICS: dict[str, Callable[[QualityPoint], float | None]] = {
    "fid": lambda p: p.fid,
    "missed": lambda p: max(1 - p.recall, 0.5 / p.images),
    "error": lambda p: p.error,
}
"""What laws can be of; less is better. `missed` is 1 - recall, the part of what is real that no image comes near;
where nothing is missed half an image counts, as laws are fitted to relative deviations.
"""


def quality_laws(
    points: Iterable[QualityPoint],
    sampler: str,
    *,
    metric: str = "fid",
    noise: NoiseErrors | None = None,
    source: str = "",
) -> QualityLaws:
    """The laws of `metric` with `sampler`. `source` says where the points come from.

    BadRequest where there is no such metric, or there are too few points: three widths and two numbers of steps.
    """
    if metric not in METRICS:
        raise BadRequest(f"no laws of {metric!r}; known are {', '.join(METRICS)}")
    of = [(p.recipe, value) for p in points if p.recipe.sampler == sampler and (value := METRICS[metric](p))]
    most = max((r.steps for r, _ in of if _width(r) == 1 and r.bits == FULL_BITS), default=0)
    by_width = [(w, v) for r, v in of if (w := _width(r)) and r.steps == most and r.bits == FULL_BITS]
    by_steps = [(r.steps, v) for r, v in of if _width(r) == 1 and r.bits == FULL_BITS]
    by_bits = [(r.bits, v) for r, v in of if _width(r) == 1 and r.steps == most]
    alone = QualityLaws(
        fit_width(*_columns(by_width)),
        fit_steps(*_columns(by_steps)),
        _bits(by_bits),
        metric=metric,
        sampler=sampler,
        source=source,
    )
    mixed = [(r, v) for r, v in of if _width(r) is None and r.bits == FULL_BITS]
    widths = sorted({w for w, _ in by_width})
    combined = [(r, v) for r, v in of if (_width(r) != 1) + (r.steps != most) + (r.bits != FULL_BITS) > 1]
    combined += [(r, v) for r, v in mixed if r.steps == most]
    return _with_margin(_with_parts(alone, most, widths, mixed, noise), combined)


def _with_parts(
    laws: QualityLaws,
    steps: int,
    widths: Sequence[float],
    mixed: Sequence[tuple[Recipe, float]],
    noise: NoiseErrors | None,
) -> QualityLaws:
    """`laws` with a table of what a width in one step does, nearest to what `mixed` were measured to be worth.

    Of the excess of a width, a part is the same for all steps and the rest goes by the bound [R]. The bound itself
    where nothing was mixed.
    """
    if not mixed:
        return laws if noise is None else replace(laws, by_step=step_errors(noise))
    harm = np.asarray(laws.width.at(widths)) - laws.width.a
    best = max(laws.width.a, 0.01 * float(harm.max()))  # errors of a table are above zero
    even = np.broadcast_to(harm, (1 if noise is None else len(noise.levels), len(widths)))
    if noise is None:
        return replace(laws, by_step=_table((0.5,), widths, best + even, 0))
    bound = step_errors(noise)
    rows = bound.terms(steps, widths)
    over = rows - rows[:, -1:]
    levels = 1 - (np.arange(steps) + 0.5) / steps
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(over.mean(axis=0) > 0, over / over.mean(axis=0), 1.0)

    def at(part: float) -> QualityLaws:
        each = harm * (part + (1 - part) * share)
        falling = np.minimum.accumulate(best + each, axis=1)
        return replace(laws, by_step=_table(tuple(levels[::-1].tolist()), widths, falling[::-1], noise.images))

    def off(part: float) -> float:
        found = at(part)
        return float(sum(np.log(found.quality_of(r.widths) / v) ** 2 for r, v in mixed))

    return at(min(EVEN_PARTS, key=off))


def _table(levels: tuple[float, ...], widths: Sequence[float], errors: np.ndarray, samples: int) -> StepErrors:
    rows = tuple(tuple(map(float, row)) for row in errors)
    return StepErrors(levels, tuple(widths), (1.0,) * len(levels), rows, samples)


def _with_margin(laws: QualityLaws, combined: Sequence[tuple[Recipe, float]]) -> QualityLaws:
    """`laws` with the margin that COVERED of `combined` needed."""
    if not combined:
        return laws
    worse = [v / laws.quality_of(r.widths, r.bits) - 1 for r, v in combined]
    return replace(laws, margin=max(0.0, float(np.quantile(worse, COVERED))), combined=len(worse))


def step_errors(noise: NoiseErrors) -> StepErrors:
    """The table of omega_t e_t(w)^2, omega_t = beta_t / (2 alpha_t (1 - abar_t)) [P] (DDPM, eq. 12 with sigma_t^2
    = beta_t).

    Where a wider network was measured worse, it counts as good as the narrower one.
    """
    beta, abar = np.asarray(noise.betas), np.asarray(noise.abars)
    omega = beta / (2 * (1 - beta) * (1 - abar))
    falling = np.minimum.accumulate(np.asarray(noise.errors), axis=1)
    rows = tuple(tuple(map(float, row)) for row in falling)
    return StepErrors(noise.levels, noise.widths, tuple(map(float, omega)), rows, noise.images)


@dataclass(frozen=True)
class Distance:
    """What was measured of a recipe, and what the laws say of it."""

    recipe: Recipe
    measured: float
    predicted: float

    @property
    def relative(self) -> float:
        """|predicted - measured| / measured."""
        return abs(self.predicted - self.measured) / self.measured


def distances(laws: QualityLaws, points: Iterable[QualityPoint]) -> list[Distance]:
    """One per point of the laws' sampler that has their metric."""
    found = []
    for p in points:
        value = METRICS[laws.metric](p)
        if p.recipe.sampler == laws.sampler and value:
            found.append(Distance(p.recipe, value, laws.quality_of(p.recipe.widths, p.recipe.bits)))
    return found


def _width(recipe: Recipe) -> float | None:
    """The one width of all steps, None where they differ."""
    return recipe.widths[0] if len(set(recipe.widths)) == 1 else None


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _bits(pairs: Sequence[tuple[float, float]]) -> BitsLaw:
    """The law of bits, with the residual of fits that leave a width out; none where only 32 bits were measured."""
    few = [i for i, (bits, _) in enumerate(pairs) if bits < FULL_BITS]
    if not few:
        return BitsLaw(0.0)
    law, off = fit_bits(*_columns(pairs)), []
    if len(few) < 3:
        return replace(law, residual=None)
    for left in few:
        others = fit_bits(*_columns([p for i, p in enumerate(pairs) if i != left]))
        best = median(v for bits, v in pairs if bits == FULL_BITS)
        bits, value = pairs[left]
        off.append(abs(best + float(others.excess(bits)) - value) / value)
    return replace(law, residual=median(off))
