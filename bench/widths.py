"""One set of weights at all widths: quality, cost and seconds by width and steps; networks trained alone beside
it.

Trains experiments/flexible.toml by the sandwich rule on a local testbed of four agents; networks alone at 0.25,
0.5, 0.75 and 1 for the same rounds, steps and seeds; and, of the first seed, experiments/flexible-mixed.toml,
whose devices afford different widths. Then measures what recipes (width of each step, steps, sampler, bits) are
worth on the first flexible model, fits the laws that generation is planned with, and writes them: --laws FILE.
What is done already in the file of --json is kept, so a bench that was stopped goes on. Joules are of the
CPU-time model on this machine: estimated.
"""

import json
import shutil
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from provenance import Provenance, parser, publish
from widths_page import ROOT, page
from widths_recipes import COST, SAMPLER, Case, cases, quick_cases
from widths_train import FLEXIBLE, STATE, Trained, Wanted, every, train

import quantizer
from cli import local
from fleet.experiment import parse, read
from fleet.generation import Recipe
from fleet.quality import NoiseErrors, QualityPoint
from optimizer.fitting.laws import METRICS, quality_laws
from optimizer.generation.quality import as_numbers
from workloads import measuring, quality, sampling
from workloads.data import KINDS
from workloads.diffusion import Options
from workloads.unet import macs, parameters

NAME = "widths"
WIDTHS = (0.25, 0.5, 0.75, 1.0)
LEVELS, LEVEL_IMAGES = 10, 256
REFERENCE_STEPS = 100
GRID_STEPS = (3, 5, 10, 20)
OPTIONS: dict[str, Any] = dict(read(ROOT / "experiments" / "flexible.toml").workload.options)


