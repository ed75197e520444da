"""Denoising diffusion (Ho et al. 2020): its loss and its samplers, as functions of a network.

A network is called as net(x, t, width) and gives the noise in x. Images are float32 (B, C, H, W) in [-1, 1].
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor
from torch.nn import functional as F

from workloads.unet import UNet

SAMPLERS = {
    "ddpm": (DDPMScheduler, {"clip_sample": True}),
    "ddim": (DDIMScheduler, {"clip_sample": True}),
    "dpm++": (DPMSolverMultistepScheduler, {}),
}
"""Ancestral sampling (Ho et al. 2020), DDIM (Song et al. 2021), DPM-Solver++ (Lu et al. 2022)."""

Sampler = Literal["ddpm", "ddim", "dpm++"]

BETAS: dict[str, dict[str, Any]] = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
"""Noise schedules: of DDPM, and of Nichol and Dhariwal 2021."""

Schedule = Literal["linear", "cosine"]


def noising(schedule: Schedule, steps: int) -> Tensor:
    """abar_t, the share of the image's variance left after t + 1 of `steps` steps: (steps,), falling."""
    abar: Tensor = DDPMScheduler(num_train_timesteps=steps, **BETAS[schedule]).alphas_cumprod
    return abar


def loss(net: Callable[..., Tensor], x0: Tensor, t: Tensor, noise: Tensor, abar: Tensor, width: float) -> Tensor:
    """||e - e_theta(sqrt(abar_t) x0 + sqrt(1 - abar_t) e, t)||^2, mean over pixels (Ho et al. 2020, eq. 14).

    x0, noise: (B, C, H, W); t: (B,) in 0..len(abar) - 1. Returns one loss per image: (B,).
    """
    a = abar[t][:, None, None, None]
    predicted = net(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, width)
    return F.mse_loss(predicted.float(), noise, reduction="none").mean(dim=(1, 2, 3))


def scheduler(sampler: Sampler, schedule: Schedule, steps: int, denoise_steps: int) -> Any:
    """The scheduler of diffusers that makes `denoise_steps` of `steps` steps.

    They are spaced "leading", as in DDIM: the noisiest one, where x0 = (x - sqrt(1 - abar) e) / sqrt(abar) divides
    by almost zero, is left out.
    """
    cls, settings = SAMPLERS[sampler]
    made = cls(num_train_timesteps=steps, timestep_spacing="leading", **BETAS[schedule], **settings)
    made.set_timesteps(denoise_steps)
    return made


@torch.no_grad()
def sample(
    net: UNet,
    shape: tuple[int, ...],
    sampler: Sampler,
    schedule: Schedule,
    steps: int,
    denoise_steps: int,
    width: float,
    generator: torch.Generator,
) -> Tensor:
    """Images from noise in `denoise_steps` calls of the network, trained with `steps` steps of `schedule`.

    shape: (B, C, H, W), the shape of what is returned, in [-1, 1].
    """
    scheduling = scheduler(sampler, schedule, steps, denoise_steps)
    x = torch.randn(shape, generator=generator)
    for t in scheduling.timesteps:
        noise = net(x, t.expand(shape[0]), width)
        x = scheduling.step(noise, t, x, generator=generator).prev_sample
    return x.clamp(-1, 1)
