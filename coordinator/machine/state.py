"""The present: what a fold of the log knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.events import KeysAgreed
from coordinator.generation.state import Generations
from coordinator.machine.enrolment import Register
from fleet.calibration import Calibration, CalibrationPlan
from fleet.domain import Assignment, Capabilities
from fleet.errors import UnknownDevice, UnknownRun
from fleet.experiment import Experiment


class RunPhase(StrEnum):
    """Where a run stands. What is due in each phase: see coordinator.machine.todo."""

    INITIALISING = "initialising"
    EVALUATING = "evaluating"
    PLANNING = "planning"
    TRAINING = "training"
    AGGREGATING = "aggregating"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Nothing more will happen in this run."""
        return self in (RunPhase.COMPLETED, RunPhase.STOPPED, RunPhase.FAILED)


@dataclass(frozen=True)
class Device:
    """A device that has been here. `session` None: not attached now."""

    name: str
    capabilities: Capabilities
    metrics_address: str | None
    session: str | None
    changed_at_s: float


@dataclass(frozen=True)
class Calibrating:
    """A calibration that is with its device, or waits for it to come back."""

    calibration: str
    plan: CalibrationPlan
    at_s: float


@dataclass(frozen=True)
class Outstanding:
    """An assignment that is with its device, or waits for it."""

    assignment: Assignment
    at_s: float


@dataclass(frozen=True)
class Arrival:
    """An update that is in, of the model of `round`, trained at `width`."""

    round: int
    digest: str
    size_bytes: int
    samples: int
    norm: float | None = None
    width: float = 1.0


@dataclass(frozen=True)
class Run:
    """One experiment on its way.

    `round` is the round that is open, or was last. `outstanding`, `arrived` and `given_up` are by device;
    `closing` are the arrivals that are being made into a model. `counted` is each device's last arrival
    that became part of one. `models` are the payloads that assignments start from, and `unused` what may be
    deleted: "models/SHA256" or "updates/DEVICE/SHA256". `norms` are the medians of the updates' norms of the last
    rounds, where norms are known. `asked` are the devices that the round was opened with, `population` those they
    were drawn from, and `keys` what masks their updates.
    """

    run: str
    key: str
    experiment: Experiment
    started_at_s: float
    phase: RunPhase = RunPhase.INITIALISING
    round: int = 0
    model_sha256: str = ""
    model_bytes: int = 0
    optimizer_state: str | None = None
    opened_at_s: float = 0.0
    deadline_at_s: float = 0.0
    target: int = 0
    outstanding: Mapping[str, Outstanding] = field(default_factory=dict)
    arrived: Mapping[str, Arrival] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)
    closing: Mapping[str, Arrival] = field(default_factory=dict)
    counted: Mapping[str, Arrival] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    norms: tuple[float, ...] = ()
    asked: int = 0
    population: int = 0
    keys: KeysAgreed | None = None
    failures: int = 0
    ended_at_s: float | None = None
    reason: str | None = None

    @property
    def asynchronous(self) -> bool:
        """Whether rounds are buffered (FedBuff) instead of synchronous."""
        return self.experiment.round.mode == "async"


@dataclass(frozen=True)
class State:
    """Everything: devices and runs by name, and the time of the latest event.

    `calibrating` and `calibrated` are by device. Of each device the latest calibration of each workload is kept,
    the oldest first.
    """

    now_s: float = 0.0
    devices: Mapping[str, Device] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    calibrating: Mapping[str, Calibrating] = field(default_factory=dict)
    calibrated: Mapping[str, tuple[Calibration, ...]] = field(default_factory=dict)
    register: Register = field(default_factory=Register)
    generations: Generations = field(default_factory=Generations)

    def device(self, name: str) -> Device:
        """The device called `name`; UnknownDevice says which there are."""
        try:
            return self.devices[name]
        except KeyError:
            known = ", ".join(sorted(self.devices)[:10]) or "none"
            raise UnknownDevice(f"no device {name!r} has attached; known are: {known}") from None

    def run(self, name: str) -> Run:
        """The run called `name`; UnknownRun says which there are."""
        try:
            return self.runs[name]
        except KeyError:
            known = ", ".join(list(self.runs)[-5:]) or "none"
            raise UnknownRun(f"no run {name!r}; the latest are: {known}") from None
