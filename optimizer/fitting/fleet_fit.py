"""What has been told of all devices, kept in the order of time, and the fits made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fleet.domain import Prediction
from optimizer.fitting.device import Cost, DeviceFit
from optimizer.fitting.quality import QualityFit, quality
from optimizer.fitting.robust import Line, line
from optimizer.fitting.sample import RECENT, Choice, Sample, sample
from optimizer.fitting.shared import Shape, shape
from optimizer.fitting.start import Job
from optimizer.policy import Candidate, Told

KEPT = 64
"""Samples of a device that are kept."""


class FleetFit:
    """Refitted after every `add`. `job` makes presets possible before there is any measurement."""

    def __init__(self, job: Job | None = None) -> None:
        self._job = job
        self._runs: dict[str, int] = {}
        self._begun: dict[tuple[str, str], int] = {}
        self._samples: dict[str, list[Sample]] = {}
        self._fits: dict[str, tuple[Candidate, DeviceFit]] = {}
        self._ranges: dict[str, tuple[tuple[int, int], float]] = {}
        self._quality: dict[str, tuple[list[int], int, Mapping[str, float]]] = {}
        self._sizes: tuple[Line | None, Line | None] | None = None
        self._met: dict[str, Candidate] = {}
        self._shapes: dict[bool, tuple[Shape | None, Shape | None]] = {}

    def add(self, told: Told) -> None:
        """Takes in one assignment. Runs are told one after the other, rounds of a run in any order."""
        a = told.assignment
        run = self._runs.setdefault(a.run, len(self._runs))
        if told.update_range is not None and (run, a.round) >= self._ranges.get(a.device, ((-1, 0), 0.0))[0]:
            self._ranges[a.device] = ((run, a.round), told.update_range)
        if told.metrics:
            bits, last, metrics = self._quality.setdefault(a.run, ([], 0, {}))
            if a.round >= last:
                last, metrics = a.round, {m.name: m.value for m in told.metrics}
            self._quality[a.run] = ([*bits, a.bits_up], last, metrics)
        found = sample(told)
        if found is None:
            return
        begun = (a.run, a.device)
        self._begun[begun] = min(a.round, self._begun.get(begun, a.round))
        samples = self._samples.setdefault(a.device, [])
        samples.append(found)
        samples.sort(key=lambda s: (self._runs[s.run], s.round))
        del samples[:-KEPT]
        self._fits.pop(a.device, None)
        self._sizes = None
        self._forget_shapes()

    def meet(self, candidates: Sequence[Candidate]) -> None:
        """Says which devices are looked at together: of these alone it is told what settings cost in a fleet."""
        met = {c.device: c for c in candidates}
        if met != self._met:
            self._met = met
            self._forget_shapes()

    def shapes(self, calibrated: bool) -> tuple[Shape | None, Shape | None]:
        """What settings cost against each other, in seconds and in joules, on the devices that were met.

        Devices with a calibration are a group of their own: what is left to learn of them is something else.
        """
        if calibrated not in self._shapes:
            fits = [self.device(c) for c in self._met.values()]
            rows = [fit.rows() for fit in fits if fit.start.calibrated is calibrated]
            seconds, joules = ([row for of in rows for row in of[i]] for i in (0, 1))
            self._shapes[calibrated] = shape(seconds), shape(joules)
        return self._shapes[calibrated]

    def _forget_shapes(self) -> None:
        self._shapes = {}
        for _, fit in self._fits.values():
            fit.forget_shapes()

    def device(self, candidate: Candidate) -> DeviceFit:
        """The constants of one device, as far as they are known."""
        at = self._fits.get(candidate.device)
        if at is None or at[0] != candidate:
            name = candidate.device
            samples = [replace(s, first=self._begun[s.run, name] == s.round) for s in self._samples.get(name, ())]
            fit = DeviceFit(candidate, samples, self._job, self.sizes, self.shapes)
            at = self._fits[candidate.device] = candidate, fit
        return at[1]

    def cost(self, candidate: Candidate, choice: Choice) -> Cost:
        """What `choice` will cost `candidate`."""
        return self.device(candidate).cost(choice)

    def predict(self, candidate: Candidate, choice: Choice) -> Prediction:
        """The same in the words of the log."""
        return self.cost(candidate, choice).prediction()

    def sizes(self) -> tuple[Line | None, Line | None]:
        """Bytes on the wire up and down by bits: the model is one, so all devices' samples count."""
        if self._sizes is not None:
            return self._sizes
        samples = [s for of in self._samples.values() for s in of[-RECENT:]]
        samples.sort(key=lambda s: (self._runs[s.run], s.round))
        up = [(s.choice.bits_up, s.up_bytes) for s in samples if s.up_bytes]
        down = [(s.choice.bits_down, s.down_bytes) for s in samples if s.down_bytes]
        self._sizes = _size(up), _size(down)
        return self._sizes

    def range(self, device: str) -> float | None:
        """The live range of the device's last update; None if nobody said."""
        found = self._ranges.get(device)
        return found[1] if found else None

    def quality(self, metric: str) -> QualityFit | None:
        """A metric of the model against bits, over runs."""
        ends = [(sum(bits) / len(bits), m[metric]) for bits, _, m in self._quality.values() if metric in m]
        return quality(metric, [b for b, _ in ends], [v for _, v in ends])

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that runs were told with."""
        return tuple(sorted({name for _, _, m in self._quality.values() for name in m}))


def _size(pairs: list[tuple[int, int]]) -> Line | None:
    return line([b for b, _ in pairs], [float(n) for _, n in pairs], lambda bits: bits) if pairs else None
