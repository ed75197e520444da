"""The published tables computed anew: plain data, which the command prints, plots and writes."""

from dataclasses import asdict
from typing import Any

import numpy as np

from fleet.errors import BadRequest
from optimizer.models.presets import GREEN_JOULES_PER_BIT
from optimizer.models.quantisation import min_max_error
from optimizer.models.radio import macro_gain
from optimizer.ondemand import schemes
from optimizer.ondemand.problem import Devices, Infeasible, Plan
from optimizer.precision import exhaustive, solve
from optimizer.precision.problem import green

PUBLISHED_SAVINGS = {
    "conference, up to": 0.53,
    "journal abstract, up to (first)": 0.52,
    "journal abstract, up to (second)": 0.70,
}
"""[P] arXiv 2111.07911 and 2207.09387: energy saved against 32-bit federated learning."""

PUBLISHED_NASH = {
    0.001: {
        "I": 1.19394216,
        "K": 4.27747329,
        "m": 11.68601205,
        "n": 22.75720617,
        "rounds": 21361.984,
        "joules": 3594.2342,
    }
}
"""[P] the authors' code: Nash points over real numbers, by eps."""


def green_quantized_fl(
    eps: float = 0.1,
    *,
    joules_per_bit: float = GREEN_JOULES_PER_BIT,
    variance: float | None = None,
    as_published: bool = False,
    boundary: int = 24,
) -> dict[str, Any]:
    """Kim et al.: the points of the fast solvers, of brute force, the 32-bit baseline and what was published.

    `saving` is the Nash point's against the same I and K at 32 bits. `boundary` points of the Pareto front.
    """
    problem = green(eps, joules_per_bit=joules_per_bit, variance=variance, as_published=as_published)
    table = exhaustive.table(problem)
    nash = solve.nash(problem)
    baseline = solve.at_full_bits(problem, nash)
    return {
        "eps": eps,
        "joules_per_bit": joules_per_bit,
        "variance": problem.learning.variance,
        "as_published": as_published,
        "points": {
            "energy": asdict(solve.energy_minimal(problem)),
            "time": asdict(solve.time_minimal(problem)),
            "nash": asdict(nash),
            "sum": asdict(solve.total_minimal(problem)),
        },
        "exhaustive": {
            "energy": asdict(exhaustive.energy(table)),
            "nash": asdict(exhaustive.nash(table, solve.disagreement(problem))),
            "sum": asdict(exhaustive.total(table)),
        },
        "relaxed_nash": asdict(solve.relaxed_nash(problem)),
        "one_precision": asdict(solve.one_precision(problem, int(nash.I), int(nash.K))),
        "pareto": [asdict(p) for p in solve.pareto(problem, boundary)],
        "baseline_32bit": asdict(baseline),
        "saving": 1 - nash.joules / baseline.joules,
        "published": {"savings": PUBLISHED_SAVINGS, "nash": PUBLISHED_NASH.get(eps)},
    }


CELL_METRES = (50.0, 400.0)
BAND_HZ = 20e6
NOISE_WATTS_PER_HZ = 10 ** (-174 / 10) / 1000
CYCLES = 25 * 128 * 3 * 6.222e9 / 512
"""25 steps of 128 images, forward and backward, through a U-Net of 6.222 GMAC at 512 MAC per cycle."""
PARAMETERS = 35.746e6
TOLERATED_BITS = (4, 6, 8, 10)
"""The demands of the devices, in turn: the error a device tolerates is that of these bits at the unit range."""


def on_demand_devices(count: int, seed: int, deadline_s: float = 150.0) -> tuple[Devices, np.ndarray]:
    """Seeded devices of the feasible parameters of MODELS.md 2 [R], and the error that each tolerates."""
    if count < 1:
        raise BadRequest(f"{count} devices; a fleet has at least one")
    random = np.random.default_rng(seed)
    gain = macro_gain(random.uniform(*CELL_METRES, count), random.exponential(size=count).clip(0.1))
    devices = Devices(
        cycles=np.full(count, CYCLES),
        kappa=np.full(count, 1e-28),
        min_hz=np.full(count, 0.2e9),
        max_hz=np.full(count, 2e9),
        gain=gain,
        max_watts=np.full(count, 0.2),
        noise_watts_per_hz=np.full(count, NOISE_WATTS_PER_HZ),
        values=np.full(count, PARAMETERS),
        range=random.uniform(0.5, 1.0, count),
        weight=np.full(count, 1 / count),
        overhead_bits=np.full(count, 8e4),
        deadline_s=np.full(count, deadline_s),
        energy_joules=np.full(count, np.inf),
    )
    bits = np.resize(np.asarray(TOLERATED_BITS, float), count)
    return devices, min_max_error(PARAMETERS, 1.0, bits) * (1 + 1e-9)


def on_demand_diffusion(seed: int = 0, count: int = 10) -> dict[str, Any]:
    """Lai et al., reconstructed: every scheme on the same seeded devices."""
    devices, tolerated = on_demand_devices(count, seed)
    budget = float((devices.weight**2 * tolerated).sum())
    found: dict[str, Any] = {}
    for bits in (32, 16, 8, 6, 4):
        name = "unquantised" if bits == 32 else f"fixed {bits}"
        found[name] = _scheme(lambda bits=bits: schemes.fixed(devices, bits, BAND_HZ), devices, tolerated)
        found[f"{name}, shared band"] = _scheme(
            lambda bits=bits: schemes.fixed(devices, bits, BAND_HZ, share_band=True), devices, tolerated
        )
    found["on-demand"] = _scheme(lambda: schemes.by_tolerance(devices, tolerated, BAND_HZ), devices, tolerated)
    found["on-demand, shared band"] = _scheme(
        lambda: schemes.by_tolerance(devices, tolerated, BAND_HZ, share_band=True), devices, tolerated
    )
    found["on-demand, shared error"] = _scheme(
        lambda: schemes.by_budget(devices, budget, BAND_HZ), devices, tolerated
    )
    return {"seed": seed, "devices": count, "origin": "reconstruction of arXiv 2403.04430", "schemes": found}


def _scheme(plan: Any, devices: Devices, tolerated: np.ndarray) -> dict[str, Any]:
    try:
        made: Plan = plan()
    except Infeasible as error:
        return {"feasible": False, "constraint": error.constraint, "reason": str(error)}
    errors = min_max_error(devices.values, devices.range, made.bits)
    return {
        "feasible": True,
        **schemes.totals(made),
        "bits": [int(b) for b in made.bits],
        "seconds": float((made.transmit_s + devices.cycles / made.frequency_hz).max()),
        "every_demand_met": bool((errors <= tolerated).all()),
        "mean_error": float((devices.weight**2 * errors).sum()),
    }
