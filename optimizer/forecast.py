"""What an assignment will cost, from what the same device's earlier ones came to.

Per device and (width, precision): the median seconds and joules per training step, and the median
seconds and joules of the other phases. Joules are of one quality and scope, never of a mixture. A device that
nothing was measured of is predicted from its calibration, and gets no number without one. Its first
assignment pays for imports and compiling, so it is left out as soon as there is another; and once a device has
become slower or faster for two rounds in a row, what was before is not looked at (optimizer.fitting.robust).
"""

import math
from collections import defaultdict
from statistics import median

from fleet.domain import Origin, Phase, Prediction, Quality
from fleet.energy import choose, total
from optimizer import prior
from optimizer.fitting.robust import present
from optimizer.policy import Candidate, Told

Setting = tuple[float, str]
Kind = tuple[Quality, str]
"""Quality and scope of joules."""


class Forecast:
    """Medians over what was told, by device."""

    def __init__(self) -> None:
        self._train_s: dict[tuple[str, Setting], list[float]] = defaultdict(list)
        self._rest_s: dict[str, list[float]] = defaultdict(list)
        self._train_joules: dict[tuple[str, Setting, Kind], list[float]] = defaultdict(list)
        self._rest_joules: dict[tuple[str, Kind], list[float]] = defaultdict(list)
        self._kind: dict[str, Kind] = {}

    def add(self, told: Told) -> None:
        """Takes in one assignment; one without a whole training window teaches nothing."""
        a = told.assignment
        train = next((p for p in told.phases if p.phase == Phase.TRAIN and p.windows == 1), None)
        if train is None:
            return
        rest = [p for p in told.phases if p.phase != Phase.TRAIN]
        key = (a.device, (a.width, a.precision))
        self._train_s[key].append(train.seconds / a.train_steps)
        self._rest_s[a.device].append(sum(p.seconds for p in rest))
        windows = [train.readings, *(p.readings for p in rest)]
        for choice in choose(windows).values():
            inside, outside = total(windows[:1], choice), total(windows[1:], choice)
            if inside.joules is None or inside.missing or outside.missing:
                continue
            kind = (choice.quality, choice.scope)
            self._train_joules[*key, kind].append(inside.joules / a.train_steps)
            self._rest_joules[a.device, kind].append(outside.joules or 0.0)
            self._kind[a.device] = kind
            return

    def predict(
        self, candidate: Candidate, bits_up: int, bits_down: int, width: float, precision: str, train_steps: int
    ) -> Prediction:
        """Joules and seconds of one assignment; None where nothing like it was measured yet."""
        key = (candidate.device, (width, precision))
        samples = len(self._train_s[key])
        if not samples:
            found = candidate.calibration and prior.predict(
                candidate.calibration, bits_up, bits_down, width, precision, train_steps
            )
            return found or Prediction(None, None, Origin.PRESET, 0)
        seconds = _typical(self._train_s[key]) * train_steps + _typical(self._rest_s[candidate.device])
        kind = self._kind.get(candidate.device)
        if kind is None or not self._train_joules[*key, kind]:
            return Prediction(None, seconds, Origin.FITTED, samples)
        rest = _typical(self._rest_joules[candidate.device, kind])
        joules = _typical(self._train_joules[*key, kind]) * train_steps + rest
        return Prediction(joules, seconds, Origin.FITTED, samples, *kind)


def _typical(values: list[float]) -> float:
    """The median since the device last changed its speed, the first assignment left out."""
    warm = values[1:] or values
    return median(warm[present([math.log(v) for v in warm]) :] if min(warm) > 0 else warm)
