"""`wattbed generate`: images of a run's model, of a quality and by a time, as files."""

import asyncio
import json
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from cli import options, request_view, requests
from cli.client import Operator
from cli.options import FAILED, INTERRUPTED, Coordinator, Json, State, address, console, say_json
from cli.report import write_files
from fleet.errors import BadRequest
from fleet.generation import Demand, GenerationProgress, GenerationRequest, Placement, Recipe, RequestReport
from fleet.images import unpack

UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def generate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`: its last model is used.")],
    images: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 16,
    quality: Annotated[
        str | None,
        typer.Option("--quality", metavar="METRIC<=X", help="As good as this, e.g. `fid<=20`; less is better."),
    ] = None,
    within: Annotated[
        str | None, typer.Option("--within", metavar="TIME", help="By then, e.g. `5s`, `500ms` or `2m`.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Where images and manifest go.", file_okay=False)
    ] = Path("images"),
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the noise; drawn without one.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Denoising steps, instead of a choice.")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option("--width", metavar="W[,W..]", help="Width, or one per step, the noisiest first."),
    ] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="ddpm, ddim or dpm++.")] = None,
    bits: Annotated[int | None, typer.Option("--bits", help="Of the weights: 1 to 16, or 32.")] = None,
    where: Annotated[
        str, typer.Option("--where", metavar="any|local|edge|DEVICE", help="Which devices may make them.")
    ] = "any",
    origin: Annotated[str, typer.Option("--origin", metavar="DEVICE", help="The device that asks.")] = "",
    priority: Annotated[int, typer.Option("--priority", help="A greater one goes first.")] = 0,
    previews: Annotated[int, typer.Option("--previews", min=0, max=20, help="Files to show it on the way.")] = 0,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Have the fleet make images of a run's last model for the fewest joules; Ctrl-C cancels the request."""
    asked = GenerationRequest(
        request=uuid.uuid4().hex[:16],
        run=run,
        images=images,
        seed=secrets.randbits(32) if seed is None else seed,
        within_s=None if within is None else seconds(within),
        quality=None if quality is None else demand(quality),
        priority=priority,
        origin=origin,
        where=where if where in ("any", "local", "edge") else "device",
        device="" if where in ("any", "local", "edge") else where,
        recipe=recipe(steps, width, sampler, bits),
        previews=previews,
    )
    if asked.quality is not None and asked.recipe is not None:
        raise BadRequest("--quality has widths and steps chosen; --steps, --width, --sampler and --bits say them")
    show = None if as_json else console(stderr=True)
    try:
        made = asyncio.run(_made(address(coordinator, state), asked, folder, show))
    except KeyboardInterrupt:
        console(stderr=True).print("\ncancelled: nobody listens to the request any more")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        say_json(manifest(made))
    else:
        _say(made)
    if made.report.status != "served":
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class Made:
    """What became of a request, and the files that were written."""

    report: RequestReport
    files: tuple[Path, ...]


async def _made(at: str, asked: GenerationRequest, folder: Path, show: Console | None) -> Made:
    async with Operator(at) as operator:
        run = (await operator.find(asked.run)).run
        asked = replace(asked, run=run)
        files: list[Path] = []
        report: RequestReport | None = None
        async for news in requests.follow(operator, asked):
            match news:
                case Placement():
                    if show:
                        show.print(_placed(news))
                case GenerationProgress():
                    files += write_files(_previews(news, folder))
                case RequestReport():
                    report = news
        assert report is not None
        if report.status == "served":
            images = unpack(await requests.images_of(operator, report))
            files += write_files(png_files(images, folder))
            wanted = {folder / "manifest.json": _text(manifest(Made(report, tuple(files))))}
            files += write_files(wanted)
    return Made(report, tuple(files))


def png_files(images: np.ndarray, folder: Path) -> dict[Path, bytes]:
    """A PNG for each of uint8 (n, H, W, C), by where it goes."""
    return {folder / f"image-{i:03d}.png": png(image) for i, image in enumerate(images)}


def png(image: np.ndarray) -> bytes:
    """uint8 (H, W, 1 or 3) as PNG."""
    import io

    out = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, "png")
    return out.getvalue()


def _previews(news: GenerationProgress, folder: Path) -> Mapping[Path, bytes]:
    return {folder / f"preview-{news.done:03d}.png": preview.png for preview in news.previews}


def manifest(made: Made) -> dict[str, Any]:
    """Everything about the request: seeds, recipe, joules by source, predictions."""
    from workloads.generating import noise_seeds

    request = made.report.request
    seeds = noise_seeds(request.seed, request.images)
    return request_view.as_json(made.report) | {
        "noise_seeds": seeds,
        "files": [str(path) for path in made.files if path.suffix == ".png"],
    }


def _text(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _placed(placement: Placement) -> str:
    e = placement.expected
    joules = "" if e.joules is None else f", {e.joules:.3g} J"
    took = "" if e.seconds is None else f"{e.seconds:.2f} s"
    worth = "" if e.quality is None else f", {e.metric} {e.quality:.3g}"
    shared = f", with {placement.shared_with} other requests" if placement.shared_with else ""
    how = request_view.how(placement.recipe)
    return (
        f"on {placement.device}: {how}{shared}; predicted {took}{joules}{worth} ({e.origin}, {e.samples} batches)"
    )


def _say(made: Made) -> None:
    report, out = made.report, console()
    if report.status != "served":
        console(stderr=True).print(
            f"wattbed: request {report.request.request} was {report.status}: {report.reason}"
        )
        if report.feasible:
            console(stderr=True).print(f"wattbed: {feasible(report)}")
        return
    late = ", LATE" if report.late else ""
    out.print(f"{report.request.images} images in {report.latency_s:.2f} s{late}, seed {report.request.seed}")
    for total in request_view.totals(report):
        share = " (a share of a batch by images)" if report.placement and report.placement.shared_with else ""
        sources = ", ".join(total.sources)
        out.print(f"{total.joules:.4g} J {total.quality.value} at {total.scope} scope by {sources}{share}")
    out.print(f"wrote {len(made.files)} files to {made.files[-1].parent}")


def feasible(report: RequestReport) -> str:
    """What could be had instead, in words."""
    found = report.feasible
    parts = []
    if found and found.within_s is not None:
        parts.append(f"the same within {found.within_s:.2f} s")
    if found and found.at_most is not None and report.request.quality:
        parts.append(f"{report.request.quality.metric}<={found.at_most:.4g} in the time that was given")
    return "feasible would be: " + (", or ".join(parts) or "nothing")


def seconds(text: str) -> float:
    """`5s`, `500ms`, `2m` or a number of seconds; BadRequest."""
    found = re.fullmatch(r"([0-9.]+) *([a-z]*)", text.strip())
    try:
        return float(found[1]) * UNITS[found[2]] if found else _bad_time(text)
    except (KeyError, ValueError):
        return _bad_time(text)


def _bad_time(text: str) -> float:
    raise BadRequest(f"--within {text!r}: not a time such as 5s, 500ms or 2m")


def demand(text: str) -> Demand:
    """`fid<=20`; BadRequest."""
    found = re.fullmatch(r"([a-z_]+) *<= *([0-9.eE+-]+)", text.strip())
    try:
        if found:
            return Demand(found[1], float(found[2]))
    except ValueError:
        pass
    raise BadRequest(f"--quality {text!r}: not a metric and its bound, such as fid<=20")


def recipe(steps: int | None, width: str | None, sampler: str | None, bits: int | None) -> Recipe | None:
    """How the images are to be made where that was said; BadRequest where it does not fit together."""
    if steps is None and width is None and sampler is None and bits is None:
        return None
    try:
        widths = tuple(float(w) for w in (width or "1").split(","))
    except ValueError:
        raise BadRequest(f"--width {width!r}: not a number, or one per step") from None
    if len(widths) == 1:
        widths *= steps or 20
    if steps is not None and len(widths) != steps:
        raise BadRequest(f"--steps {steps} with {len(widths)} widths")
    return Recipe(widths, sampler or "ddim", bits or 32)
