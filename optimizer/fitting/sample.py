"""What one assignment teaches: its setting, its bytes, and by phase its seconds and readings.

A phase that was begun more than once (a cut upload, a repeated training) is left out: its seconds are not those
of one go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.domain import Phase, PhaseReport
from fleet.energy import Choice as EnergyChoice
from fleet.energy import choose, total
from optimizer.policy import Told

PHASES = (Phase.DOWNLOAD, Phase.TRAIN, Phase.QUANTIZE, Phase.UPLOAD)
"""The phases of an assignment, in their order."""

RECENT = 12
"""Samples of one device that a fit looks at; older ones say how it was."""


@dataclass(frozen=True)
class Setting:
    """How a device trains. `None`: it is left as it is."""

    width: float
    precision: str
    frequency_hz: float | None = None
    power_limit_watts: float | None = None


@dataclass(frozen=True)
class Choice:
    """Everything about an assignment that its cost depends on."""

    setting: Setting
    steps: int
    bits_up: int
    bits_down: int


@dataclass(frozen=True)
class Sample:
    """One assignment as it came out. `first`: of its device in its run, so it may have paid for a warm-up."""

    run: str
    round: int
    choice: Choice
    up_bytes: int
    down_bytes: int
    phases: Mapping[Phase, PhaseReport]
    first: bool = False

    def seconds(self, phase: Phase) -> float | None:
        """Seconds of `phase`; None if it was not whole."""
        return self.phases[phase].seconds if phase in self.phases else None

    def joules(self, phase: Phase, choice: EnergyChoice) -> float | None:
        """Joules of `phase` by `choice`; None unless every source of it gave some."""
        if phase not in self.phases:
            return None
        found = total([self.phases[phase].readings], choice)
        return None if found.missing else found.joules


def sample(told: Told) -> Sample | None:
    """What `told` teaches; None without one whole window of training."""
    a = told.assignment
    whole = {p.phase: p for p in told.phases if p.phase in PHASES and p.windows == 1 and p.seconds > 0}
    if Phase.TRAIN not in whole:
        return None
    refused = {outcome.requested for outcome in whole[Phase.TRAIN].levers if outcome.applied is None}
    frequency, power = (None if value in refused else value for value in (a.frequency_hz, a.power_limit_watts))
    setting = Setting(a.width, a.precision, frequency, power)
    choice = Choice(setting, a.train_steps, a.bits_up, a.bits_down)
    return Sample(a.run, a.round, choice, told.wire_up_bytes, told.wire_down_bytes, whole)


def energy_choice(samples: Sequence[Sample]) -> EnergyChoice | None:
    """Which readings to fit: of the best quality that at least half of the recent samples have in every phase."""
    recent = samples[-RECENT:]
    for choice in choose([p.readings for s in recent for p in s.phases.values()]).values():
        whole = sum(all(choice.has_all(p.readings) for p in s.phases.values()) for s in recent)
        if 2 * whole >= len(recent):
            return choice
    return None
