"""FID against the bits of an update: federated diffusion on digits, with and without error feedback.

Every run is experiments/demo.toml on one local testbed of four agents, changed in nothing but its seed, the bits
that all devices send, and error feedback. `--seeds` of each; what is done already in FILE of --json is kept, so a
measurement that was stopped goes on. Joules are of the CPU-time model on this machine: estimated.
"""

import asyncio
import io
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import matplotlib as mpl
from demo import AGENTS, ROOT
from matplotlib.figure import Figure
from provenance import Provenance, parser, publish, table

from cli import local, report
from cli.ledger_view import FID, all_devices, choices, counted, ends, totals
from cli.options import console
from cli.plots import STYLE
from cli.run import start, watch
from fleet.experiment import BITS, Experiment, read
from fleet.kinds import kinds

NAME = "bits"
STATE = Path(f".wattbed-{NAME}")
FULL = 32
ANCHOR = 4
WITHIN = 0.05


@dataclass(frozen=True)
class Ran:
    """One run: what was asked, and what it came to. Joules are sums over devices, by quality and scope."""

    bits: int
    feedback: bool
    seed: int
    first_fid: float
    last_fid: float
    joules: dict[str, float]
    wire_up_bytes: int
    seconds: float


def main() -> int:
    line = parser(__doc__)
    line.add_argument("--seeds", type=int, default=3)
    line.add_argument(
        "--curve-seeds", type=int, help="seeds of the bits that the claim does not rest on (--seeds)"
    )
    options = line.parse_args()
    seeds = range(options.seed, options.seed + options.seeds)
    curve_seeds = seeds if options.curve_seeds is None else seeds[: options.curve_seeds]
    origin = Provenance.now(options.seed, ("torch", "diffusers", "torchmetrics", "numpy"))
    wanted = QUICK if options.quick else every(seeds, curve_seeds)
    done = kept(options.json)
    try:
        for bits, feedback, seed in wanted:
            if (bits, feedback, seed) in done:
                continue
            done[bits, feedback, seed] = measure(bits, feedback, seed)
            if options.json:
                options.json.write_text(json.dumps({"numbers": [asdict(r) for r in done.values()]}, indent=1))
    finally:
        local.down(STATE, purge=True)
    runs = [done[key] for key in wanted]
    publish(options, NAME, page(runs), [asdict(r) for r in runs], origin)
    if options.write:
        (ROOT / "docs" / "results" / f"{NAME}.svg").write_text(plot(runs))
    return 0


Setting = tuple[int, bool, int]
QUICK: list[Setting] = [(FULL, True, 0), (ANCHOR, True, 0)]


def every(seeds: range, curve_seeds: range) -> list[Setting]:
    """(bits, feedback, seed): what the claim rests on first, then the curve."""
    asked = ((FULL, True), (ANCHOR, True), (ANCHOR, False))
    claim = [(bits, feedback, s) for s in seeds for bits, feedback in asked]
    curve = [(bits, True, s) for s in curve_seeds for bits in BITS if bits not in (FULL, ANCHOR)]
    return claim + curve


def kept(file: Path | None) -> dict[Setting, Ran]:
    """What an earlier call measured."""
    if file is None or not file.exists():
        return {}
    runs = [Ran(**values) for values in json.loads(file.read_text())["numbers"]]
    return {(r.bits, r.feedback, r.seed): r for r in runs}


def measure(bits: int, feedback: bool, seed: int) -> Ran:
    """One run on the testbed, which is brought up where it is not there yet."""
    testbed, _ = local.up(STATE, agents=AGENTS, kinds=list(kinds())[:AGENTS], data=None, port=0, http_port=0)
    run = start(changed(bits, feedback, seed), testbed.address)
    console().print(f"{bits} bits, {'with' if feedback else 'without'} feedback, seed {seed}: {run}")
    if code := watch(run, testbed.address, as_json=False):
        raise SystemExit(code)
    found, _ = asyncio.run(report.fetch(testbed.address, run, with_grids=False))
    fid = ends(found, FID)
    if fid is None:
        raise RuntimeError(f"{run} has fewer than two models with a FID")
    devices = list(all_devices(found))
    spent = {f"{t.quality}, {t.scope}": t.joules for t in totals(devices, choices(found)) if t.joules is not None}
    took_s = (found.run.ended_at_s or 0) - found.run.started_at_s
    return Ran(bits, feedback, seed, *fid, spent, counted(devices).wire_up_bytes, took_s)


