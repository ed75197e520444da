"""Requests for images in words and plain values: what was asked, what came of it, predicted beside measured."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from cli import cells
from cli.sheets import Sheet
from fleet.energy import Total, choose, total
from fleet.generation import Recipe, RequestReport


def totals(report: RequestReport) -> tuple[Total, ...]:
    """The joules of a request over all its phases, one total for each quality that was read."""
    windows = [p.readings for p in report.phases]
    return tuple(t for c in choose(windows).values() if (t := total(windows, c)).joules is not None)


def how(recipe: Recipe) -> str:
    """A recipe in words: "20 steps of ddim at width 0.5", "12 steps of ddim, width 1 x 4, 0.25 x 8"."""
    runs: list[tuple[float, int]] = []
    for width in recipe.widths:
        if runs and runs[-1][0] == width:
            runs[-1] = (width, runs[-1][1] + 1)
        else:
            runs.append((width, 1))
    at = f" at width {runs[0][0]:g}" if len(runs) == 1 else ", width " + ", ".join(f"{w:g} x {n}" for w, n in runs)
    bits = "" if recipe.bits == 32 else f", weights of {recipe.bits} bits"
    return f"{recipe.steps} steps of {recipe.sampler}{at}{bits}"


def as_json(report: RequestReport) -> dict[str, Any]:
    """The report as plain values, with its totals; None where nothing was measured."""
    values = asdict(report)
    values["totals"] = [
        {
            "joules": t.joules,
            "low_joules": t.low_joules,
            "high_joules": t.high_joules,
            "quality": t.quality.value,
            "scope": t.scope,
            "sources": list(t.sources),
            "missing_windows": t.missing,
        }
        for t in totals(report)
    ]
    return values


def summary(reports: Iterable[RequestReport]) -> Sheet:
    """A row per request."""
    rows = []
    for r in reports:
        placed, spent = r.placement, totals(r)
        expected = placed.expected if placed else None
        joules = ", ".join(f"{t.joules:.3g} ({t.quality.value}, {t.scope})" for t in spent)
        rows.append(
            (
                r.request.request,
                "served late" if r.late else r.status,
                placed.device if placed else "",
                how(placed.recipe) if placed else "",
                _demand(r),
                str(r.request.images),
                cells.number(r.latency_s),
                cells.number(expected.seconds if expected else None),
                joules,
                cells.number(expected.joules if expected else None),
                cells.number(expected.quality if expected else None),
            )
        )
    words = ("request", "outcome", "device", "how", "asked")
    numbers = ("images", "latency s", "predicted s", "joules", "predicted J", "predicted quality")
    return Sheet("Requests", words, numbers, tuple(rows))


def _demand(report: RequestReport) -> str:
    request = report.request
    quality = f"{request.quality.metric}<={request.quality.at_most:g}" if request.quality else ""
    within = f"within {request.within_s:g} s" if request.within_s is not None else ""
    return ", ".join(part for part in (quality, within) if part)