class Kept:
    """What was measured so far, in `file` where there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        found = json.loads(file.read_text()) if file and file.exists() else {}
        numbers = found.get("numbers", found)
        self.trained: dict[str, Trained] = {k: Trained(**v) for k, v in numbers.get("trained", {}).items()}
        self.points: dict[str, dict[str, Any]] = numbers.get("points", {})
        self.noise: dict[str, Any] | None = numbers.get("noise")

    def as_numbers(self) -> dict[str, Any]:
        """All of it."""
        trained = {key: asdict(value) for key, value in self.trained.items()}
        return {"trained": trained, "points": self.points, "noise": self.noise}

    def save(self) -> None:
        """Now, in case the bench is stopped."""
        if self._file:
            self._file.write_text(json.dumps({"numbers": self.as_numbers()}, indent=1))


def main() -> int:
    line = parser(__doc__)
    line.add_argument("--seeds", type=int, default=2, help="trainings of each kind")
    line.add_argument("--models", type=Path, default=Path(f".wattbed-{NAME}-models"), help="folder of the models")
    line.add_argument("--laws", type=Path, metavar="FILE", help="write the quality laws, as `wattbed` reads them")
    options = line.parse_args()
    origin = Provenance.now(options.seed, ("torch", "diffusers", "torchmetrics", "numpy"))
    kept, seeds = Kept(options.json), [options.seed + 1 + k for k in range(1 if options.quick else options.seeds)]
    train_all(kept, seeds, options)
    first = Wanted(FLEXIBLE, 1.0, seeds[0]).key
    wanted = quick_cases(first) if options.quick else cases(seeds, WIDTHS)
    for case in wanted:
        measure(kept, case, options.seed)
    if kept.noise is None:
        found = measuring.noise_errors(
            OPTIONS, weights(kept, first), WIDTHS, levels=LEVELS, images=LEVEL_IMAGES, seed=options.seed
        )
        kept.noise = asdict(found)
        kept.save()
    laws = laws_of(kept, wanted, first)
    numbers = kept.as_numbers() | {"laws": {name: as_numbers(of) for name, of in laws.items()}, "cost": cost()}
    found = points(kept, wanted, first), points(kept, wanted, first, "between")
    publish(options, NAME, page(numbers, laws, seeds, WIDTHS, *found), numbers, origin)
    if options.laws:
        options.laws.write_text(json.dumps(as_numbers(laws["fid"]), indent=1) + "\n")
    if options.write:
        results = ROOT / "docs" / "results"
        (results / f"{NAME}-laws.json").write_text(json.dumps(as_numbers(laws["fid"]), indent=1) + "\n")
        (results / f"{NAME}.png").write_bytes(grid(kept, first, options.seed))
    return 0


def train_all(kept: Kept, seeds: list[int], options: Namespace) -> None:
    """What is not trained yet; in --quick a flexible network only, of a few steps."""
    todo = [w for w in every(seeds, WIDTHS) if w.key not in kept.trained]
    few = {"rounds": 1, "steps": 10} if options.quick else {}
    if options.quick:
        todo = [w for w in todo if w.how == FLEXIBLE]
    try:
        for wanted in todo:
            kept.trained[wanted.key] = train(wanted, options.models, **few)
            kept.save()
    finally:
        if todo:
            local.down(STATE, purge=True)
            shutil.rmtree(STATE, ignore_errors=True)


def measure(kept: Kept, case: Case, seed: int) -> None:
    """The point of `case`, unless it is there."""
    if case.key in kept.points or case.model not in kept.trained:
        return
    (found,) = measuring.points(
        OPTIONS,
        weights(kept, case.model),
        [case.recipe],
        images=case.images,
        seed=seed,
        reference_steps=REFERENCE_STEPS,
    )
    kept.points[case.key] = asdict(found)
    print(f"{case.key}: FID {found.fid:.2f}, {1000 * found.seconds:.1f} ms an image", flush=True)
    kept.save()


def weights(kept: Kept, model: str) -> dict[str, Any]:
    """Of a trained model."""
    return quantizer.decode(Path(kept.trained[model].model).read_bytes())


def points(kept: Kept, wanted: list[Case], model: str, purpose: str = "laws") -> list[QualityPoint]:
    """Those of one model that serve one purpose."""
    keys = [c.key for c in wanted if c.model == model and c.purpose == purpose and c.key in kept.points]
    return [point(kept.points[key]) for key in keys]


def point(values: dict[str, Any]) -> QualityPoint:
    """From what JSON keeps of it."""
    recipe = values["recipe"]
    return QualityPoint(**values | {"recipe": Recipe(tuple(recipe["widths"]), recipe["sampler"], recipe["bits"])})


def laws_of(kept: Kept, wanted: list[Case], first: str) -> dict[str, Any]:
    """The laws of FID, recall and average error of one model."""
    noise = NoiseErrors(**{k: tuples(v) for k, v in (kept.noise or {}).items()})
    source = f"bench/{NAME}.py, {first}"
    of = points(kept, wanted, first)
    return {m: quality_laws(of, SAMPLER, metric=m, noise=noise, source=source) for m in METRICS}


def tuples(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(tuples(v) for v in value) if isinstance(value, list | tuple) else value


def cost() -> list[dict[str, float]]:
    """MACs of a call as counted, and parameters of the network that holds no more, by width."""
    options = parse(Options, OPTIONS, where="workload.options")
    kind = KINDS[options.dataset]
    full, images = options.network(), (kind.channels, kind.side)
    whole, rows = macs(full, images, 1.0), []
    for width in COST:
        called = macs(full, images, width)
        held = parameters(options.network(width=width))
        rows.append({"width": width, "macs": called, "of_square": called / whole / width**2, "parameters": held})
    return rows


def grid(kept: Kept, model: str, seed: int) -> bytes:
    """PNG: a row for each width, with four images for each number of steps, all of the same noise."""
    of = sampling.load(OPTIONS, weights(kept, model))
    made = [sampling.sample(of, w, s, SAMPLER, 4, seed) for w in WIDTHS for s in GRID_STEPS]
    return quality.grid_png(np.concatenate(made), columns=4 * len(GRID_STEPS))


if __name__ == "__main__":
    sys.exit(main())