def changed(bits: int, feedback: bool, seed: int) -> Experiment:
    """The demo with other bits, feedback and seed, evaluated at its ends only."""
    values = read(ROOT / "experiments" / "demo.toml").model_dump(mode="json")
    values["seed"] = seed
    values["policy"]["options"]["bits_up"] = [bits]
    values["quantizer"]["error_feedback"] = feedback
    values["evaluate"]["every"] = values["rounds"]
    return Experiment.model_validate(values)


def page(runs: list[Ran]) -> str:
    """The result as Markdown."""
    groups: dict[tuple[int, bool], list[Ran]] = {}
    for run in runs:
        groups.setdefault((run.bits, run.feedback), []).append(run)
    rows = []
    whole = {r.seed: r.last_fid for r in groups[FULL, True]}
    for (bits, feedback), group in sorted(groups.items()):
        fids = [r.last_fid for r in group]
        spent = {k: mean(r.joules.get(k, 0.0) for r in group) for k in group[0].joules}
        rows.append(
            (
                bits,
                "yes" if feedback else "no",
                f"{mean(fids):.2f} ({min(fids):.2f} to {max(fids):.2f}, n={len(fids)})",
                f"{mean(fids) / mean(whole[r.seed] for r in group):.3f}",
                "; ".join(f"{joules:,.0f} {what}" for what, joules in sorted(spent.items())),
                f"{mean(r.wire_up_bytes for r in group):,.0f}",
                f"{mean(r.seconds for r in group):,.0f} ({min(r.seconds for r in group):,.0f} to "
                f"{max(r.seconds for r in group):,.0f})",
            )
        )
    return f"""# FID against bits

`experiments/demo.toml` at other bits and seeds: {AGENTS} agents on loopback, digits, the same rounds for all.
FID after the last round as mean (least to most, seeds), and over that of float32 with the same seeds, by which
rows of unlike seeds compare; bytes up on the wire of all devices, joules summed over devices of one scope.

![FID against bits]({NAME}.svg)

{table(["bits", "error feedback", "FID", "of float32's", "joules", "bytes up", "seconds"], rows)}

Joules are of processor time and of idle time: where seconds differ that much, something else used the machine,
and joules of one row do not compare with another's. FID and bytes do not depend on it.

{verdict(groups)}

The FID is over the features of wattbed's own classifier of digits, not to be compared with Inception FID."""


def verdict(groups: dict[tuple[int, bool], list[Ran]]) -> str:
    """Whether 4 bits with feedback are within 5 % of full bits."""
    full, four = groups.get((FULL, True)), groups.get((ANCHOR, True))
    if not full or not four:
        return ""
    whole = mean(r.last_fid for r in full)
    ratio = mean(r.last_fid for r in four) / whole
    without = groups.get((ANCHOR, False))
    said = f"; without feedback {mean(r.last_fid for r in without) / whole:.3f}" if without else ""
    held = "held" if ratio <= 1 + WITHIN else "NOT held"
    return (
        f"Mean FID at {ANCHOR} bits with feedback over that of float32: {ratio:.3f}{said}. "
        f"Target: at most {1 + WITHIN}: {held}."
    )


def plot(runs: list[Ran]) -> str:
    """The curve as SVG: every run a point, the means over the seeds that all bits have a line."""
    seeds = set.intersection(*({r.seed for r in runs if r.bits == b} for b in {r.bits for r in runs}))
    with mpl.rc_context({**STYLE, "svg.hashsalt": NAME}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot(xlabel="bits of an update", ylabel="FID after the last round")
        axes.set_xscale("log", base=2)
        for feedback, label in ((True, "with error feedback"), (False, "without")):
            of = [r for r in runs if r.feedback is feedback]
            alike = [r for r in of if r.seed in seeds]
            bits = sorted({r.bits for r in alike})
            means = [mean(r.last_fid for r in alike if r.bits == b) for b in bits]
            (line,) = axes.plot(bits, means, label=label)
            axes.plot([r.bits for r in of], [r.last_fid for r in of], ".", color=line.get_color())
        axes.legend()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
