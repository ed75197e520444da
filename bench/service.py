"""Serving on demand: joules per image, latency, misses and FID of wattbed's plans beside eleven other schemes.

One model (experiments/flexible-large.toml) is trained on a local testbed of three devices and an edge server, its
quality measured, and then the same requests (Poisson, and bursts) are put to it once per scheme. Model, laws and
rows that are done are kept in --json FILE and beside it, so a bench that was stopped goes on. Joules are of the
CPU-time model.
"""

import asyncio
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from demo import ROOT
from provenance import Provenance, parser, publish, table
from service_load import Load, Outcome, Scheme, ask_all, schemes, summed_up, warm_up

from cli import local, requests
from cli.client import Operator
from cli.options import console
from cli.quality import STEPS, WIDTHS, Measuring, measured
from cli.run import start, watch
from fleet.experiment import Experiment, read
from fleet.generation import Demand, Recipe
from optimizer.generation.quality import QualityLaws, from_numbers

NAME = "service"
STATE = Path(f".wattbed-{NAME}")
KINDS = ["raspberry-pi-5", "mini-pc-n100", "raspberry-pi-5", "gpu-workstation"]
"""All estimated at the wall, so that their joules may be added up; the last is an edge server."""

ORIGINS = ["agent-1", "agent-2", "agent-3"]
SAMPLER = "dpm++"
WIDTH_ASKED = 0.5
LEAST_SAVING = 2.0

FULL_LOAD = Load(per_s=0.8, poisson_s=40.0, burst=8, every_s=8.0, bursts=2)
QUICK_LOAD = Load(per_s=1.0, poisson_s=5.0, burst=4, every_s=2.0, bursts=1)
QUICK_SCHEMES = ("full width", "width 0.5", "wattbed")


