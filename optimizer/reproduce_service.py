"""The two papers about generation computed anew: plain data, which the command prints, plots and writes.

Both texts give no constants that could be had. What is taken instead is said with its origin in `constants`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fleet.errors import BadRequest
from optimizer.generation import schemes
from optimizer.generation.fitting import fit_steps
from optimizer.generation.quality import BitsLaw, QualityLaws, StepErrors, StepLaw, WidthLaw, from_numbers
from optimizer.generation.resources import Clock, Infeasible
from optimizer.generation.schedule import OutOfReach, StepPrices
from optimizer.generation.serving import EnergyLaw
from optimizer.models.presets import ANCHORS, RMSE_BY_STEPS, STEPS
from optimizer.models.radio import macro_gain
from optimizer.offload import dynamic
from optimizer.offload import schemes as schemes_offload
from optimizer.offload.problem import Aims, Edge, Plan, Problem, Users
from optimizer.offload.problem import Infeasible as TooMuch

CELL_METRES = (50.0, 400.0)
NOISE_WATTS_PER_HZ = 10 ** (-174 / 10) / 1000

WIDTHS = (0.25, 0.5, 0.75, 1.0)
STEP_MACS = (0.422e9, 1.599e9, 3.533e9, 6.222e9)
"""[P] arXiv 2310.03337: multiplications of a step of the U-Net for CIFAR-10 at WIDTHS."""

PRICES = StepPrices(WIDTHS, tuple(macs / STEP_MACS[-1] for macs in STEP_MACS))
"""In steps at full width."""

CLOCKS = {
    EnergyLaw.KAPPA: Clock(EnergyLaw.KAPPA, 0.2e9, 2e9, kappa=1e-27),
    EnergyLaw.CONSTANT_POWER: Clock(
        EnergyLaw.CONSTANT_POWER, 0.2e9, 2e9, idle_watts=5.0, dyn_watts=10.0, exponent=0.0
    ),
}
"""[R] A server of 512 multiplications a cycle: kappa f^2, or 15 W whatever the clock."""

BAND_HZ = 2e6
EQUAL = 1.02
"""FID within 2 % counts as equal."""

FIXED_STEPS = 500
"""Of the baseline whose steps are fixed: half of the chain."""

DDIM_FID = StepLaw((10, 20, 50, 100), (13.36, 6.84, 4.67, 4.16))
"""[P] DDIM (Song et al. 2021), table 1: FID on CIFAR-10 by steps."""

PUBLISHED_MACS = 0.51
"""[P] arXiv 2310.03337: the part of the full network's MACs that its schedule of widths takes at equal FID."""

PUBLISHED_SAVING = 2.0
"""[P] FlexGen's abstract: up to so many times less energy at equal quality."""

NOISE_DECAY = 0.1
"""[R] e(t, w)^2 is e(t, 1)^2 (1 + 4 exp(-t / 0.1) (w^-1.5 - 1)): near the image the wide network is needed.

The decay is set so that the cheapest widths at 2 % more FID take about PUBLISHED_MACS."""


def assumed_laws() -> QualityLaws:
    """FID of CIFAR-10 by width, steps and bits; `source` says what is published and what is assumed."""
    levels = tuple(np.linspace(0.025, 0.975, 20).tolist())
    errors = tuple(
        tuple(0.02 * (1 + 4 * np.exp(-t / NOISE_DECAY) * (w**-1.5 - 1)) for w in WIDTHS) for t in levels
    )
    # Naive linear W8 on top of full precision, both published.
    harm = (ANCHORS["naive linear W8"] - ANCHORS["full precision"]) * 4.0**8
    return QualityLaws(
        WidthLaw(DDIM_FID.values[-1], 2.33, 1.5),
        DDIM_FID,
        BitsLaw(harm),
        StepErrors(levels, WIDTHS, (1.0,) * len(levels), errors),
        "fid",
        "ddim",
        "steps: DDIM table 1 [P]; bits: naive linear W8 [P]; width (2.33, 1.5) and decay over noise: assumed [R]",
    )


def read_laws(path: Path) -> QualityLaws:
    """The laws that `quality.as_numbers` gave, from a file of JSON; BadRequest names what does not read."""
    try:
        numbers = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadRequest(f"{path} does not read as JSON: {error}") from error
    if not isinstance(numbers, dict):
        raise BadRequest(f"{path} holds no quality laws")
    return from_numbers(numbers)


