"""Plans of calibrations: what is measured of an experiment's workload, or of the standard one."""

import json
import math
import tomllib
from dataclasses import replace
from functools import cache
from importlib.resources import files

from pydantic import Field

from fleet.calibration import CalibrationPlan
from fleet.errors import BadRequest
from fleet.experiment import BITS, PRECISIONS, Experiment, Section, WorkloadSection, parse


class Pace(Section):
    """How long and how often; see CalibrationPlan."""

    repeats: int = Field(ge=1)
    window_s: float = Field(gt=0)
    warm_up_s: float = Field(ge=0)
    idle_s: float = Field(gt=0)
    cool_down_s: float = Field(ge=0)


class JoinSettings(Section):
    """What is measured of a device that has joined."""

    widths: tuple[float, ...]
    precisions: tuple[str, ...]
    bits: tuple[int, ...]
    budget_s: float
    deadline_s: float


class Standard(Section):
    """fleet/calibration.toml."""

    shards: int
    block_size: int
    error_feedback: bool
    seed: int
    widths: tuple[float, ...]
    bits: tuple[int, ...]
    lost_after_s: float
    deadline_s: float
    full: Pace
    quick: Pace
    join: Pace
    join_settings: JoinSettings
    workload: WorkloadSection


@cache
def standard() -> Standard:
    """What is in the file."""
    text = (files("fleet") / "calibration.toml").read_text(encoding="utf-8")
    return parse(Standard, tomllib.loads(text), where="fleet/calibration.toml")


def plan(experiment: Experiment | None = None, *, quick: bool = False) -> CalibrationPlan:
    """The plan for the workload of `experiment`, else for the standard one, in every precision there is."""
    s = standard()
    pace, workload = s.quick if quick else s.full, experiment.workload if experiment else s.workload
    return CalibrationPlan(
        workload=workload.name,
        options_json=options_json(workload),
        shards=experiment.shards if experiment else s.shards,
        block_size=experiment.quantizer.block_size if experiment else s.block_size,
        error_feedback=experiment.quantizer.error_feedback if experiment else s.error_feedback,
        widths=s.widths,
        precisions=PRECISIONS,
        bits=s.bits,
        repeats=pace.repeats,
        window_s=pace.window_s,
        warm_up_s=pace.warm_up_s,
        idle_s=pace.idle_s,
        cool_down_s=pace.cool_down_s,
        lost_after_s=s.lost_after_s,
        deadline_s=s.deadline_s,
        quick=quick,
        seed=experiment.seed if experiment else s.seed,
    )


def at_joining() -> CalibrationPlan:
    """The micro-benchmark of a device that has joined: the standard workload at what of a few settings fits into a
    budget of seconds, once each."""
    s = standard()
    few = s.join_settings
    return replace(
        plan(quick=True),
        widths=few.widths,
        precisions=few.precisions,
        bits=few.bits,
        budget_s=few.budget_s,
        deadline_s=few.deadline_s,
        **s.join.model_dump(),
    )


def options_json(workload: WorkloadSection) -> str:
    """The options of a workload in the one spelling that calibrations are told apart by."""
    return json.dumps(workload.options, sort_keys=True)


def check(plan: CalibrationPlan) -> None:
    """BadRequest names everything in `plan` that cannot be done anywhere. Its workload is not looked at."""
    wrong = [f"bits {b}; there are 1 to 16 and 32" for b in plan.bits if b not in BITS]
    wrong += [
        f"precision {p!r}; known are {', '.join(PRECISIONS)}" for p in plan.precisions if p not in PRECISIONS
    ]
    wrong += [f"width {w}, which is not in (0, 1]" for w in plan.widths if not 0 < w <= 1]
    if plan.repeats < 1:
        wrong.append(f"{plan.repeats} repeats; at least 1 is needed")
    if plan.shards < 1:
        wrong.append(f"{plan.shards} shards; at least 1 is needed")
    for name in ("window_s", "idle_s", "lost_after_s", "deadline_s"):
        if not 0 < getattr(plan, name) < math.inf:
            wrong.append(f"{name} {getattr(plan, name)}, which is not a time")
    for name in ("warm_up_s", "cool_down_s"):
        if not 0 <= getattr(plan, name) < math.inf:
            wrong.append(f"{name} {getattr(plan, name)}, which is not a time")
    if plan.budget_s is not None and not 0 < plan.budget_s < math.inf:
        wrong.append(f"budget_s {plan.budget_s}, which is not a time")
    if wrong:
        raise BadRequest("the plan of the calibration has " + "; ".join(wrong))
