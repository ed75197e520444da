"""Images from a trained model: a width for each denoising step, a number of steps, a sampler, weights of n bits.

This is all that serving a model takes, apart from where and when. `load` makes a network of a payload's tensors,
wide or narrow (workloads.narrow); `sample` denoises. Image i of a seed comes from noise of its own, so that images
of several requests can share a batch and stay what they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

import quantizer
from fleet.errors import BadRequest
from fleet.experiment import BITS, parse
from workloads import data, training
from workloads.ddpm import Sampler, Schedule, scheduler
from workloads.diffusion import Options, network_of, pixels
from workloads.generating import noise_seeds
from workloads.narrow import cut
from workloads.protocol import Params
from workloads.unet import UNet, held

SAMPLERS: tuple[str, ...] = get_args(Sampler)
"""ddpm draws noise in each step; ddim and dpm++ make nearly the same images in any number of steps."""


MOST_CUT = 8
"""Narrow networks that a model keeps ready; calls at further widths use part of the whole one."""


@dataclass(frozen=True)
class Model:
    """A trained network and what sampling needs beside it. `width` is the widest it can be called at.

    shape: (C, H, W) of an image. `train_steps` steps of `schedule` are what it was trained to undo; `bits` what
    its weights were rounded to.
    """

    net: UNet = field(repr=False)
    schedule: Schedule
    train_steps: int
    shape: tuple[int, int, int]
    width: float
    bits: int
    options: Options = field(repr=False)
    _cut: dict[float, UNet] = field(default_factory=dict, repr=False, compare=False)

    def at(self, width: float) -> UNet:
        """The network to call at `width`: one that holds no more, made once, where slicing in each call costs
        time.
        """
        if width >= self.width or (width not in self._cut and len(self._cut) >= MOST_CUT):
            return self.net
        if width not in self._cut:
            narrow = self.options.network(width=width)
            whole = {name: p.detach().numpy() for name, p in self.net.named_parameters()}
            training.put(cut(whole, held(self.net, narrow)), narrow)
            self._cut[width] = narrow
        return self._cut[width]


@dataclass(frozen=True)
class Preview:
    """After `done` of `steps` steps: what the network takes the images to be, uint8 (n, H, W, C)."""

    done: int
    steps: int
    images: np.ndarray = field(repr=False)


def load(options: Mapping[str, Any], params: Params, *, bits: int = 32, width: float = 1.0) -> Model:
    """A model ready to sample from. options: `workload.options` of the experiment it was trained in.

    params: the tensors of the whole network, or of the one that holds widths up to `width` (workloads.narrow).
    bits: what the weights are rounded to now; 32 where they are to be taken as they come. BadRequest where
    the tensors are not of this network at this width, or there are no such bits; BadExperiment for wrong options.
    """
    o = parse(Options, options, where="workload.options")
    kind = data.KINDS[o.dataset]
    net = network_of(o, rounded(params, bits), width)
    return Model(
        net, o.diffusion.schedule, o.diffusion.steps, (kind.channels, kind.side, kind.side), width, bits, o
    )


def rounded(
    params: Params, bits: int, *, block_size: int = 256, codec: str | None = None
) -> dict[str, np.ndarray]:
    """Weights as a payload of `bits` bits per value gives them back (quantizer.encode, seed 0); 32 changes
    nothing.

    BadRequest where there are no such bits.
    """
    if bits not in BITS:
        raise BadRequest(f"weights of {bits} bits; known are 1 to 16 and 32")
    if bits == 32:
        return dict(params)
    return quantizer.decode(quantizer.encode(dict(params), bits, seed=0, block_size=block_size, codec=codec))


def sample(
    model: Model,
    widths: float | Sequence[float],
    steps: int,
    sampler: Sampler,
    n: int,
    seed: int,
    *,
    on_step: Callable[[Preview], None] | None = None,
) -> np.ndarray:
    """n images, uint8 (n, H, W, C), of the noise of `seed`, denoised in `steps` calls of the network.

    widths: one for all steps or one per step, in the order of the calls: the noisiest first. on_step is called
    after each; what it raises ends the sampling (the request was cancelled). The same arguments give the same
    images; a batch of another size may change a last bit. BadRequest where the numbers do not fit each other or
    the model.
    """
    return sample_seeds(model, widths, steps, sampler, noise_seeds(seed, n), on_step=on_step)


def sample_seeds(
    model: Model,
    widths: float | Sequence[float],
    steps: int,
    sampler: Sampler,
    each: Sequence[int],
    *,
    on_step: Callable[[Preview], None] | None = None,
) -> np.ndarray:
    """The same with a seed of its noise for each image: several requests of one recipe in one batch."""
    at = _checked(model, widths, steps, sampler, len(each))
    scheduling = scheduler(sampler, model.schedule, model.train_steps, steps)
    generators = [torch.Generator().manual_seed(s) for s in each]
    x = torch.stack([torch.randn(model.shape, generator=g) for g in generators])
    with torch.no_grad():
        for done, (t, width) in enumerate(zip(scheduling.timesteps, at, strict=True), start=1):
            noise = model.at(width)(x, t.expand(len(x)), width)
            clean = _clean(x, noise, scheduling.alphas_cumprod[t]) if on_step else None
            x = scheduling.step(noise, t, x, generator=generators).prev_sample
            if on_step and clean is not None:
                on_step(Preview(done, steps, pixels(x.clamp(-1, 1) if done == steps else clean)))
    return pixels(x.clamp(-1, 1))


def _clean(x: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """x0 = (x - sqrt(1 - abar) e) / sqrt(abar), kept in [-1, 1]."""
    return ((x - (1 - abar).sqrt() * noise) / abar.sqrt()).clamp(-1, 1)


def _checked(model: Model, widths: float | Sequence[float], steps: int, sampler: str, n: int) -> tuple[float, ...]:
    """A width per step; BadRequest where there is something that cannot be sampled."""
    if sampler not in SAMPLERS:
        raise BadRequest(f"sampler {sampler!r}; known are {', '.join(SAMPLERS)}")
    if not 1 <= steps <= model.train_steps:
        raise BadRequest(f"{steps} denoising steps; 1 to {model.train_steps} can be made")
    if n < 1:
        raise BadRequest(f"{n} images; at least 1 is needed")
    at = (float(widths),) * steps if isinstance(widths, int | float) else tuple(float(w) for w in widths)
    if len(at) != steps:
        raise BadRequest(f"{len(at)} widths for {steps} denoising steps")
    for width in at:
        if not 0 < width <= model.width:
            raise BadRequest(f"width {width:g} is not in (0, {model.width:g}], which this model holds")
    return at
