"""What a step of training costs at each setting, from samples at several settings and numbers of steps.

    y = fixed + steps * law(setting) * exp(g + a[setting])

`law` is what is known before: a calibration, or that cost goes with the square of the width. g says how this
device compares with it now, a[setting] by how much the law is wrong about its width, its precision, its levers and
all of these together, and `fixed` what training takes however few the steps. Least squares of log y give them,
so that one step counts as much as a hundred, with a loss that is linear far out (scipy), in which `fixed` and each
part of a cost a little: what nothing is known about is zero. With one setting and one number of steps that is a
median.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from optimizer.fitting.robust import LATEST, SPREAD, present
from optimizer.fitting.sample import RECENT, Setting

PULL, APART = 0.1, 0.2
"""Weights of what a width or a precision adds to a[setting], and of what only the two together do."""

HOLD = 0.5
"""Weight of the part that `fixed` has in the cheapest sample: drift looks like it."""

TIE = 0.3
"""Weight of a drift of g within a regime: above PULL, so that a new setting is not taken for a drift."""

NEAR = 0.03
"""Up to here a deviation counts by its square: rounds of one device scatter by a few per cent."""

PASSES = 3

Part = tuple[str, object]
"""Something about a setting that costs more or less than the law says."""

Law = Callable[[Setting], float]
"""What one step costs at a setting, as far as is known before."""


@dataclass(frozen=True)
class Prior:
    """What is known before: `law` of a step, and `offset` of an assignment, in the units of the law."""

    law: Law
    offset: float = 0.0

    def __call__(self, setting: Setting, steps: float) -> float:
        """What `steps` steps cost."""
        return self.offset + steps * self.law(setting)


@dataclass(frozen=True)
class StepFit:
    """The fit of one device. `tried` are the samples of each setting in the present regime."""

    extra: float
    g: float
    parts: dict[Part, float]
    prior: Prior
    tried: dict[Setting, int]
    residual: float

    @property
    def fixed(self) -> float:
        """What training costs however few the steps."""
        return self.extra + self.prior.offset * float(np.exp(self.g))

    def at(self, setting: Setting, steps: float) -> float:
        """y of `steps` steps."""
        return self.extra + self.prior(setting, steps) * self._against_prior(setting)

    def per_step(self, setting: Setting) -> float:
        """y of one step more."""
        return self.prior.law(setting) * self._against_prior(setting)

    def _against_prior(self, setting: Setting) -> float:
        return float(np.exp(self.g + sum(self.parts.get(part, 0.0) for part in parts_of(setting))))


def fit(settings: Sequence[Setting], steps: Sequence[int], ys: Sequence[float], prior: Prior) -> StepFit | None:
    """Samples in the order of time, of which the last are looked at; None without any."""
    kept = slice(-2 * RECENT, None)
    settings, count, y = list(settings)[kept], np.asarray(steps, float)[kept], np.asarray(ys, float)[kept]
    if not len(settings):
        return None
    base = np.array([prior(s, n) for s, n in zip(settings, count, strict=True)])
    known = list(dict.fromkeys(part for s in settings for part in parts_of(s)))
    holds = np.array([[part in parts_of(s) for part in known] for s in settings], float)
    begin, plain = 0, len(set(settings)) == 1 and count.max() < SPREAD * count.min()
    for _ in range(PASSES):  # first all differences are the settings', then what these leave is the device's
        if plain:
            fixed, g, a = 0.0, float(np.median(np.log(y / base)[begin:][-LATEST:])), np.zeros(len(known))
        else:
            pull = np.array([APART if kind == "together" else PULL for kind, _ in known])
            fixed, g, a = _solved(base, y, holds, pull, begin)
        said = fixed + base * np.exp(g + holds @ a)
        found = present(list(np.log(y / said)))
        if found == begin:
            break
        begin = found
    tried: dict[Setting, int] = {}
    for s in settings[begin:]:
        tried[s] = tried.get(s, 0) + 1
    residual = float(np.median(np.abs(said / y - 1)[begin:]))
    return StepFit(fixed, g, dict(zip(known, map(float, a), strict=True)), prior, tried, residual)


def parts_of(s: Setting) -> tuple[Part, ...]:
    """What a setting shares with others, and itself."""
    levers = (s.frequency_hz, s.power_limit_watts)
    return ("width", s.width), ("precision", s.precision), ("levers", levers), ("together", s)


def _solved(
    base: np.ndarray, y: np.ndarray, holds: np.ndarray, pull: np.ndarray, begin: int
) -> tuple[float, float, np.ndarray]:
    """fixed, g of the latest samples of the present regime, which starts at `begin`, and what each part adds.

    base, y: (n,); holds: (n, parts), which part a sample's setting has; pull: (parts,), what each costs. The
    regime's other samples have a g of their own that is drawn to it, those before the regime a free one. Inside,
    `fixed` is in units of the cheapest sample.
    """
    n, rows = len(y), np.arange(len(y))
    latest = max(begin, n - LATEST)
    stage = 1 + np.where(rows >= latest, 0, np.where(rows >= begin, 1, 2))
    logs, unit, size = np.log(y), float(y.min()), 4 + len(pull)
    linear = np.zeros((n, size))
    linear[rows, stage] = 1.0
    linear[:, 4:] = holds
    pulls = np.zeros((size, size))
    pulls[0, 0] = HOLD
    pulls[1, 1:3] = TIE, -TIE
    pulls[2, 2] = pulls[3, 3] = 1e-6  # a stage without samples is anything
    pulls[4:, 4:] = np.diag(pull)

    def moving(p: np.ndarray) -> np.ndarray:
        return np.asarray(base * np.exp(linear @ p))

    def deviations(p: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(unit * p[0] + moving(p)) - logs, pulls @ p])

    def slopes(p: np.ndarray) -> np.ndarray:
        part = moving(p)
        total = unit * p[0] + part
        of = linear * (part / total)[:, None]
        of[:, 0] = unit / total
        return np.concatenate([of, pulls])

    start = np.zeros(size)
    start[0], start[1:4] = 0.05, np.median((logs - np.log(base))[latest:])
    low = np.full(size, -np.inf)
    low[0] = 0.0
    p = least_squares(deviations, start, jac=slopes, bounds=(low, np.inf), loss="soft_l1", f_scale=NEAR).x
    return float(unit * p[0]), float(p[1]), p[4:]
