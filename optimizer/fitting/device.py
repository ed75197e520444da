"""The fitted constants of one device, and what they say an assignment will cost, phase by phase."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fleet.domain import Origin, Phase, Prediction, Quality
from fleet.energy import Choice as EnergyChoice
from optimizer.fitting import steps
from optimizer.fitting.robust import Line, line
from optimizer.fitting.sample import Choice, Sample, energy_choice
from optimizer.fitting.shared import WHOLE, Row, Shape
from optimizer.fitting.start import Guess, Job, Known, Start
from optimizer.policy import Candidate

GuessAt = Callable[[float], Guess]

AS_EXPECTED = 1.25
"""A first sample that took more than so many times what was to be expected paid for a warm-up."""


@dataclass(frozen=True)
class PhaseCost:
    """What one phase will cost, where that is known from, and how well samples of it agree (relative, median)."""

    phase: Phase
    seconds: float | None
    joules: float | None
    known: Known
    samples: int = 0
    residual_seconds: float | None = None
    residual_joules: float | None = None


@dataclass(frozen=True)
class Cost:
    """What an assignment will cost. Joules are of one quality and scope."""

    phases: tuple[PhaseCost, ...]
    kind: tuple[Quality, str] | None
    repeats: int = 0

    @property
    def seconds(self) -> float | None:
        """From the first byte down to the last byte up; None if some phase is not known."""
        return _sum([p.seconds for p in self.phases])

    @property
    def joules(self) -> float | None:
        """Of all phases; None if some phase is not known."""
        return _sum([p.joules for p in self.phases])

    @property
    def known(self) -> Known:
        """What the training's part comes from."""
        return next(p.known for p in self.phases if p.phase is Phase.TRAIN)

    def of(self, phase: Phase) -> PhaseCost:
        """One phase."""
        return next(p for p in self.phases if p.phase is phase)

    def prediction(self) -> Prediction:
        """In the words of the log. `samples` are those of the setting; of a calibration, its repeats."""
        samples = {
            Known.FITTED: self.of(Phase.TRAIN).samples,
            Known.CALIBRATED: self.repeats,
            Known.PRESET: 0,
        }[self.known]
        origin = Origin.PRESET if self.known is Known.PRESET else Origin.FITTED
        quality, scope = self.kind if self.kind and self.joules is not None else (None, None)
        return Prediction(self.joules, self.seconds, origin, samples, quality, scope)


