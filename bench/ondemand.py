"""On-demand bits against fixed ones, and chosen precision against 32 bits, on four unlike devices.

experiments/ondemand.toml (diffusion of Fashion-MNIST) with bits by demand and with fp32, 16, 8, 6 and 4 bits, and
experiments/ondemand-classifier.toml with the precision policy and with fixed ones: `--seeds` of each, one seed
after the other, so that what else the machine does falls on all schemes. What is done already in FILE of --json is
kept: a measurement that was stopped goes on. Joules are estimated, see the page.
"""

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ondemand_page import page
from ondemand_runs import CHOSEN, FIXED, FULL, Ran, carry_out, experiment, warm_up
from ondemand_testbed import testbed
from provenance import Provenance, parser, publish

NAME = "ondemand"
STATE = Path(f".wattbed-{NAME}")
QUICK = {"diffusion": (FULL, "4"), "classifier": (FULL,)}


def main() -> int:
    line = parser(__doc__)
    line.add_argument("--seeds", type=int, default=3)
    line.add_argument("--only", choices=tuple(CHOSEN), help="one workload, not both")
    line.add_argument(
        "--page", action="store_true", help="the page of what is done in FILE of --json; nothing is run"
    )
    options = line.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    origin = Provenance.now(options.seed, ("torch", "diffusers", "torchmetrics", "numpy", "scipy"))
    workloads = [options.only] if options.only else list(CHOSEN)
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))
    done = kept(options.json)
    for workload in () if options.page else workloads:
        for seed in seeds:
            for ran in measure(workload, seed, options.quick, done):
                done[ran.key] = ran
                if options.json:
                    options.json.write_text(json.dumps({"numbers": [asdict(r) for r in done.values()]}, indent=1))
    runs = [r for r in done.values() if r.workload in workloads or not options.only]
    text = page(runs)
    if options.page:
        text += "\n\nWritten later than the runs were measured: date and load below are those of the page."
    publish(options, NAME, text, [asdict(r) for r in done.values()], origin)
    return 0


def measure(workload: str, seed: int, quick: bool, done: dict[tuple[str, str, int], Ran]) -> Iterator[Ran]:
    """The runs of one seed that are not done yet, in a testbed of their own."""
    fixed = QUICK[workload] if quick else FIXED[workload]
    wanted = [s for s in (CHOSEN[workload], *fixed) if (workload, s, seed) not in done]
    if not wanted:
        return
    with testbed(STATE) as bed:
        carry_out(bed, warm_up(workload), workload, "warm-up")
        like = done.get((workload, CHOSEN[workload], seed))
        for scheme in wanted:
            ran = carry_out(bed, experiment(workload, scheme, seed, quick, like), workload, scheme)
            if scheme == CHOSEN[workload]:
                like = ran
            yield ran


def kept(file: Path | None) -> dict[tuple[str, str, int], Ran]:
    """What an earlier call measured."""
    if file is None or not file.exists():
        return {}
    runs = [Ran(**values) for values in json.loads(file.read_text())["numbers"]]
    return {r.key: r for r in runs}


if __name__ == "__main__":
    sys.exit(main())