def flexgen(seed: int = 0, count: int = 20, laws: QualityLaws | None = None) -> dict[str, Any]:
    """Li et al., reconstructed: every scheme on the same seeded requests, under both laws of energy.

    laws: measured ones in place of `assumed_laws`. `saving`: joules of full width over those of schemes.OURS, for
    the qualities demanded; `equal_quality`: the same where everybody demands full width's, within 2 %.
    """
    if count < 1:
        raise BadRequest(f"{count} requests; at least one is needed")
    known = laws or assumed_laws()
    steps = tuple(int(s) for s in known.steps.steps)
    random = np.random.default_rng(seed)
    best = float(known.quality(1.0, max(steps)))
    demanded = best * random.uniform(1.02, 2.5, count)
    work = schemes.Work(
        tuple(demanded.tolist()),
        tuple(int(k) for k in random.integers(1, 5, count)),
        STEP_MACS[-1] / 512,
        8.0 * 3 * 32 * 32,
        tuple(random.uniform(6.0, 20.0, count).tolist()),
        tuple(macro_gain(random.uniform(*CELL_METRES, count), random.exponential(size=count).clip(0.1)).tolist()),
        1.0,
        NOISE_WATTS_PER_HZ,
    )
    alike = replace(work, qualities=(best * EQUAL,) * count)
    found, saving, equal = {}, {}, {}
    for law, clock in CLOCKS.items():
        made, same = (
            schemes.every(w, known, steps, PRICES, clock, BAND_HZ, WIDTHS[:-1], seed) for w in (work, alike)
        )
        found[law.value] = {name: _served(scheme, work) for name, scheme in made.items()}
        saving[law.value] = _times(made)
        equal[law.value] = _times(same)
    return {
        "seed": seed,
        "requests": count,
        "origin": "reconstruction of FlexGen (doi 10.1109/TCCN.2024.3522084)",
        "laws": known.source,
        "schemes": found,
        "saving": saving,
        "equal_quality": equal,
        "published": {"saving_up_to": PUBLISHED_SAVING, "macs_at_equal_fid": PUBLISHED_MACS},
    }


def _served(scheme: Callable[[], schemes.Served], work: schemes.Work) -> dict[str, Any]:
    try:
        made = scheme()
    except Infeasible as error:
        return {"feasible": False, "constraint": error.constraint, "reason": str(error)}
    except OutOfReach as error:
        return {"feasible": False, "constraint": "quality", "reason": str(error)}
    every = [w for s in made.schedules for w in s.widths]
    allocation = made.allocation
    return {
        "feasible": True,
        "joules": allocation.joules,
        "compute_joules": float(allocation.compute_joules.sum()),
        "radio_joules": float(allocation.radio_joules.sum()),
        "quality": float(np.mean([s.quality for s in made.schedules])),
        "met": made.met(work),
        "steps": float(np.mean([s.steps for s in made.schedules])),
        "width": float(np.mean(every)),
        "seconds": float((allocation.compute_s + allocation.send_s).max()),
    }


def _times(made: dict[str, Callable[[], schemes.Served]]) -> float | None:
    """How many times the joules of schemes.OURS full width takes; None where one of them is infeasible."""
    try:
        return made["full width"]().allocation.joules / made[schemes.OURS]().allocation.joules
    except (Infeasible, OutOfReach):
        return None


def offloading_problem(seed: int, count: int) -> Problem:
    """Seeded users around one edge server; constants are feasible ones [R], the error by steps is DDPM's [P]."""
    if count < 1:
        raise BadRequest(f"{count} users; at least one is needed")
    random = np.random.default_rng(seed)
    law = fit_steps(STEPS.tolist(), RMSE_BY_STEPS.tolist())
    users = Users(
        cycles=np.full(count, STEP_MACS[-1] / 512) * random.uniform(0.7, 1.4, count),
        kappa=np.full(count, 1e-27),
        min_hz=np.full(count, 0.2e9),
        max_hz=random.uniform(0.8e9, 2e9, count),
        battery_joules=random.uniform(5.0, 40.0, count),
        deadline_s=random.uniform(4.0, 20.0, count),
        prompt_bits=np.full(count, 8e3),
        image_bits=np.full(count, 8.0 * 3 * 32 * 32),
        gain=macro_gain(random.uniform(*CELL_METRES, count), random.exponential(size=count).clip(0.1)),
        bandwidth_hz=np.full(count, 1e5),
        watts=np.full(count, 0.2),
        edge_watts=np.full(count, 1.0),
        noise_watts_per_hz=np.full(count, NOISE_WATTS_PER_HZ),
    )
    edge = Edge(step_s=1e-3, watts=40.0, time_s=0.4 * count)
    aims = Aims(quality=1.0, time=1.0, energy=0.8, error=law.values[0], seconds=20.0, joules=40.0)
    return Problem(users, edge, law, aims, int(law.steps[0]), int(law.steps[-1]))


def offloading(seed: int = 0, count: int = 20) -> dict[str, Any]:
    """Wang et al., reconstructed: every scheme on the same seeded users, dynamic programming beside them."""
    problem = offloading_problem(seed, count)
    made = {
        **schemes_offload.every(problem, seed, FIXED_STEPS),
        "dynamic programming": lambda: dynamic.solve(problem),
    }
    found = {name: _offloaded(scheme) for name, scheme in made.items()}
    return {
        "seed": seed,
        "users": count,
        "origin": "reconstruction of arXiv 2312.06203",
        "error_law": {
            "points": dict(zip(map(int, problem.law.steps), problem.law.values, strict=True)),
            "published": dict(zip(map(int, STEPS), map(float, RMSE_BY_STEPS), strict=True)),
        },
        "schemes": found,
    }


def _offloaded(scheme: Callable[[], Plan]) -> dict[str, Any]:
    try:
        made = scheme()
    except TooMuch as error:
        return {"feasible": False, "constraint": error.constraint, "reason": str(error)}
    return {
        "feasible": True,
        "utility": made.utility,
        "joules": float(made.joules.sum()),
        "quality": float(made.error.mean()),
        "seconds": float(made.seconds.mean()),
        "steps": float(made.steps.mean()),
        "at_edge": int(made.at_edge.sum()),
        "edge_s": float(made.compute_s[made.at_edge].sum()),
    }
