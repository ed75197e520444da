"""The part of a run's report about images that were asked for: a row per request, samples by width and steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

from cli import requests
from cli.client import Operator
from fleet.errors import UnknownBlob
from fleet.generation import RequestReport
from fleet.images import unpack

SHOWN = 16
"""Images of a sample grid."""

MOST_GRIDS = 24


@dataclass(frozen=True)
class Served:
    """The requests of a run, and a grid of images as PNG for each width and number of steps, by its caption."""

    reports: tuple[RequestReport, ...] = ()
    grids: Mapping[str, bytes] = field(default_factory=dict)


async def fetch(address: str, run: str, *, with_grids: bool) -> Served:
    """All requests of `run`; grids from the first images of each kind that the coordinator still has."""
    async with Operator(address) as operator:
        reports = await requests.of_run(operator, run)
        grids: dict[str, bytes] = {}
        for report in reports if with_grids else ():
            caption = _caption(report)
            if caption is None or caption in grids or len(grids) >= MOST_GRIDS:
                continue
            try:
                payload = await requests.images_of(operator, report)
            except UnknownBlob:
                continue
            grids[caption] = _grid(payload)
    return Served(reports, dict(sorted(grids.items())))


def _caption(report: RequestReport) -> str | None:
    if report.status != "served" or report.placement is None:
        return None
    recipe = report.placement.recipe
    return f"width {sqrt(recipe.mean_square_width):.2f}, {recipe.steps} steps of {recipe.sampler}"


def _grid(payload: bytes) -> bytes:
    from workloads.generating import sheet_png

    images = unpack(payload)[:SHOWN]
    scale = max(1, 40 // images.shape[1])
    return sheet_png(images.repeat(scale, axis=1).repeat(scale, axis=2), columns=4)
