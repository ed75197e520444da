"""`wattbed quality`: what a run's model is worth by width, steps and bits, measured here and kept with the run."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options, requests
from cli.client import Operator
from cli.options import Coordinator, Data, Json, State, address, console, say_json
from fleet.errors import BadRequest
from fleet.experiment import Experiment
from fleet.generation import Recipe

WIDTHS = (0.25, 0.5, 0.75, 1.0)
"""That the sandwich trains: between them an image is worse than at the next narrower one."""

STEPS = (1, 2, 4, 6, 8, 10, 14, 20)
"""From one on: plans have no fewer steps than were measured, and whoever fixed fewer by hand would be cheaper."""

BITS = (4, 6, 8)
REFERENCE_STEPS = 50
LEVELS = 10


def quality(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`: its last model is meant.")],
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Make images at many widths and steps here, and keep what they are worth."),
    ] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="FILE", help="Keep laws from a JSON file.")
    ] = None,
    images: Annotated[
        int, typer.Option("--images", min=64, help="To measure with, at each width and step.")
    ] = 512,
    sampler: Annotated[str, typer.Option("--sampler", help="ddim or dpm++: that the laws are of.")] = "dpm++",
    data: Data = None,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show what a run's model is worth by width, steps and bits; `wattbed generate --quality` chooses by it."""
    if measure and keep:
        raise BadRequest("--measure or --keep, not both")
    at = address(coordinator, state)
    if measure:
        how = Measuring(images, sampler, WIDTHS, STEPS, data)
        asyncio.run(measured(at, run, how))
    elif keep is not None:
        asyncio.run(_kept(at, run, _read(keep)))
    sha256, known = asyncio.run(_known(at, run))
    if as_json:
        say_json({"model_sha256": sha256, "laws": known})
        return
    out = console()
    if not known:
        out.print(f"nothing is known of model {sha256[:12]}; `wattbed quality {run} --measure` finds out")
    for laws in known:
        out.print(_line(laws))


@dataclass(frozen=True)
class Measuring:
    """What is measured, of `images` images each.

    Each of `widths` at most steps, and each of `steps` and of `bits` at full width: the laws are fitted to them.
    Then what the laws have to predict: narrow widths in fewer steps, and widths that change from step to step.
    """

    images: int
    sampler: str
    widths: tuple[float, ...]
    steps: tuple[int, ...]
    data: Path | None = None
    bits: tuple[int, ...] = BITS

    def recipes(self) -> list[Recipe]:
        """Each once."""
        most, few = max(self.steps), sorted(self.steps)[-4:-1:2]
        narrow = sorted(self.widths)[:-1]
        each = [(w,) * most for w in self.widths]
        each += [(1.0,) * s for s in self.steps if s != most]
        each += [(w,) * s for w in narrow for s in few]
        each += [(w,) * (most // 2) + (1.0,) * (most - most // 2) for w in narrow]
        each += [(1.0,) * (most - most // 2) + (w,) * (most // 2) for w in narrow[:1]]
        each += [tuple(sorted(self.widths)[k * len(self.widths) // s] for k in range(s)) for s in (most, *few)]
        found = [Recipe(widths, self.sampler) for widths in each]
        return found + [Recipe((1.0,) * most, self.sampler, bits) for bits in self.bits]


async def measured(at: str, run: str, how: Measuring) -> None:
    """Measures a run's last model on this machine, and enters the laws of its FID, recall and average error."""
    import quantizer
    from optimizer.fitting.laws import METRICS, quality_laws
    from optimizer.generation.quality import as_numbers
    from workloads import measuring

    async with Operator(at) as operator:
        name = (await operator.find(run)).run
        experiment = Experiment.model_validate_json((await operator.report(name)).experiment_json)
        if experiment.workload.name != "diffusion":
            raise BadRequest(f"{name} trained {experiment.workload.name!r}, whose images nobody can judge")
        sha256, _ = await requests.quality(operator, name)
        params = quantizer.decode(await operator.artifact(name, sha256))
        given = experiment.workload.options
        settings: dict[str, Any] = {"seed": experiment.seed, "folder": how.data}

        def work() -> tuple[Any, Any]:
            points = measuring.points(
                given, params, how.recipes(), images=how.images, reference_steps=REFERENCE_STEPS, **settings
            )
            noise = measuring.noise_errors(
                given, params, how.widths, levels=LEVELS, images=min(how.images, 256), **settings
            )
            return list(points), noise

        points, noise = await asyncio.to_thread(work)
        source = f"{how.images} images each, by `wattbed quality --measure`"
        for metric in METRICS:
            laws = quality_laws(points, how.sampler, metric=metric, noise=noise, source=source)
            await requests.keep_quality(operator, name, json.dumps(as_numbers(laws)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"{path}: {error.strerror or error}") from error


async def _kept(at: str, run: str, text: str) -> None:
    async with Operator(at) as operator:
        await requests.keep_quality(operator, (await operator.find(run)).run, text)


async def _known(at: str, run: str) -> tuple[str, list[dict[str, Any]]]:
    async with Operator(at) as operator:
        sha256, texts = await requests.quality(operator, (await operator.find(run)).run)
        return sha256, [json.loads(text) for text in texts]


def _line(laws: Mapping[str, Any]) -> str:
    width, steps = laws["width"], laws["steps"]
    residual = "" if width["residual"] is None else f", {width['residual']:.1%} off where left out"
    by_steps = ", ".join(f"{v:.3g} at {s:g}" for s, v in zip(steps["steps"], steps["values"], strict=True))
    law = f"{width['a']:.3g} + {width['c']:.3g} (w^-{width['g']:.2g} - 1){residual}"
    bits = f"; {laws['bits']['harm']:.3g} 4^-bits" if laws["bits"]["samples"] else ""
    margin = (
        f"; {laws['margin']:.1%} margin, of {laws['combined']} combined recipes" if laws.get("combined") else ""
    )
    return f"{laws['metric']} with {laws['sampler']}: {law}; by steps {by_steps}{bits}{margin}"
