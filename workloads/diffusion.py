"""The diffusion workload: DDPM on real images, trained in parts by Adam, judged by what it generates."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from fleet.domain import Assignment, Evaluation, Metric, NetworkSize
from fleet.errors import BadRequest
from fleet.experiment import Section, parse
from quantizer import qat
from workloads import data, partition, training
from workloads.narrow import Parts
from workloads.protocol import Outcome, Params, Shard
from workloads.size import network_size
from workloads.training import scaled
from workloads.unet import DIVISOR, UNet, held


class Model(Section):
    """The U-Net; see workloads.unet.UNet."""

    channels: int = Field(ge=1)
    multipliers: tuple[int, ...] = Field(min_length=1)
    blocks: int = Field(ge=1)
    attention: tuple[int, ...]
    patch: int = Field(ge=1)
    divisor: int = Field(default=DIVISOR, ge=1)
    group: int | None = Field(default=None, ge=1)


class Diffusion(Section):
    """The forward process: `steps` steps of a noise schedule of workloads.ddpm."""

    schedule: Literal["linear", "cosine"]
    steps: int = Field(ge=2)


class Training(Section):
    """Adam on each device; its moments live for one round, so devices send nothing but the model.

    optimizer "adam8bit" keeps the moments of large tensors in 8 bits (bitsandbytes; Dettmers et al. 2022).
    lr_decay "cosine" lets the rate fall from `lr` to zero within each round, "none" keeps it; with `lr_rounds`
    what a round begins with falls by a cosine too, from `lr` in the first round to zero after so many.
    flexible: by the sandwich rule, for all widths at once, see workloads.flexible; there `between` widths are
    drawn beside the ends, all on one batch or each on one of its own, and a loss at width w counts
    w^-narrow_exponent.
    """

    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    lr_decay: Literal["none", "cosine"]
    lr_rounds: int | None = Field(default=None, ge=1)
    clip: float = Field(gt=0)
    optimizer: Literal["adam", "adam8bit"] = "adam"
    flexible: bool = False
    between: int = Field(default=1, ge=0)
    batches: Literal["one", "each"] = "one"
    narrow_exponent: float = Field(default=0.0, ge=0)

    def rate(self, round: int, done: float) -> float:
        """What `lr` is multiplied by when the part `done` of a round, the first being 1, is over."""
        begins = 1.0 if self.lr_rounds is None else _cosine(min(max(0, round - 1) / self.lr_rounds, 1.0))
        return begins * (_cosine(done) if self.lr_decay == "cosine" else 1.0)


class Judging(Section):
    """What a model is judged by: `samples` generated images, and `held_out` real ones for the loss.

    `reference` real images of the training split stand for the data in FID. batch: images at a time.
    """

    samples: int = Field(ge=16)
    sampler: Literal["ddpm", "ddim", "dpm++"]
    denoise_steps: int = Field(ge=1)
    held_out: int = Field(ge=1)
    reference: int = Field(ge=16)
    batch: int = Field(ge=1)


class Options(Section):
    """Everything that `workload.options` of an experiment says."""

    dataset: Literal["digits", "fashion-mnist", "cifar-10"]
    partition: partition.Partition
    model: Model
    diffusion: Diffusion
    training: Training
    evaluation: Judging

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.network("meta")
        if self.evaluation.denoise_steps > self.diffusion.steps:
            raise ValueError(
                f"evaluation.denoise_steps {self.evaluation.denoise_steps} is more than "
                f"diffusion.steps {self.diffusion.steps}"
            )
        return self

    def network(self, device: str = "cpu", width: float = 1.0) -> UNet:
        """The network for this data set that holds widths up to `width`, its weights not drawn."""
        kind, m = data.KINDS[self.dataset], self.model
        images = (kind.channels, kind.side)
        with torch.device(device):
            return UNet(
                images, m.channels, m.multipliers, m.blocks, m.attention, m.patch, m.divisor, width, m.group
            )


class DiffusionWorkload:
    """DDPM with a slimmable U-Net; see Options for what an experiment may choose.

    precision "fp32", or "bf16": weights, moments and update stay float32, convolutions and matrix products
    run in bfloat16 (torch.autocast). "q1" to "q16": weights and activations of so many bits, simulated in float32
    (quantizer.qat, each activation tensor with a reach of its own), weights kept in [-1, 1]. Same parameters,
    seed and number of threads: the same bits.

    With training.flexible a device of width w receives the network that holds widths up to w, trains all of them,
    and its update is of that network; without, every device holds the whole network and trains a slice of it.
    """

    def __init__(self, options: Mapping[str, Any], data: Path | None) -> None:
        self._options = parse(Options, options, where="workload.options")
        self._folder = data

    @property
    def _data(self) -> data.DataSet:
        return data.read(self._options.dataset, self._folder)

    @cached_property
    def _abar(self) -> Tensor:
        from workloads.ddpm import noising

        return noising(self._options.diffusion.schedule, self._options.diffusion.steps)

    def check(self) -> None:
        """Reads the data set: DataMissing or DataCorrupt if that fails."""
        _ = self._data

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """An untrained network; its last layer is zero, so it predicts no noise."""
        net = self._options.network()
        net.draw(torch.Generator().manual_seed(seed))
        return {name: p.detach().numpy() for name, p in net.named_parameters()}

    def network_size(self) -> NetworkSize:
        """See workloads.protocol.Sized."""
        net, kind = self._options.network(), data.KINDS[self._options.dataset]
        image, t = torch.zeros(1, kind.channels, kind.side, kind.side), torch.zeros(1, dtype=torch.long)
        return network_size(net, lambda: net(image, t, 1.0), image.numel(), self._options.training.batch)

    def parts(self, width: float) -> Parts | None:
        """See workloads.narrow.Flexible. BadRequest for a width outside (0, 1]."""
        if not 0 < width <= 1:
            raise BadRequest(f"width {width} is not in (0, 1]")
        if not self._options.training.flexible or width == 1:
            return None
        return held(self._options.network("meta"), self._options.network("meta", width))

    def train(
        self,
        params: dict[str, np.ndarray],
        shard: Shard,
        assignment: Assignment,
        progress: Callable[[int, float | None], None],
    ) -> Outcome:
        """Trains on batches drawn with replacement from the shard; `samples` is the size of the shard.

        BadRequest if `params` are not of this network, the shard does not exist, or the assignment asks for
        an unknown precision, a width outside (0, 1] or no steps. The loss is that at the assignment's width.
        """
        from workloads import ddpm, flexible

        bits = training.training_bits(assignment.precision)
        training.check(shard, assignment)
        how, steps = self._options.training, assignment.train_steps
        split = self._data.train
        mine = partition.cut(split.labels, shard.of, self._options.partition)[shard.index]
        net = network_of(self._options, params, assignment.width if how.flexible else 1.0)
        among = flexible.widths(self._options.model.channels, self._options.model.divisor, assignment.width)
        optimizer = _optimizer(how, net)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: how.rate(assignment.round, step / steps))
        generator = torch.Generator().manual_seed(assignment.seed)
        running = qat.Quantised(net, bits, bits, generator, reach=None) if bits < 32 else net
        losses = []
        for step in range(steps):
            batch = self._batch(mine, generator)
            at = flexible.sandwich(among, generator, how.between) if how.flexible else (assignment.width,)
            optimizer.zero_grad()
            for width, share in zip(at, flexible.shares(at, how.narrow_exponent), strict=True):
                if how.batches == "each" and width != at[0]:
                    batch = self._batch(mine, generator)
                with torch.autocast("cpu", torch.bfloat16, enabled=assignment.precision == "bf16"):
                    mean = ddpm.loss(running, *batch, self._abar, width).mean()
                (share * mean).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), how.clip)
            optimizer.step()
            if bits < 32:
                qat.clip(net)
            rate.step()
            losses.append(mean.item())
            progress(step + 1, losses[-1])
        update = {n: p.detach().numpy() - params[n] for n, p in net.named_parameters()}
        return Outcome(update, samples=len(mine), loss=float(np.mean(losses)))

    def _batch(self, mine: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images drawn with replacement from those of `mine`, (B, C, H, W); time steps (B,); noise as images."""
        size = self._options.training.batch
        drawn = torch.randint(len(mine), (size,), generator=generator)
        x0 = scaled(self._data.train.images[mine[drawn.numpy()]])
        t = torch.randint(len(self._abar), (size,), generator=generator)
        return x0, t, torch.randn(x0.shape, generator=generator)

    def evaluate(self, params: Params, seed: int) -> Evaluation:
        """Held-out loss, and FID, recall, coverage and a grid of 64 of the images generated at full width."""
        from workloads import ddpm, features, quality

        net, how, forward = network_of(self._options, params), self._options.evaluation, self._options.diffusion
        generator = torch.Generator().manual_seed(seed)
        held_out = self._held_out_loss(net, generator)
        kind = data.KINDS[self._options.dataset]
        parts = [
            ddpm.sample(
                net,
                (min(how.batch, how.samples - done), kind.channels, kind.side, kind.side),
                how.sampler,
                forward.schedule,
                forward.steps,
                how.denoise_steps,
                1.0,
                generator,
            )
            for done in range(0, how.samples, how.batch)
        ]
        images = pixels(torch.cat(parts))
        extractor = features.classifier(self._data)
        real = self._data.train.images[: how.reference]
        made = f"{how.sampler} in {how.denoise_steps} steps"
        return Evaluation((held_out, *quality.judge(extractor, real, images, made)), quality.grid_png(images[:64]))

    def _held_out_loss(self, net: UNet, generator: torch.Generator) -> Metric:
        """Loss of DDPM on held-out images, time steps spread evenly over them, noise from `generator`."""
        from workloads import ddpm

        how, losses = self._options.evaluation, []
        x0 = scaled(self._data.held_out.images[: how.held_out])
        spread = torch.arange(len(x0)) * len(self._abar) // len(x0)
        t = spread[torch.randperm(len(x0), generator=generator)]
        noise = torch.randn(x0.shape, generator=generator)
        with torch.no_grad():
            for part in torch.split(torch.arange(len(x0)), how.batch):
                losses.append(ddpm.loss(net, x0[part], t[part], noise[part], self._abar, 1.0))
        return Metric("held_out_loss", torch.cat(losses).mean().item(), f"over {len(x0)} held-out images")


def network_of(options: Options, params: Params, width: float = 1.0) -> UNet:
    """The network that holds widths up to `width`, with `params` for weights; BadRequest where they do not fit."""
    net = options.network(width=width)
    training.put(params, net)
    return net


def pixels(images: Tensor) -> np.ndarray:
    """float32 (N, C, H, W) in [-1, 1] as uint8 (N, H, W, C)."""
    return ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def _optimizer(how: Training, net: UNet) -> torch.optim.Optimizer:
    if how.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), lr=how.lr, fused=True)
    from quantizer import bnb  # takes seconds to import

    return bnb.adam8bit(net.parameters(), how.lr)


def _cosine(done: float) -> float:
    """From 1 to 0 as `done` goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * done))
