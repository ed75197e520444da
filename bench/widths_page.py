"""The page of bench/widths.py: what was measured, what the laws say, and whether what must hold does."""

from itertools import pairwise, takewhile
from pathlib import Path
from statistics import mean, median
from typing import Any

from provenance import table
from widths_recipes import CLAIM_IMAGES, SAMPLER, STEPS, Case, even

from fleet.generation import Recipe
from fleet.quality import QualityPoint
from optimizer.fitting.laws import Distance, distances
from optimizer.generation.quality import QualityLaws

ROOT = Path(__file__).resolve().parent.parent
WITHIN, SQUARE_WITHIN = 0.10, 0.03
UNITS = {"fid": "FID", "missed": "1 - recall", "error": "average error"}


def page(
    numbers: dict[str, Any],
    laws: dict[str, QualityLaws],
    seeds: list[int],
    alone: tuple[float, ...],
    points: list[QualityPoint],
    between: list[QualityPoint],
) -> str:
    """The result as Markdown. points: what laws are about; between: of widths that no step of training had."""
    return f"""# One network at all widths

{question()}

Four agents on loopback train `experiments/flexible.toml` by the sandwich rule; networks alone are trained at one
width for the same rounds, steps and seeds. Quality is of {CLAIM_IMAGES} images by {SAMPLER} in {STEPS} steps; FID
is over the features of wattbed's own classifier of digits, not to be compared with Inception FID.

![by width from above, by steps](widths.png)

Rows are widths 0.25, 0.5, 0.75 and 1 from above; four digits each in 3, 5, 10 and 20 steps; the noise is the same.

## Quality by width, beside networks trained alone

{claims(numbers["points"], seeds, alone)}

## Cost by width

{costs(numbers, points + between)}

## Devices of several widths

{mixed(numbers["trained"], numbers["points"], seeds)}

## What recipes are worth

{measured(points)}

Widths that no step of training had, which are therefore in no law:

{measured(between)}

The error is the root mean square difference, on 0..255, from the images that DPM-Solver++ makes of the same noise
at full width in 100 steps. Seconds are of one image in a batch of 128 on one core, whatever else the machine did.

## Laws

{chr(10).join(said(of, points) for of in laws.values())}
"""


def question() -> str:
    """What the experiment asks, in its first comment."""
    lines = (ROOT / "experiments" / "flexible.toml").read_text().splitlines()
    return "\n".join(line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def fids(points: dict[str, Any], how: str, width: float, seeds: list[int]) -> list[float]:
    """FID of each seed that was measured."""
    model_width = width if how == "alone" else 1.0
    keys = [Case(f"{how}-{model_width:g}-{s}", even(width), CLAIM_IMAGES, "claim").key for s in seeds]
    return [points[key]["fid"] for key in keys if key in points]


def claims(points: dict[str, Any], seeds: list[int], alone: tuple[float, ...]) -> str:
    """FID by width, and what has to hold of it."""
    rows, ratios, by_width = [], list[float | None](), list[float]()
    for width in alone:
        flexible, by_itself = fids(points, "flexible", width, seeds), fids(points, "alone", width, seeds)
        if not flexible:
            continue
        by_width.append(mean(flexible))
        ratio = mean(flexible) / mean(by_itself) if by_itself else None
        ratios.append(ratio)
        rows.append((f"{width:g}", spread(flexible), spread(by_itself), f"{ratio:.3f}" if ratio else "—"))
    if not rows:
        return "Not measured."
    falls = all(a > b for a, b in pairwise(by_width))
    known = [ratio for ratio in ratios if ratio is not None]
    verdict = "not measured at every width" if len(known) < len(alone) else "held"
    if known and max(known) > 1 + WITHIN:
        verdict = "NOT held"
    return f"""{table(["width", "FID, sandwich rule", "FID, trained alone", "ratio"], rows)}

FID falls with width: {"held" if falls else "NOT held"}. At most {1 + WITHIN:g} times that of a network trained
alone for as many steps: {verdict}, worst {max(known, default=float("nan")):.3f}."""


def spread(values: list[float]) -> str:
    """Mean, least and most."""
    if not values:
        return "—"
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f}, n={len(values)})"


def costs(numbers: dict[str, Any], points: list[QualityPoint]) -> str:
    """MACs, parameters and seconds by width."""
    seconds = {
        p.recipe.widths[0]: p.seconds / p.recipe.steps for p in points if p.recipe == even(p.recipe.widths[0])
    }
    whole = seconds.get(1.0)
    rows = []
    for row in numbers["cost"]:
        width = row["width"]
        took = (
            f"{1e3 * seconds[width]:.3f} ms ({seconds[width] / whole:.3f})" if whole and width in seconds else "—"
        )
        rows.append((f"{width:g}", f"{row['macs']:,}", f"{row['of_square']:.4f}", f"{row['parameters']:,}", took))
    off = max(abs(row["of_square"] - 1) for row in numbers["cost"] if row["width"] in (0.25, 0.5, 0.75))
    head = [
        "width",
        "MACs of a call, counted",
        "of w^2 times full",
        "parameters",
        "seconds of a step and image (of full)",
    ]
    return f"""{table(head, rows)}

At 0.25, 0.5 and 0.75 MACs are within {SQUARE_WITHIN:.0%} of w^2 of full width:
{"held" if off <= SQUARE_WITHIN else "NOT held"}, {off:.2%} at most. Where w times the channels is no multiple of
the divisor, layers round to the next one and cost is a step, not a square: such widths are between, not on, the
law."""


