"""How long a plan takes by the number of devices, and what brute force would take for the small problem.

Plans for 100 to 100,000 seeded devices, by each device's tolerance, from a shared error budget, and with a shared
band; and the four points of the precision problem beside an exhaustive search. One process, one thread of
NumPy, medians of several repeats.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

sys.path.append(sys.path.pop(0))  # this folder last: the file has the name of the package that it measures

from provenance import Provenance, Spread, parser, publish, table

from optimizer.ondemand import schemes
from optimizer.precision import exhaustive, solve
from optimizer.precision.problem import green
from optimizer.reproduce import on_demand_devices

COUNTS = (100, 1_000, 10_000, 100_000)
QUICK_COUNTS = (100, 1_000, 10_000)
HERTZ_PER_DEVICE = 2e6
DEADLINE_S = 400.0
"""Wide enough for every device of any draw to be feasible: the time of a refusal says nothing."""

TARGET_S = 1.0


def timed(work: Callable[[], object], repeats: int) -> Spread:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return Spread.of(seconds)


def planning(count: int, seed: int, repeats: int) -> dict[str, Spread]:
    devices, tolerated = on_demand_devices(count, seed, DEADLINE_S)
    band, budget = HERTZ_PER_DEVICE * count, float((devices.weight**2 * tolerated).sum())
    return {
        "tolerance": timed(lambda: schemes.by_tolerance(devices, tolerated, band), repeats),
        "shared error": timed(lambda: schemes.by_budget(devices, budget, band), repeats),
        "shared band": timed(
            lambda: schemes.by_tolerance(devices, tolerated, band, share_band=True), min(repeats, 3)
        ),
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    origin = Provenance.now(options.seed, ("numpy", "scipy"))
    repeats = 3 if options.quick else 7
    plans = {n: planning(n, options.seed, repeats) for n in (QUICK_COUNTS if options.quick else COUNTS)}
    kinds = tuple(next(iter(plans.values())))
    counts = np.array(list(plans))
    slopes = {
        kind: float(np.polyfit(np.log(counts[1:]), np.log([plans[n][kind].median for n in counts[1:]]), 1)[0])
        for kind in kinds
    }
    problem = green(0.1)
    fast = timed(
        lambda: (solve.energy_minimal(problem), solve.time_minimal(problem), solve.nash(problem)), repeats
    )

    def brute() -> None:
        every = exhaustive.table(problem)
        exhaustive.energy(every), exhaustive.time(every), exhaustive.nash(every, solve.disagreement(problem))

    slow = timed(brute, repeats)
    at_ten_thousand = max(plans[10_000][kind].median for kind in kinds)
    verdict = "held" if at_ten_thousand < TARGET_S else "NOT held"
    powers = ", ".join(f"{slope:.2f} ({kind})" for kind, slope in slopes.items())
    page = f"""# Planning time

Seconds for one plan, median (least to most, repeats), by the number of devices:

{table(("devices", *kinds), [(f"{n:,}", *(plans[n][k] for k in kinds)) for n in plans])}

Target: 10,000 devices in under {TARGET_S:g} s; the slowest kind takes {at_ten_thousand:.3g} s: {verdict}.
From 1,000 devices on the time grows with the power {powers} of the number of devices; 1 is linear.

The precision problem of the published table (30 x 50 x 32 choices and up to 32 precisions): energy, time and
Nash points in {fast} s by the fast solvers, {slow} s by trying all.
"""
    publish(options, "optimizer", page, {"plans": plans, "slopes": slopes, "fast": fast, "brute": slow}, origin)


if __name__ == "__main__":
    main()