class DeviceFit:
    """The constants of `candidate` from `samples`, in the order of time, on top of what was known before.

    `sizes` gives the bytes of an upload and of a download at some bits, `shapes` what the fleet says of seconds
    and joules by setting. Fitted when first asked for.
    """

    def __init__(
        self,
        candidate: Candidate,
        samples: Sequence[Sample],
        job: Job | None,
        sizes: Callable[[], tuple[Line | None, Line | None]],
        shapes: Callable[[bool], tuple[Shape | None, Shape | None]],
    ) -> None:
        self._shapes = shapes
        self.samples = warm(samples, Start(candidate, job))
        self._sizes = sizes
        self._priced: tuple[object, dict[Choice, Cost]] = (None, {})
        self.energy: EnergyChoice | None = energy_choice(self.samples)
        self.start = Start(candidate, job, self.energy)
        rows = candidate.calibration.rows if candidate.calibration else ()
        self._repeats = max((r.repeats for r in rows), default=0)

    def cost(self, choice: Choice) -> Cost:
        """Seconds and joules of an assignment."""
        sizes = self._sizes()
        if self._priced[0] is not sizes:
            self._priced = sizes, {}
        priced = self._priced[1]
        if choice not in priced:
            priced[choice] = self._cost(choice)
        return priced[choice]

    def _cost(self, choice: Choice) -> Cost:
        up, down = self.upload_bytes(choice.bits_up), self._bytes(1, choice.bits_down)
        phases = (
            self._phase(Phase.DOWNLOAD, down, self.start.receive),
            self._train(choice),
            self._phase(Phase.QUANTIZE, choice.bits_up, self.start.encode),
            self._phase(Phase.UPLOAD, up, self.start.send),
        )
        return Cost(phases, self.kind, self._repeats)

    @property
    def kind(self) -> tuple[Quality, str] | None:
        """Quality and scope of its joules."""
        return (self.energy.quality, self.energy.scope) if self.energy else self.start.quality_and_scope

    def upload_bytes(self, bits: int) -> float | None:
        """Bytes on the wire of an update at `bits`."""
        return self._bytes(0, bits)

    def download_bytes(self, bits: int) -> float | None:
        """Bytes on the wire of a model at `bits`."""
        return self._bytes(1, bits)

    def rank(self, choice: Choice) -> float:
        """What settings of this device are compared by: joules, where they are not known what goes as they do."""
        cost = self.cost(choice)
        known = cost.joules if cost.joules is not None else cost.seconds
        return known if known is not None else choice.steps * self.start.joules_law(choice.setting)

    def offers(self, precision: str) -> bool:
        """Whether the device is known to train at `precision`: it did so, or it is full precision."""
        did = any(s.choice.setting.precision == precision for s in self.samples)
        return did or precision == "fp32" or bool(self.start.can(precision))

    def tried(self, choice: Choice) -> int:
        """How often the device did this."""
        return sum(s.choice == choice for s in self.samples)

    @cached_property
    def train_seconds(self) -> steps.StepFit | None:
        """Seconds by steps and setting."""
        values = [s.seconds(Phase.TRAIN) for s in self.samples]
        return self._fit(values, _prior(self._shapes(self.start.calibrated)[0], self.start.law))

    @cached_property
    def train_joules(self) -> steps.StepFit | None:
        """Joules by steps and setting; None where too few samples have any."""
        if self.energy is None:
            return None
        values = [s.joules(Phase.TRAIN, self.energy) for s in self.samples]
        return self._fit(values, _prior(self._shapes(self.start.calibrated)[1], self.start.joules_law))

    def _fit(self, values: Sequence[float | None], prior: steps.Prior) -> steps.StepFit | None:
        kept = [(s.choice, y) for s, y in zip(self.samples, values, strict=True) if y is not None and y > 0]
        return steps.fit([c.setting for c, _ in kept], [c.steps for c, _ in kept], [y for _, y in kept], prior)

    def forget_shapes(self) -> None:
        """The next question is answered with what the fleet says by then."""
        for name in ("train_seconds", "train_joules"):
            self.__dict__.pop(name, None)
        self._priced = None, {}

    def rows(self) -> tuple[list[Row], list[Row]]:
        """Its trainings for the fit over the fleet: seconds, and joules where there are any."""
        found: tuple[list[Row], list[Row]] = ([], [])
        for s in self.samples:
            c, joules = s.choice, s.joules(Phase.TRAIN, self.energy) if self.energy else None
            for rows, y, law in (
                (found[0], s.seconds(Phase.TRAIN), self.start.law),
                (found[1], joules, self.start.joules_law),
            ):
                if y is not None and y > 0:
                    rows.append(Row(self.start.device, c.setting, c.steps, y, law(c.setting), law(WHOLE)))
        return found

    def _train(self, choice: Choice) -> PhaseCost:
        seconds, joules = self.train_seconds, self.train_joules
        guess = self.start.step(choice.setting)
        if seconds is None:
            n = choice.steps
            return PhaseCost(Phase.TRAIN, _times(guess.seconds, n), _times(guess.joules, n), guess.known)
        samples = seconds.tried.get(choice.setting, 0)
        return PhaseCost(
            Phase.TRAIN,
            seconds.at(choice.setting, choice.steps),
            None if joules is None else joules.at(choice.setting, choice.steps),
            Known.FITTED if samples else guess.known,
            samples,
            seconds.residual,
            None if joules is None else joules.residual,
        )

    def _phase(self, phase: Phase, x: float | None, guess_at: GuessAt) -> PhaseCost:
        lines: tuple[Line | None, Line | None] = self._lines[phase]
        guess: Guess = guess_at(x) if x is not None else Guess(None, None, Known.PRESET)
        seconds, joules = lines
        if seconds is None or x is None:
            return PhaseCost(phase, guess.seconds, guess.joules, guess.known)
        return PhaseCost(
            phase,
            seconds.at(x),
            None if joules is None else joules.at(x),
            Known.FITTED,
            seconds.samples,
            seconds.residual,
            None if joules is None else joules.residual,
        )

    @cached_property
    def _lines(self) -> dict[Phase, tuple[Line | None, Line | None]]:
        return {
            Phase.DOWNLOAD: self._pair(Phase.DOWNLOAD, self.start.receive, [s.down_bytes for s in self.samples]),
            Phase.QUANTIZE: self._pair(
                Phase.QUANTIZE, self.start.encode, [s.choice.bits_up for s in self.samples]
            ),
            Phase.UPLOAD: self._pair(Phase.UPLOAD, self.start.send, [s.up_bytes for s in self.samples]),
        }

    def _pair(self, phase: Phase, guess_at: GuessAt, xs: Sequence[float]) -> tuple[Line | None, Line | None]:
        """Seconds and joules by x, in proportion to what was known before, else to the bytes."""

        def seconds_law(x: float) -> float:
            return guess_at(x).seconds or (1.0 if phase is Phase.QUANTIZE else x)

        def joules_law(x: float) -> float:
            return guess_at(x).joules or seconds_law(x)

        joules = [s.joules(phase, self.energy) if self.energy else None for s in self.samples]
        return _line(xs, [s.seconds(phase) for s in self.samples], seconds_law), _line(xs, joules, joules_law)

    def _bytes(self, way: int, bits: int) -> float | None:
        size = self._sizes()[way]
        if size is not None:
            return size.at(bits)
        return None if self.start.values is None else self.start.values * bits / 8


def warm(samples: Sequence[Sample], start: Start) -> list[Sample]:
    """Those of `samples` that did not pay for a warm-up, as far as one can tell.

    The first of a run pays for imports and compiling. It counts where there is no other; where there is a
    calibration, if it took no more than that and the others lead one to expect: a warm-up only ever adds.
    """
    warmed = [s for s in samples if not s.first]
    if not start.calibrated:
        return warmed or list(samples)
    choices = [s.choice for s in warmed]
    fit = steps.fit(
        [c.setting for c in choices],
        [c.steps for c in choices],
        [s.phases[Phase.TRAIN].seconds for s in warmed],
        steps.Prior(start.law),
    )

    def as_expected(s: Sample) -> bool:
        c = s.choice
        expected_s = fit.at(c.setting, c.steps) if fit else c.steps * start.law(c.setting)
        return s.phases[Phase.TRAIN].seconds <= AS_EXPECTED * expected_s

    return [s for s in samples if not s.first or as_expected(s)]


def _prior(found: Shape | None, law: steps.Law) -> steps.Prior:
    return steps.Prior(law) if found is None else found.prior(law)


def _line(xs: Sequence[float], ys: Sequence[float | None], law: Callable[[float], float]) -> Line | None:
    kept = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None and x > 0]
    return line([x for x, _ in kept], [y for _, y in kept], law) if kept else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None
