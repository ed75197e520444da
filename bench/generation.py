"""How long a plan for many generation requests takes, and how far the solvers are from dynamic programming.

Plans for 100 to 5,000 seeded requests on 50 devices, with batching and without; then random instances of one
request's schedule and of offloading, each solved by the fast method and by its judge; and what the
schemes of both papers come to. One process; joules are those of the model.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

sys.path.append(sys.path.pop(0))  # this folder last: `optimizer.py` here has the name of the package

from provenance import Provenance, Spread, parser, publish, table

from optimizer.generation import dynamic, schedule
from optimizer.generation.serving import Offer, Place, Plan, Request, Server, plan
from optimizer.offload import dynamic as offload_dynamic
from optimizer.offload import solve as offload_solve
from optimizer.offload.problem import Infeasible
from optimizer.reproduce_service import PRICES, WIDTHS, assumed_laws, flexgen, offloading, offloading_problem

COUNTS = (100, 300, 1_000, 3_000, 5_000)
QUICK_COUNTS = (100, 300, 1_000)
SERVERS = 50
STEPS = (10, 15, 20, 30, 50)
SCHEDULE_STEPS = (10, 15, 20, 30, 100)
TARGET_S = 1.0
NEAR = 0.005


def servers(seed: int) -> list[Server]:
    """One in ten is an edge server, five times as fast at four times the watts."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(SERVERS):
        edge = at % 10 == 0
        pace = random.uniform(0.5, 2) * (0.2 if edge else 1.0)
        watts = random.uniform(3, 10) * (4 if edge else 1)
        each = tuple(0.05 * pace * (0.1 + 0.9 * w**2) for w in WIDTHS)
        fixed = (0.02 * pace,) * len(WIDTHS)
        joules = tuple(watts * s for s in fixed), tuple(watts * s for s in each)
        offer = Offer("m", WIDTHS, fixed, each, *joules, start_s=0.05, start_joules=0.05 * watts)
        place = Place.EDGE if edge else Place.DEVICE
        made.append(Server(f"s{at}", place, (offer,), 0.0, send_s=0.01, send_joules=0.05))
    return made


def requests(count: int, seed: int) -> list[Request]:
    random = np.random.default_rng(seed)
    return [
        Request(
            *(f"r{at}", "m", int(random.integers(1, 5)), float(random.uniform(6, 25))),
            *(float(random.uniform(1, 60)), float(at)),
        )
        for at in range(count)
    ]


def timed(work: Callable[[], Plan], repeats: int) -> tuple[Spread, Spread, Plan]:
    """Seconds by the clock, seconds of the processor, and the last plan."""
    wall, cpu = [], []
    for _ in range(repeats):
        began = time.perf_counter(), time.process_time()
        made = work()
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    return Spread.of(wall), Spread.of(cpu), made


def schedules(count: int, seed: int) -> dict[str, object]:
    """Random qualities and prices: how much more than the judge's the multiplier method costs."""
    random, laws, gaps, fast, slow = np.random.default_rng(seed), assumed_laws(), [], [], []
    for _ in range(count):
        quality = float(random.uniform(4.2, 25))
        price = replace(PRICES, costs=tuple(float(c + random.uniform(0, 0.2)) for c in PRICES.costs))
        schedule.frontier.cache_clear()
        began = time.process_time()
        found = schedule.cheapest(laws, quality, SCHEDULE_STEPS, {32: price})
        between = time.process_time()
        judged = dynamic.cheapest(laws, quality, SCHEDULE_STEPS, {32: price})
        fast.append(between - began)
        slow.append(time.process_time() - between)
        gaps.append(found.cost / judged - 1)
    return {"gaps": Spread.of(gaps), "fast_s": Spread.of(fast), "judge_s": Spread.of(slow)}


def offloads(count: int, seed: int) -> dict[str, object]:
    """Random users: how much less than the judge's the price method's utility is, of the judge's."""
    gaps, fast, slow = [], [], []
    for at in range(count):
        problem = offloading_problem(seed + at, 10)
        problem = replace(problem, edge=replace(problem.edge, time_s=problem.edge.time_s * (0.2 + at % 5 / 4)))
        began = time.process_time()
        try:
            found = offload_solve.solve(problem)
        except Infeasible:
            continue
        between = time.process_time()
        judged = offload_dynamic.solve(problem)
        fast.append(between - began)
        slow.append(time.process_time() - between)
        gaps.append((judged.utility - found.utility) / abs(judged.utility))
    return {"gaps": Spread.of(gaps), "fast_s": Spread.of(fast), "judge_s": Spread.of(slow)}


