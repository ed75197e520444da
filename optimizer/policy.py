"""What wattbed asks of a policy: asked before each round, told what each assignment came to.

[project.entry-points."wattbed.policies"]
mine = "my_package:MyPolicy"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from fleet.calibration import Calibration
from fleet.domain import Assignment, Capabilities, Metric, PhaseReport, Prediction
from fleet.errors import BadExperiment


@dataclass(frozen=True)
class Candidate:
    """A device that may be asked to train. `calibration` is its latest one of the run's workload, if any."""

    device: str
    capabilities: Capabilities
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Decision:
    """What one device should do, and what that is expected to cost. `note` says to people why it is so."""

    device: str
    bits_up: int
    bits_down: int
    precision: str
    width: float
    train_steps: int
    predicted: Prediction
    power_limit_watts: float | None = None
    frequency_hz: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Told:
    """What an assignment came to: its windows by phase, and the bytes counted on the wire.

    `update_range` is what the update spans: twice the root mean square over its blocks of the largest magnitude.
    `metrics` are those of the model that its round made. Assignments of earlier runs of the same workload are told
    too, before those of the run itself.
    """

    assignment: Assignment
    phases: tuple[PhaseReport, ...]
    wire_up_bytes: int
    wire_down_bytes: int
    update_range: float | None = None
    metrics: tuple[Metric, ...] = ()


class Policy(Protocol):
    """Decides bits, precision, width and steps. The same history gives the same decisions."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Checks `options`; BadExperiment names a wrong key."""

    def ask(self, round: int, candidates: Sequence[Candidate]) -> tuple[Decision, ...]:
        """One decision for each candidate that takes part in `round`. Candidates come sorted by name."""

    def tell(self, told: Told) -> None:
        """Takes in what an earlier assignment came to."""


@runtime_checkable
class SaysWidths(Protocol):
    """A policy that says which widths it may ask for: what cannot go with them is refused at a run's start."""

    widths: frozenset[float]


def load(name: str, options: Mapping[str, Any]) -> Policy:
    """The policy called `name`; BadExperiment lists the known ones."""
    known = {e.name: e for e in entry_points(group="wattbed.policies")}
    if name not in known:
        raise BadExperiment(f"policy.name = {name!r}: known are {', '.join(sorted(known))}")
    policy: Policy = known[name].load()(options)
    return policy
