"""What an assignment will cost, from what the same device's earlier ones came to.

Per device and (width, precision): the median seconds and joules per training step, and the median
seconds and joules of the other phases. A device nothing was measured of gets no number. Its first
assignment pays for imports and compiling, so it is left out as soon as there is another.
"""

from collections import defaultdict
from statistics import median

from fleet.domain import Origin, Phase, Prediction
from optimizer.policy import Told

Setting = tuple[float, str]


class Forecast:
    """Medians over what was told, by device."""

    def __init__(self) -> None:
        self._train_s: dict[tuple[str, Setting], list[float]] = defaultdict(list)
        self._train_joules: dict[tuple[str, Setting], list[float]] = defaultdict(list)
        self._rest_s: dict[str, list[float]] = defaultdict(list)
        self._rest_joules: dict[str, list[float]] = defaultdict(list)

    def add(self, told: Told) -> None:
        """Takes in one assignment; one without a whole training window teaches nothing."""
        assignment = told.assignment
        train = next((p for p in told.phases if p.phase == Phase.TRAIN and p.windows == 1), None)
        if train is None:
            return
        rest = [p for p in told.phases if p.phase != Phase.TRAIN]
        key = (assignment.device, (assignment.width, assignment.precision))
        self._train_s[key].append(train.seconds / assignment.train_steps)
        self._rest_s[assignment.device].append(sum(p.seconds for p in rest))
        joules = [r.joules for p in told.phases for r in p.readings]
        if joules and None not in joules:
            inside = sum(r.joules or 0.0 for r in train.readings)
            self._train_joules[key].append(inside / assignment.train_steps)
            self._rest_joules[assignment.device].append(sum(j or 0.0 for j in joules) - inside)

    def predict(self, device: str, width: float, precision: str, train_steps: int) -> Prediction:
        """Joules and seconds of one assignment; None where nothing like it was measured yet."""
        key = (device, (width, precision))
        samples = len(self._train_s[key])
        if not samples:
            return Prediction(None, None, Origin.PRESET, 0)
        seconds = _typical(self._train_s[key]) * train_steps + _typical(self._rest_s[device])
        joules = None
        if self._train_joules[key]:
            joules = _typical(self._train_joules[key]) * train_steps + _typical(self._rest_joules[device])
        return Prediction(joules, seconds, Origin.FITTED, samples)


def _typical(values: list[float]) -> float:
    return median(values[1:] or values)