def verdict(held: bool) -> str:
    return "held" if held else "NOT held"


def main() -> None:
    options = parser(__doc__).parse_args()
    origin = Provenance.now(options.seed, ("numpy", "scipy"))
    repeats, instances = (3, 20) if options.quick else (7, 200)
    fleet, laws = servers(options.seed), {"m": assumed_laws()}
    rows, plans = [], {}
    for count in QUICK_COUNTS if options.quick else COUNTS:
        asked = requests(count, options.seed)
        for batching in (True, False):
            wall, cpu, made = timed(
                lambda asked=asked, batching=batching: plan(
                    asked, fleet, laws, now_s=0.0, steps=STEPS, batching=batching
                ),
                repeats,
            )
            refused = f"{len(made.refusals):,}"
            name = "yes" if batching else "no"
            rows.append((f"{count:,}", name, wall, cpu, f"{len(made.batches):,}", f"{made.joules:.4g}", refused))
            plans[f"{count}, batching {name}"] = {"wall_s": wall, "cpu_s": cpu, "joules": made.joules}
    counts = QUICK_COUNTS if options.quick else COUNTS
    cpu = [plans[f"{n}, batching yes"]["cpu_s"].median for n in counts]
    power = float(np.polyfit(np.log(counts), np.log(cpu), 1)[0])
    wall = plans["1000, batching yes"]["wall_s"].median
    one, users = schedules(instances, options.seed), offloads(instances // 4, options.seed)
    judged = [
        (name, found["gaps"], found["fast_s"], found["judge_s"])
        for name, found in (("widths, steps of one request", one), ("offloading, 10 users", users))
    ]
    worst = max(one["gaps"].high, users["gaps"].high)
    papers, users_paper = flexgen(options.seed), offloading(options.seed)
    schemes = [
        (law, name, *(f"{s[k]:.4g}" for k in ("joules", "quality")), f"{s['met']} of {papers['requests']}")
        for law, found in papers["schemes"].items()
        for name, s in found.items()
        if s["feasible"]
    ]
    saving = ", ".join(f"{times:.2f} ({law})" for law, times in papers["equal_quality"].items() if times)
    offloaded = [
        (name, *(f"{s[k]:.4g}" for k in ("utility", "joules", "quality", "steps")), s["at_edge"])
        for name, s in users_paper["schemes"].items()
        if s["feasible"]
    ]
    page = f"""# Planning generation

Where and how requests are served: {SERVERS} devices, menus of {STEPS} steps and widths {WIDTHS}.
Median (least to most, repeats), seconds by the clock and of the processor.

{
        table(
            ("requests", "batching", "seconds", "CPU seconds", "batches", "joules (estimated)", "refused"),
            rows,
        )
    }

Target: 1,000 requests on {SERVERS} devices in under {TARGET_S:g} s; it takes {wall:.3g} s: {
        verdict(wall < TARGET_S)
    }.
CPU time grows with the power {power:.2f} of the number of requests; 1 is linear.

## Against dynamic programming

How far the fast solvers are from the optimum, as a part of it, and CPU seconds of both.

{table(("problem", "distance", "fast (s)", "judge (s)"), judged)}

Target: within {NEAR:.1%}; the worst is {max(worst, 0.0):.2%}: {verdict(worst <= NEAR)}.

## FlexGen, reconstructed

`wattbed reproduce flexgen`, seed {options.seed}; joules are the model's. Quality is the mean FID by these laws: {
        papers["laws"]
    }.

{table(("energy law", "scheme", "joules", "quality", "demands met"), schemes)}

Times less energy than full width at equal quality (FID within 2 %): {saving}. Published: up to {
        papers["published"]["saving_up_to"]:g}.

## Offloading, reconstructed

`wattbed reproduce offloading`, seed {options.seed}; joules are the model's, of users and edge.

{table(("scheme", "utility", "joules", "mean error", "mean steps", "at the edge"), offloaded)}
"""
    numbers = {
        "plans": plans,
        "power": power,
        "schedules": one,
        "offloads": users,
        "flexgen": papers,
        "offloading": users_paper,
    }
    publish(options, "generation", page, numbers, origin)


if __name__ == "__main__":
    main()
