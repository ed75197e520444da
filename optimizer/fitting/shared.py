"""What a setting costs against another, told from all devices together: a fleet trains one model.

    y = exp(g[device]) * (offset * whole + steps * law(setting) * exp(a[setting]))

How fast a device is, is its own; how much less a narrower network or another precision takes, and how many steps'
worth of work an assignment costs before its first one, is mostly the workload's. So these are fitted over the
fleet, and each device's own fit starts from them instead of from the bare law: with a new setting in every round,
one device alone would have seen none of them often enough. `whole` is what a device's law says of a step at full
width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from optimizer.fitting.robust import present
from optimizer.fitting.sample import RECENT, Setting
from optimizer.fitting.steps import APART, NEAR, PULL, Law, Part, Prior, parts_of

DEVICES = 24
"""Devices that are looked at, the latest told of: enough for the shape, and bounded."""

WHOLE = Setting(1.0, "fp32")

HOLD = 0.03
"""Weight of `offset`, in steps: enough to keep it from nothing to go by, too little to move it."""

PASSES = 2


@dataclass(frozen=True)
class Row:
    """One training of `device`: y is its seconds or joules, `law` and `whole` are what its device's law says.

    Rows of one device stand in the order of time.
    """

    device: str
    setting: Setting
    steps: int
    y: float
    law: float
    whole: float


@dataclass(frozen=True)
class Shape:
    """What the fleet says: `offset` in steps at full width, and what each part of a setting adds to the law."""

    offset: float
    parts: Mapping[Part, float]

    def prior(self, law: Law) -> Prior:
        """What a device with this law is taken to cost before its own samples."""

        def scaled(setting: Setting) -> float:
            return law(setting) * float(np.exp(sum(self.parts.get(part, 0.0) for part in parts_of(setting))))

        return Prior(scaled, self.offset * law(WHOLE))


def shape(rows: Sequence[Row]) -> Shape | None:
    """The fit over a fleet; None unless two devices have samples, or settings or steps differ at all."""
    names = list(dict.fromkeys(r.device for r in reversed(rows)))[:DEVICES]
    kept = [r for name in names for r in [r for r in rows if r.device == name][-RECENT:]]
    if len(names) < 2 or len({(r.setting, r.steps) for r in kept}) < 2:
        return None
    known = list(dict.fromkeys(part for r in kept for part in parts_of(r.setting)))
    holds = np.array([[part in parts_of(r.setting) for part in known] for r in kept], float)
    pull = np.array([APART if kind == "together" else PULL for kind, _ in known])
    times = [(r.device, 0) for r in kept]
    for _ in range(PASSES):  # what is left over tells which devices have changed; before, they were others
        offset, a, left = _solved(kept, times, holds, pull)
        found = _regimes(kept, left)
        if found == times:
            break
        times = found
    return Shape(offset, dict(zip(known, map(float, a), strict=True)))


def _regimes(rows: Sequence[Row], left: np.ndarray) -> list[tuple[str, int]]:
    """Each row's device, and 0 in its present regime or 1 before it."""
    by_device: dict[str, list[int]] = {}
    for i, r in enumerate(rows):
        by_device.setdefault(r.device, []).append(i)
    begins = {name: present([float(left[i]) for i in at]) for name, at in by_device.items()}
    return [(r.device, int(by_device[r.device].index(i) < begins[r.device])) for i, r in enumerate(rows)]


def _solved(
    rows: Sequence[Row], times: Sequence[tuple[str, int]], holds: np.ndarray, pull: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """offset, what each part adds, and by row log(y / fit). times: (n,), rows of one speed; holds: (n, parts)."""
    speeds = list(dict.fromkeys(times))
    n, size = len(rows), 1 + len(speeds) + len(pull)
    logs = np.log([r.y for r in rows])
    law, whole = (np.array([of(r) for r in rows], float) for of in (_law, _whole))
    linear = np.zeros((n, size))
    linear[np.arange(n), [1 + speeds.index(t) for t in times]] = 1.0
    speed = linear.copy()
    linear[:, 1 + len(speeds) :] = holds
    pulls = np.zeros((1 + len(pull), size))
    pulls[0, 0] = HOLD
    pulls[1:, 1 + len(speeds) :] = np.diag(pull)

    def parts(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return p[0] * whole * np.exp(speed @ p), law * np.exp(linear @ p)

    def deviations(p: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(sum(parts(p))) - logs, pulls @ p])

    def slopes(p: np.ndarray) -> np.ndarray:
        before, moving = parts(p)
        of = speed * (before / (before + moving))[:, None] + linear * (moving / (before + moving))[:, None]
        of[:, 0] = whole * np.exp(speed @ p) / (before + moving)
        return np.concatenate([of, pulls])

    start = np.zeros(size)
    start[0] = 0.1
    for i, one in enumerate(speeds):
        mine = [j for j, t in enumerate(times) if t == one]
        start[1 + i] = float(np.median((logs - np.log(law))[mine]))
    low = np.full(size, -np.inf)
    low[0] = 0.0
    p = least_squares(deviations, start, jac=slopes, bounds=(low, np.inf), loss="soft_l1", f_scale=NEAR).x
    return float(p[0]), p[1 + len(speeds) :], logs - np.log(sum(parts(p)))


def _law(row: Row) -> float:
    return row.steps * row.law


def _whole(row: Row) -> float:
    return row.whole