def main() -> int:
    line = parser(__doc__)
    line.add_argument("--state", type=Path, default=STATE, help="where the testbed and its model are kept")
    line.add_argument("--fresh", action="store_true", help="train again")
    options = line.parse_args()
    origin = Provenance.now(options.seed, ("torch", "diffusers", "torchmetrics", "numpy"))
    if options.fresh:
        shutil.rmtree(options.state, ignore_errors=True)
    done = kept(options.json)
    testbed, _ = local.up(options.state, agents=len(KINDS), kinds=KINDS, data=None, port=0, http_port=0)
    try:
        run = trained(testbed.address, options.quick)
        laws = asyncio.run(judged(testbed.address, run, options.quick))
        steps = int(max(laws.steps.steps))
        full = Recipe((1.0,) * steps, SAMPLER)
        demand = Demand("fid", round(float(laws.promised(laws.quality(WIDTH_ASKED, steps // 2))), 2))
        measured_from = int(min(laws.steps.steps))
        fewer = next(s for s in range(measured_from, steps + 1) if laws.quality(1.0, s) <= demand.at_most)
        load = QUICK_LOAD if options.quick else FULL_LOAD
        arrivals = load.arrivals(ORIGINS, options.seed)
        asyncio.run(warm_up(testbed.address, run, [f"agent-{n + 1}" for n in range(len(KINDS))], steps, SAMPLER))
        wanted = [s for s in schemes(full, fewer, demand) if not options.quick or s.name in QUICK_SCHEMES]
        for scheme in wanted:
            if scheme.name not in done:
                done[scheme.name] = measure(testbed.address, run, scheme, arrivals, options.seed)
                keep(options.json, done)
    finally:
        local.down(options.state, purge=False)
    outcomes = [done[s.name] for s in wanted]
    publish(options, NAME, page(outcomes, demand, full, load, laws), [asdict(o) for o in outcomes], origin)
    return 0


def kept(file: Path | None) -> dict[str, Outcome]:
    """The rows that an earlier call measured."""
    if file is None or not file.exists():
        return {}
    return {values["scheme"]: Outcome(**values) for values in json.loads(file.read_text())["numbers"]}


def keep(file: Path | None, done: dict[str, Outcome]) -> None:
    """Writes the rows that are done."""
    if file is not None:
        file.write_text(json.dumps({"numbers": [asdict(o) for o in done.values()]}, indent=1))


def trained(address: str, quick: bool) -> str:
    """The run whose model is served: the one that is there, or a new one."""
    experiment = smaller() if quick else read(ROOT / "experiments" / "flexible-large.toml")

    async def there() -> str | None:
        async with Operator(address) as operator:
            runs = await operator.runs()
            return next((r.run for r in runs if (r.experiment, r.phase) == (experiment.name, "completed")), None)

    if found := asyncio.run(there()):
        return found
    run = start(experiment, address)
    console().print(f"training {run}")
    if code := watch(run, address, as_json=False):
        raise SystemExit(code)
    return run


def smaller() -> Experiment:
    """An experiment that takes seconds."""
    values: dict[str, Any] = read(ROOT / "experiments" / "flexible.toml").model_dump(mode="json")
    values["name"], values["rounds"] = "flexible-quick", 1
    values["policy"]["options"]["train_steps"] = 30
    values["evaluate"]["every"] = 1
    values["workload"]["options"]["evaluation"] |= {"samples": 64, "held_out": 64, "reference": 256}
    return Experiment.model_validate(values)


async def judged(address: str, run: str, quick: bool) -> QualityLaws:
    """The laws of the model's FID: those that are kept, or measured now."""
    how = Measuring(64 if quick else 512, SAMPLER, (0.25, 0.5, 1.0), (4, 8, 16))
    if not quick:
        how = replace(how, widths=WIDTHS, steps=STEPS)
    for _ in range(2):
        async with Operator(address) as operator:
            _, known = await requests.quality(operator, run)
        laws = [from_numbers(json.loads(text)) for text in known]
        if found := next((x for x in laws if (x.metric, x.sampler) == ("fid", SAMPLER)), None):
            return found
        console().print(f"measuring what the model of {run} is worth, {how.images} images per recipe")
        await measured(address, run, how)
    raise RuntimeError(f"no laws of FID for {run}")


def measure(address: str, run: str, scheme: Scheme, arrivals: list[Any], seed: int) -> Outcome:
    """One scheme, and the FID of all that it delivered."""
    reports, images = asyncio.run(ask_all(address, run, scheme, arrivals, seed))
    fid, count = fid_of(images)
    outcome = summed_up(scheme, reports, fid, count)
    console().print(
        f"{scheme.name}: {outcome.per_image:.3f} J an image, {outcome.served} served, {outcome.refused} refused, "
        f"{outcome.misses} missed"
    )
    return outcome


def fid_of(images: list[np.ndarray]) -> tuple[float | None, int]:
    """FID of the images of all requests against the training digits, as the laws were measured."""
    from workloads import data, features, quality

    if sum(map(len, images)) < 16:
        return None, 0
    real = data.read("digits", None)
    made = np.concatenate(images)
    extractor = features.classifier(real)
    return quality.fid(extractor(real.train.images[:1438]), extractor(made)), len(made)


def page(outcomes: list[Outcome], demand: Demand, full: Recipe, load: Load, laws: QualityLaws) -> str:
    """The result as Markdown."""
    rows = [
        (
            o.scheme,
            o.how,
            f"{o.per_image:.3f}",
            "; ".join(sorted(o.joules)) or "nothing measured",
            "" if o.p50_s is None else f"{o.p50_s:.2f} / {o.p99_s:.2f}",
            f"{o.served} / {o.refused} / {o.misses}",
            "" if o.fid is None else f"{o.fid:.1f} (n={o.fid_images})",
            f"{o.mean_square_width:.2f} x {o.steps:.1f}",
            f"{o.requests_per_batch:.1f}",
            f"{o.predicted_joules / o.total_joules:.2f}" if o.total_joules else "",
        )
        for o in outcomes
    ]
    head = [
        "scheme",
        "where",
        "joules per image",
        "kind of joules",
        "latency p50 / p99, s",
        "served / refused / missed",
        "FID delivered",
        "mean w^2 x steps",
        "requests per batch",
        "predicted over spent",
    ]
    return f"""# Images on demand: schemes side by side

The same {outcomes[0].requests} requests for every scheme, in an open loop: Poisson, {load.per_s:g} a second for
{load.poisson_s:g} s, then {load.bursts} bursts of {load.burst} at once; 4, 8 or 16 images each, within 3, 6 or 12
s, from three devices, with one edge server beside them. Asked for: {demand.metric}<={demand.at_most:g}, which is
what may be promised of width {WIDTH_ASKED:g} in {full.steps // 2} steps of {full.sampler}: what the laws give it,
and {laws.margin:.1%} of margin (full width in {full.steps} steps: {laws.best:.4g}).
All processes share one machine, so devices differ in watts, not in speed. Joules are those of every phase of every
request, lost and shared batches included, divided by the images that were delivered.

{table(head, rows)}

{verdict(outcomes, demand)}

FID is over the features of wattbed's own classifier of digits, and falls with the number of images: compare it
among
rows of about equal n only."""


def verdict(outcomes: list[Outcome], demand: Demand) -> str:
    """Whether the targets are met: half the joules of full width, no miss, and nothing as good that is cheaper."""
    by_name = {o.scheme: o for o in outcomes}
    ours, full = by_name["wattbed"], by_name["full width"]
    saving = full.per_image / ours.per_image
    rivals = [
        o
        for o in outcomes
        if not o.scheme.startswith("wattbed") and o.misses == 0 and o.refused <= ours.refused and _meets(o, demand)
    ]
    cheaper = [o.scheme for o in rivals if o.per_image < ours.per_image]
    names = ", ".join(o.scheme for o in rivals) or "none"
    return (
        f"Full width takes {saving:.2f} times the joules of wattbed's plans; target {LEAST_SAVING:g}: "
        f"{_held(saving >= LEAST_SAVING)}. Deadlines missed of those admitted: {ours.misses}; target 0: "
        f"{_held(ours.misses == 0)}. FID delivered {_number(ours.fid)}, asked {demand.at_most:g}: "
        f"{_held(_meets(ours, demand))}. Schemes that meet the same quality and deadlines and serve as many: "
        f"{names}; cheaper than wattbed: {', '.join(cheaper) or 'none'}: {_held(not cheaper)}."
    )


def _meets(outcome: Outcome, demand: Demand) -> bool:
    return outcome.fid is not None and outcome.fid <= demand.at_most


def _held(held: bool) -> str:
    return "held" if held else "NOT held"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
