"""What a choice of width, steps and bits is worth: laws with plain numbers, fitted elsewhere and stored per model.

    FID(w)    = a + c (w^-g - 1)                          [R] of "the relation of width and expected quality"
    FID(s)    = a + e(s) - e(s_most), e falling, convex   [R] after the average error by steps of arXiv 2312.06203
    FID(bits) = a + harm 4^-bits                          [R] error of a quantiser goes with 4^-bits
    D(w_1..w_s) = mean_i omega(t_i) e(t_i, w_i)^2         [P] DDPM (Ho et al. 2020): the bound is additive over
    steps

Harms add up. Widths that change from step to step are worth as much as the one width of the same D [R]. Less is
better throughout: FID, or an error. What combines harms is predicted, not fitted, so a promise of it carries a
margin. `as_numbers` and `from_numbers` are how laws are kept.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fleet.errors import BadRequest
from optimizer.models.checks import not_negative, positive

FULL_BITS = 32


@dataclass(frozen=True)
class WidthLaw:
    """a + c (w^-g - 1): `a` at full width, worse by `c` and `g` below. Widths in (0, 1].

    `residual` is the cross-validated median relative distance of `samples` measurements; None: not from any.
    """

    a: float
    c: float
    g: float
    samples: int = 0
    residual: float | None = None

    def __post_init__(self) -> None:
        not_negative(self, "a", "c")
        positive(self, "g")

    def at(self, width: ArrayLike) -> np.ndarray:
        """The value to expect, of the shape of `width`."""
        return np.asarray(self.a + self.c * (np.asarray(width, float) ** -self.g - 1))

    def width_for(self, value: float) -> float:
        """The least width (may be above 1: out of reach, inf if at any width) whose value is at most `value`."""
        if self.c == 0:
            return 0.0 if value >= self.a else np.inf
        above = (value - self.a) / self.c + 1
        return float(above ** (-1 / self.g)) if above > 0 else np.inf


@dataclass(frozen=True)
class StepLaw:
    """e(s): straight between the points (steps, values), which fall and are convex; flat beyond both ends."""

    steps: tuple[float, ...]
    values: tuple[float, ...]
    samples: int = 0
    residual: float | None = None

    def __post_init__(self) -> None:
        positive(self, "steps")
        s, v = np.asarray(self.steps, float), np.asarray(self.values, float)
        if s.size != v.size or not (np.diff(s) > 0).all():
            raise BadRequest(f"StepLaw has {s.size} steps, which must rise, and {v.size} values")
        slopes = np.diff(v) / np.diff(s)
        close = 1e-9 * (1 + np.abs(slopes).max(initial=0))
        if (slopes > close).any() or (np.diff(slopes) < -close).any():
            raise BadRequest("StepLaw.values must fall and be convex over the steps; fit them first")

    def at(self, steps: ArrayLike) -> np.ndarray:
        """e(s), of the shape of `steps`."""
        return np.asarray(np.interp(np.asarray(steps, float), self.steps, self.values))

    def excess(self, steps: ArrayLike) -> np.ndarray:
        """e(s) - e(s_most): what fewer steps cost."""
        return np.asarray(self.at(steps) - self.values[-1])


@dataclass(frozen=True)
class BitsLaw:
    """harm 4^-bits; nothing at 32 bits, which are not quantised."""

    harm: float
    samples: int = 0
    residual: float | None = None

    def __post_init__(self) -> None:
        not_negative(self, "harm")

    def excess(self, bits: ArrayLike) -> np.ndarray:
        """What so few bits cost, of the shape of `bits`."""
        b = np.asarray(bits, float)
        return np.where(b >= FULL_BITS, 0.0, self.harm * 4.0**-b)


@dataclass(frozen=True)
class StepErrors:
    """omega(t) e(t, w)^2 by noise level t in [0, 1] (1 is pure noise) and width: a table of measurements.

    weights: omega at `levels` (L,). errors: L rows of the mean squared error of the network at each of `widths`
    (W,), which rise. A row must not grow with width (take the running minimum of what was measured).
    """

    levels: tuple[float, ...]
    widths: tuple[float, ...]
    weights: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    samples: int = 0

    def __post_init__(self) -> None:
        positive(self, "widths", "errors")
        not_negative(self, "weights", "levels")
        table = np.asarray(self.errors, float)
        wanted = (len(self.levels), len(self.widths))
        if table.shape != wanted or len(self.weights) != wanted[0]:
            raise BadRequest(f"StepErrors.errors has the shape {table.shape}, not levels x widths {wanted}")
        if not ((np.diff(self.levels) > 0).all() and (np.diff(self.widths) > 0).all()):
            raise BadRequest("StepErrors.levels and StepErrors.widths must rise")
        if (np.diff(table, axis=1) > 0).any():
            raise BadRequest("StepErrors.errors must not grow with width")

    def terms(self, steps: int, widths: ArrayLike) -> np.ndarray:
        """omega_i e_i(w)^2 / s for s = `steps` evenly spaced denoising steps, the noisiest first: (s, W).

        Between measured levels straight; between measured widths straight in their logarithms.
        """
        t = 1 - (np.arange(steps) + 0.5) / steps
        weighted = np.log(np.asarray(self.errors, float))
        wanted = np.log(np.asarray(widths, float))
        by_width = np.array([np.interp(wanted, np.log(self.widths), row) for row in weighted])
        by_width = np.exp(by_width) * np.asarray(self.weights, float)[:, None]
        return np.column_stack([np.interp(t, self.levels, column) for column in by_width.T]) / steps


@dataclass(frozen=True)
class QualityLaws:
    """All that is known of one model's quality with one `sampler` ("ddim", ...). Less of `metric` is better.

    `margin`: what combines harms was measured up to so much worse than predicted, relatively; from `combined`
    measurements.
    """

    width: WidthLaw
    steps: StepLaw
    bits: BitsLaw = BitsLaw(0.0)
    by_step: StepErrors | None = None
    metric: str = "fid"
    sampler: str = "ddim"
    source: str = ""
    margin: float = 0.0
    combined: int = 0

    def __post_init__(self) -> None:
        not_negative(self, "margin")

    def quality(self, width: ArrayLike, steps: ArrayLike, bits: ArrayLike = FULL_BITS) -> np.ndarray:
        """The value to expect of one width for all steps; arguments are broadcast."""
        return np.asarray(self.width.at(width) + self.steps.excess(steps) + self.bits.excess(bits))

    def quality_of(self, widths: ArrayLike, bits: int = FULL_BITS) -> float:
        """The value to expect of one width per step, (s,), the noisiest first."""
        each = np.asarray(widths, float)
        return float(self.quality(self.equal_width(each), each.size, bits))

    @property
    def best(self) -> float:
        """The value at full width, in most steps and 32 bits: measured, not predicted."""
        return float(self.quality(1.0, self.steps.steps[-1]))

    def promised(self, predicted: ArrayLike) -> np.ndarray:
        """What to promise where so much is predicted: with the margin, but for the best there is."""
        values = np.asarray(predicted, float)
        return np.where(values <= self.best, values, values * (1 + self.margin))

    def predicted_for(self, promise: float) -> float:
        """The worst prediction that may be promised as `promise`: the inverse of `promised`."""
        return promise if promise <= self.best else max(self.best, promise / (1 + self.margin))

    def equal_width(self, widths: ArrayLike) -> float:
        """The one width that is worth as much as `widths` (s,): of the same D; without a table the mean square's.

        D is compared among the widths that the table was measured at and straight between them.
        """
        each = np.asarray(widths, float)
        if (each == each[0]).all():
            return float(each[0])
        if self.by_step is None:
            return float(np.sqrt(np.mean(each**2)))
        grid = width_grid(self.by_step)
        rows = self.by_step.terms(each.size, np.concatenate([grid, each]))
        reached = float(rows[np.arange(each.size), grid.size + np.arange(each.size)].sum())
        return float(np.interp(-reached, -rows[:, : grid.size].sum(axis=0), grid))


def width_grid(table: StepErrors, between: int = 16) -> np.ndarray:
    """Widths from the least to the greatest measured, `between` equal parts of each gap."""
    known = np.asarray(table.widths, float)
    places = np.linspace(0, known.size - 1, (known.size - 1) * between + 1)
    return np.asarray(np.interp(places, np.arange(known.size), known))


def bound_weights(betas: ArrayLike) -> np.ndarray:
    """omega_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - abar_t)) with sigma_t^2 = beta_t: (T,), t = 1 first.

    [P] DDPM (Ho et al. 2020), eq. 12.
    """
    beta = np.asarray(betas, float)
    alpha = 1 - beta
    return np.asarray(beta / (2 * alpha * (1 - np.cumprod(alpha))))


def as_numbers(laws: QualityLaws) -> dict[str, Any]:
    """The laws as a dictionary of plain numbers and words, ready for JSON."""
    return asdict(laws)


def from_numbers(numbers: Mapping[str, Any]) -> QualityLaws:
    """The laws that `as_numbers` gave; BadRequest names what is missing or unknown."""
    try:
        known = dict(numbers)
        table = known.pop("by_step", None)
        return QualityLaws(
            WidthLaw(**known.pop("width")),
            StepLaw(**_tuples(known.pop("steps"))),
            BitsLaw(**known.pop("bits")),
            None if table is None else StepErrors(**_tuples(table)),
            **known,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadRequest(f"quality laws do not read: {error}") from error


def _tuples(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tuple(value) for name, value in numbers.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, (list, tuple)) else value
