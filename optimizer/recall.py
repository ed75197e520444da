"""What a new run is told of earlier ones: constants are of a device and a workload, not of a run.

Of the last RUNS runs of the same workload, the last ROUNDS rounds: enough for every fit, and bounded.
"""

from collections.abc import Iterator, Sequence

from fleet.calibration_plans import options_json
from fleet.domain import Assignment, LeverOutcome, Phase, PhaseReport, RunReport
from fleet.experiment import Experiment
from optimizer.policy import Told

RUNS = 3
ROUNDS = 32
POWER_LEVERS = ("nvml_power", "nvpmodel")
"""Levers in watts; all others are clocks."""


def same_workload(one: Experiment, other: Experiment) -> bool:
    """Whether a step and a byte of `other` cost what they cost in `one`."""
    return (one.workload.name, options_json(one.workload)) == (other.workload.name, options_json(other.workload))


def recalled(experiment: Experiment, earlier: Sequence[tuple[str, Experiment]]) -> tuple[str, ...]:
    """The runs, of `earlier` by name in the order they began, that a run of `experiment` is told of."""
    return tuple(name for name, other in earlier if same_workload(experiment, other))[-RUNS:]


def told(report: RunReport) -> Iterator[Told]:
    """What the assignments of a run came to, round by round, from its report."""
    for page in report.rounds[-ROUNDS:]:
        for d in page.devices:
            assignment = Assignment(
                *(report.run.run, page.round, d.device, "", 0, 0, d.bits_up, d.bits_down, d.precision, d.width),
                *(d.train_steps, 0, 0.0),
                frequency_hz=_requested(d.phases, power=False),
                power_limit_watts=_requested(d.phases, power=True),
            )
            yield Told(
                assignment, d.phases, d.wire_up_bytes, d.wire_down_bytes, d.update_range, metrics=page.metrics
            )


def _requested(phases: Sequence[PhaseReport], power: bool) -> float | None:
    outcomes: list[LeverOutcome] = [o for p in phases if p.phase is Phase.TRAIN for o in p.levers]
    return next((o.requested for o in outcomes if o.lever.startswith(POWER_LEVERS) is power), None)