def mixed(trained: dict[str, Any], points: dict[str, Any], seeds: list[int]) -> str:
    """Bytes of devices by the width they afford, and what becomes of the quality."""
    seeds = [s for s in seeds if f"mixed-1-{s}" in trained]
    runs = [trained[f"mixed-1-{s}"] for s in seeds]
    if not runs:
        return "Not measured."
    rows = [
        (name, f"{width:g}", f"{runs[0]['up_bytes'][name]:,}", f"{runs[0]['down_bytes'][name]:,}")
        for name, width in sorted(runs[0]["widths"].items())
    ]
    quality = [
        (f"{w:g}", spread(fids(points, "mixed", w, seeds)), spread(fids(points, "flexible", w, seeds)))
        for w in (0.5, 1.0)
    ]
    whole = [trained[f"flexible-1-{s}"] for s in seeds if f"flexible-1-{s}" in trained]
    ratios = "; ".join(
        f"{mean(r['joules'][what] for r in runs) / mean(r['joules'][what] for r in whole):.3f} ({what})"
        for what in sorted(runs[0]["joules"])
    )
    return f"""`experiments/flexible-mixed.toml`: each device receives, trains and sends the part that it affords.

{table(["device", "width", "bytes up on the wire", "bytes down on the wire"], rows)}

{table(["width", "FID, mixed devices", "FID, all at full width"], quality)}

Joules of all devices over those of all at full width, one quality and scope at a time: {ratios}."""


def measured(points: list[QualityPoint]) -> str:
    """Every recipe."""
    rows = [
        (
            described(p.recipe),
            p.recipe.sampler,
            p.recipe.steps,
            p.recipe.bits,
            f"{p.fid:.2f}",
            f"{p.recall:.3f}",
            "—" if p.error is None else f"{p.error:.2f}",
            f"{p.macs / 1e6:,.1f}",
            f"{1e3 * p.seconds:.1f}",
        )
        for p in points
    ]
    head = [
        "width of each step",
        "sampler",
        "steps",
        "bits",
        "FID",
        "recall",
        "error",
        "MMAC an image",
        "ms an image",
    ]
    return table(head, rows)


def described(recipe: Recipe) -> str:
    """The widths of its steps, the noisiest first."""
    parts: list[list[float]] = []
    for width in recipe.widths:
        if parts and parts[-1][0] == width:
            parts[-1][1] += 1
        else:
            parts.append([width, 1])
    return f"{parts[0][0]:g}" if len(parts) == 1 else ", ".join(f"{n:g} at {width:g}" for width, n in parts)


def said(laws: QualityLaws, points: list[QualityPoint]) -> str:
    """The laws of one metric, and how far they are from what was measured."""
    found = distances(laws, points)
    w, s, b = laws.width, laws.steps, laws.bits
    steps = ", ".join(f"{v:.3g} at {n:g}" for n, v in zip(s.steps, s.values, strict=True))
    alike = [d for d in found if len(set(d.recipe.widths)) == 1]
    lines = [d for d in alike if is_on_a_line(d, laws)]
    both = [d for d in alike if d not in lines]
    stepped = [d for d in found if d not in alike]
    rows = []
    for d in (*both, *stepped):
        numbers = (f"{d.measured:.3g}", f"{d.predicted:.3g}", f"{d.relative:.1%}")
        rows.append((described(d.recipe), d.recipe.steps, d.recipe.bits, *numbers))
    unit = UNITS[laws.metric]
    return f"""### {unit}, {laws.sampler}

Residuals are cross-validated: of fits that leave the point out.

- {unit}(w) = {w.a:.3g} + {w.c:.3g} (w^-{w.g:.2f} - 1); {w.samples} widths, residual {percent(w.residual)}
- {unit}(steps), falling and convex: {steps}; residual {percent(s.residual)}
- harm of bits: {b.harm:.4g} 4^-bits; {b.samples} bit-widths, residual {percent(b.residual)}

Median distance of what they were fitted to: {off(lines)}; of what reduces two things at once: {off(both)}; of a
width per step: {off(stepped)}.

{table(["width of each step", "steps", "bits", "measured", "predicted", "off"], rows)}
"""


def off(found: list[Distance]) -> str:
    """The median of relative distances."""
    return percent(median([d.relative for d in found]) if found else None)


def is_on_a_line(d: Distance, laws: QualityLaws) -> bool:
    """Whether no more than one thing is less than the most."""
    most = max(laws.steps.steps)
    return sum((d.recipe.widths[0] < 1, d.recipe.steps < most, d.recipe.bits < 32)) <= 1


def percent(value: float | None) -> str:
    """As a percentage."""
    return "unknown" if value is None else f"{value:.1%}"
