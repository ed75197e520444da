"""What a trained diffusion model's images are worth by recipe: FID, recall, average error, seconds, MACs.

All measured. The average error of a recipe is the root mean square difference, on 0..255, between its images and
those that the reference makes of the same noise: DPM-Solver++ at full width and 32 bits, `reference_steps` steps.
That is how far the recipe is from what the same model would give with all the time in the world; it needs no real
image and no network to judge.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from fleet.experiment import parse
from fleet.generation import Recipe
from fleet.quality import NoiseErrors, QualityPoint
from workloads import data, ddpm, features, quality, sampling
from workloads.ddpm import Sampler
from workloads.diffusion import Options
from workloads.generating import noise_seeds
from workloads.protocol import Params
from workloads.training import scaled
from workloads.unet import macs

BATCH = 128
REFERENCE = "dpm++"
DRAWS_NOISE = ("ddpm",)


def points(
    options: Mapping[str, Any],
    params: Params,
    recipes: Iterable[Recipe],
    *,
    images: int,
    seed: int,
    reference_steps: int,
    compared: int = 128,
    folder: Path | None = None,
) -> Iterator[QualityPoint]:
    """One measurement per recipe, of `images` images of the same noise. params: of the whole network.

    The average error is that of the first `compared`. options, folder: as for workloads.diffusion. FID is against
    `evaluation.reference` real images, recall against as many as were made. Measure with nothing else on the
    machine where `seconds` matter.
    """
    o = parse(Options, options, where="workload.options")
    real = data.read(o.dataset, folder)
    extractor = features.classifier(real)
    reference = real.train.images[: o.evaluation.reference]
    few = min(images, compared)
    at_bits = cache(lambda bits: sampling.load(options, params, bits=bits))
    ideal = cache(lambda: _made(at_bits(32), Recipe((1.0,) * reference_steps, REFERENCE), few, seed)[0])
    cost = cache(lambda width: macs(at_bits(32).net, at_bits(32).shape[:2], width))
    for recipe in recipes:
        made, seconds = _made(at_bits(recipe.bits), recipe, images, seed)
        judged = {m.name: m.value for m in quality.judge(extractor, reference, made, recipe.sampler)}
        error = None if recipe.sampler in DRAWS_NOISE else rms(made[:few], ideal())
        each = sum(cost(width) for width in recipe.widths)
        yield QualityPoint(recipe, images, judged["fid"], judged["recall"], error, seconds / images, each)


def rms(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square difference of two sets of uint8 images of one shape."""
    return float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64)))))


def noise_errors(
    options: Mapping[str, Any],
    params: Params,
    widths: Iterable[float],
    *,
    levels: int,
    images: int,
    seed: int,
    folder: Path | None = None,
) -> NoiseErrors:
    """Mean squared error of the noise that the network tells in held-out images, at the middles of `levels` equal
    parts.

    All widths and levels get the same images and the same noise.
    """
    o = parse(Options, options, where="workload.options")
    net = sampling.load(options, params).net
    x0 = scaled(data.read(o.dataset, folder).held_out.images[:images])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    abar = ddpm.noising(o.diffusion.schedule, o.diffusion.steps)
    before = torch.cat([torch.ones(1), abar[:-1]])
    at = [(2 * k + 1) * len(abar) // (2 * levels) for k in range(levels)]
    rising = tuple(sorted(widths))

    def error(t: int, width: float) -> float:
        steps = torch.full((len(x0),), t)
        with torch.no_grad():
            parts = [
                ddpm.loss(net, x0[part], steps[part], noise[part], abar, width)
                for part in torch.split(torch.arange(len(x0)), BATCH)
            ]
        return torch.cat(parts).mean().item()

    return NoiseErrors(
        tuple(t / len(abar) for t in at),
        tuple(float(1 - abar[t] / before[t]) for t in at),
        tuple(float(abar[t]) for t in at),
        rising,
        tuple(tuple(error(t, width) for width in rising) for t in at),
        len(x0),
    )


def _made(model: sampling.Model, recipe: Recipe, images: int, seed: int) -> tuple[np.ndarray, float]:
    """Images by `recipe` and the seconds they took, BATCH at a time."""
    each = noise_seeds(seed, images)
    sampler = cast("Sampler", recipe.sampler)
    began_s = time.perf_counter()
    made = [
        sampling.sample_seeds(model, recipe.widths, recipe.steps, sampler, each[start : start + BATCH])
        for start in range(0, images, BATCH)
    ]
    return np.concatenate(made), time.perf_counter() - began_s
