"""The U-Net of DDPM (Ho et al. 2020), slimmable as in DDSM (arXiv 2310.03337): width is said at each call.

At width w every layer keeps its first `kept(C, w)` of C channels, so all widths share one set of weights and
a narrow network is a slice of the wide one. GroupNorm slices its affine; it keeps its number of groups as in DDSM,
or, with `group`, their size, so that a channel is normalised with the same others at every width.
Where a skip is concatenated, the two halves are sliced separately. The first convolution takes all image
channels and the last one gives all of them. A network may hold no more than what calls up to some width use: it
is built so (`UNet(..., width=w)`), has the same parameters by name, and gives the same bits (workloads.narrow).

With channels 128, multipliers (1, 2, 2, 2), 2 blocks and attention at 16 this is DDPM's network for
CIFAR-10, parameter for parameter: 35,746,307.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from workloads.narrow import Part

DIVISOR = 8
"""Groups of every GroupNorm at every width, and what every number of channels is a multiple of, as in DDSM."""


def kept(channels: int, width: float, divisor: int = DIVISOR) -> int:
    """Channels that a layer of `channels` keeps at `width` in (0, 1]: make_divisible of MobileNet.

    The nearest multiple of `divisor`, at least one, and never more than 10 % below width*channels.
    """
    if not 0 < width <= 1:
        raise ValueError(f"width {width} is not in (0, 1]")
    wanted = width * channels
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return min(channels, rounded if rounded >= 0.9 * wanted else rounded + divisor)


def embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding of time steps, as Transformer positions. t: (B,). Returns (B, channels)."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, device=t.device))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def first(weight: Tensor, sizes: tuple[int, ...], keep: list[int], dim: int) -> Tensor:
    """`weight` cut along `dim` into parts of `sizes`, and of each part its first `keep`."""
    if list(sizes) == keep:
        return weight
    parts = torch.split(weight, list(sizes), dim)
    return torch.cat([p.narrow(dim, 0, k) for p, k in zip(parts, keep, strict=True)], dim)


class Layer(nn.Module):
    """A linear map or a convolution with inputs of `sizes` channels each, concatenated, to `out` channels."""

    def __init__(self, sizes: tuple[int, ...], out: int, *kernel: int, gain: float = 1.0) -> None:
        super().__init__()
        self.sizes, self.out, self.gain = sizes, out, gain
        self.weight = nn.Parameter(torch.empty(out, sum(sizes), *kernel))
        self.bias = nn.Parameter(torch.empty(out))

    def draw(self, generator: torch.Generator) -> None:
        """Uniform with variance gain / mean of fan-in and fan-out, as in DDPM; gain 0 is zero. Bias 0."""
        with torch.no_grad():
            nn.init.xavier_uniform_(self.weight, gain=math.sqrt(self.gain), generator=generator)
            self.bias.zero_()

    def forward(self, inputs: list[Tensor], out: int, stride: int = 1) -> Tensor:
        """inputs: one (B, C_i, H, W) or (B, C_i) per size, C_i at most the size. Returns `out` channels."""
        x = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
        weight = first(self.weight[:out], self.sizes, [i.shape[1] for i in inputs], dim=1)
        if x.dim() == 2:
            return F.linear(x, weight, self.bias[:out])
        return F.conv2d(x, weight, self.bias[:out], stride=stride, padding=self.weight.shape[-1] // 2)


class Norm(nn.Module):
    """GroupNorm over the concatenation of inputs of `sizes` channels each, grouped as `grain` says."""

    def __init__(self, *sizes: int, grain: "Grain") -> None:
        super().__init__()
        self.sizes, self.grain = sizes, grain
        self.weight = nn.Parameter(torch.ones(sum(sizes)))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))

    def forward(self, *inputs: Tensor) -> Tensor:
        """inputs: one (B, C_i, H, W) per size. Returns (B, sum of C_i, H, W)."""
        keep = [i.shape[1] for i in inputs]
        x = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
        weight, bias = (first(p, self.sizes, keep, dim=0) for p in (self.weight, self.bias))
        return F.group_norm(x, self.grain.groups(x.shape[1]), weight, bias, eps=1e-6)


@dataclass(frozen=True)
class Grain:
    """Numbers of channels are multiples of `divisor`; layers hold what calls up to `width` use.

    GroupNorm takes `group` channels together, or where that is None has `divisor` groups.
    """

    divisor: int
    width: float
    group: int | None = None

    def held(self, channels: int) -> int:
        """Channels that a layer of `channels` holds."""
        return kept(channels, self.width, self.divisor)

    def groups(self, channels: int) -> int:
        """Groups of a GroupNorm over `channels`."""
        return self.divisor if self.group is None else channels // self.group


class Block(nn.Module):
    """Residual block of DDPM: norm, SiLU, conv, plus time, norm, SiLU, conv, plus the input."""

    def __init__(self, sizes: tuple[int, ...], out: int, time: int, grain: Grain) -> None:
        super().__init__()
        self.out, self.grain = out, grain
        held, held_out = tuple(map(grain.held, sizes)), grain.held(out)
        self.norm1 = Norm(*held, grain=grain)
        self.conv1 = Layer(held, held_out, 3, 3)
        self.time = Layer((grain.held(time),), held_out)
        self.norm2 = Norm(held_out, grain=grain)
        self.conv2 = Layer((held_out,), held_out, 3, 3, gain=0.0)
        self.shortcut = None if sizes == (out,) else Layer(held, held_out, 1, 1)

    def forward(self, inputs: list[Tensor], time: Tensor, width: float) -> Tensor:
        """inputs: one (B, C_i, H, W) per size; time: (B, D). Returns (B, kept(out, width), H, W)."""
        out = kept(self.out, width, self.grain.divisor)
        normed = torch.split(F.silu(self.norm1(*inputs)), [i.shape[1] for i in inputs], dim=1)
        h = self.conv1(list(normed), out) + self.time([F.silu(time)], out)[:, :, None, None]
        h = self.conv2([F.silu(self.norm2(h))], out)
        result: Tensor = h + (inputs[0] if self.shortcut is None else self.shortcut(inputs, out))
        return result


class Attention(nn.Module):
    """Self-attention over the pixels, one head."""

    def __init__(self, channels: int, grain: Grain) -> None:
        super().__init__()
        held = grain.held(channels)
        self.norm = Norm(held, grain=grain)
        self.q, self.k, self.v = (Layer((held,), held, 1, 1) for _ in range(3))
        self.proj = Layer((held,), held, 1, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns the same shape."""
        _, c, height, width = x.shape
        h = [self.norm(x)]
        q, k, v = (layer(h, c).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        h = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(c), dim=-1) @ v
        result: Tensor = x + self.proj([h.transpose(1, 2).unflatten(2, (height, width))], c)
        return result


class UNet(nn.Module):
    """Predicts the noise in an image.

    images: (channels, side) of an image. Level i has channels * multipliers[i] channels, channels a multiple
    of `divisor`, and `blocks` residual blocks. attention: sides at which there is attention, beside the middle.
    patch: squares of so many pixels a side are folded into channels first (1: none; 2 makes a call about
    four times cheaper; Hoogeboom et al. 2023). side / patch must be divisible by 2 for each level but one.
    divisor: see `kept`; a small one gives small networks more widths. width: the widest call that this network
    can make. group: channels that a GroupNorm takes together, of which `divisor` is a multiple; None: as many
    groups as `divisor` says, at every width. Then narrow calls of small networks have groups of one channel, which
    takes the time step, a number added to each channel, out again. ValueError where the numbers do not fit.
    """

    def __init__(
        self,
        images: tuple[int, int],
        channels: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...],
        patch: int = 1,
        divisor: int = DIVISOR,
        width: float = 1.0,
        group: int | None = None,
    ) -> None:
        super().__init__()
        if channels % divisor:
            raise ValueError(f"{channels} channels are not a multiple of {divisor}")
        if group is not None and divisor % group:
            raise ValueError(f"divisor {divisor} is not a multiple of group {group}")
        if images[1] % (patch * 2 ** (len(multipliers) - 1)):
            halvings = len(multipliers) - 1
            raise ValueError(f"images of side {images[1]} in patches of {patch} cannot be halved {halvings} times")
        self.patch, self.image_channels, side = patch, images[0] * patch**2, images[1] // patch
        self.channels, self.time_channels = channels, 4 * channels
        self.levels, self.blocks = len(multipliers), blocks
        self.grain = grain = Grain(divisor, width, group)
        time, c, held = self.time_channels, channels, grain.held

        self.time1, self.time2 = Layer((channels,), held(time)), Layer((held(time),), held(time))
        self.entry = Layer((self.image_channels,), held(channels), 3, 3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        self.focus = nn.ModuleDict()
        skips = [channels]
        for level, multiplier in enumerate(multipliers):
            for b in range(blocks):
                self.down.append(Block((c,), channels * multiplier, time, grain))
                c = channels * multiplier
                if side >> level in attention:
                    self.focus[f"down{level}-{b}"] = Attention(c, grain)
                skips.append(c)
            if level < self.levels - 1:
                self.shrink.append(Layer((held(c),), held(c), 3, 3))
                skips.append(c)
        self.middle1, self.middle2 = Block((c,), c, time, grain), Block((c,), c, time, grain)
        self.focus["middle"] = Attention(c, grain)
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for b in range(blocks + 1):
                self.up.append(Block((c, skips.pop()), channels * multiplier, time, grain))
                c = channels * multiplier
                if side >> level in attention:
                    self.focus[f"up{level}-{b}"] = Attention(c, grain)
            if level:
                self.grow.append(Layer((held(c),), held(c), 3, 3))
        self.norm = Norm(held(c), grain=grain)
        self.exit = Layer((held(c),), self.image_channels, 3, 3, gain=0.0)

    def draw(self, generator: torch.Generator) -> None:
        """Fresh weights from `generator`."""
        for module in self.modules():
            if isinstance(module, Layer):
                module.draw(generator)

    def forward(self, x: Tensor, t: Tensor, width: float) -> Tensor:
        """x: (B, C, H, W) noisy images; t: (B,) time steps. Returns the noise, as x.

        width: in (0, 1], at most what the network was built for.
        """
        if width > self.grain.width:
            raise ValueError(f"width {width}; this network holds widths up to {self.grain.width}")
        divisor = self.grain.divisor
        time = self.time1([embedding(t, self.channels)], kept(self.time_channels, width, divisor))
        time = self.time2([F.silu(time)], kept(self.time_channels, width, divisor))
        h = self.entry([F.pixel_unshuffle(x, self.patch)], kept(self.channels, width, divisor))
        skips = [h]
        down, up = iter(self.down), iter(self.up)
        for level in range(self.levels):
            for b in range(self.blocks):
                h = self._focus(f"down{level}-{b}", next(down)([h], time, width))
                skips.append(h)
            if level < self.levels - 1:
                h = self.shrink[level]([h], h.shape[1], stride=2)
                skips.append(h)
        h = self._focus("middle", self.middle1([h], time, width))
        h = self.middle2([h], time, width)
        for level in reversed(range(self.levels)):
            for b in range(self.blocks + 1):
                h = self._focus(f"up{level}-{b}", next(up)([h, skips.pop()], time, width))
            if level:
                larger = F.interpolate(h, scale_factor=2.0, mode="nearest")
                h = self.grow[self.levels - 1 - level]([larger], h.shape[1])
        return F.pixel_shuffle(self.exit([F.silu(self.norm(h))], self.image_channels), self.patch)

    def _focus(self, name: str, h: Tensor) -> Tensor:
        if name not in self.focus:
            return h
        focused: Tensor = self.focus[name](h)
        return focused


def held(wide: UNet, narrow: UNet) -> dict[str, Part]:
    """Where the parameters of `narrow` lie in those of `wide`, two networks that differ in nothing but width."""
    parts: dict[str, Part] = {}
    for (name, a), (_, b) in zip(wide.named_modules(), narrow.named_modules(), strict=True):
        if isinstance(a, Layer) and isinstance(b, Layer):
            kernel = tuple(((0, n),) for n in a.weight.shape[2:])
            parts[f"{name}.weight"] = Part(
                tuple(a.weight.shape), (((0, b.out),), _firsts(a.sizes, b.sizes), *kernel)
            )
            parts[f"{name}.bias"] = Part((a.out,), (((0, b.out),),))
        elif isinstance(a, Norm) and isinstance(b, Norm):
            part = Part((sum(a.sizes),), (_firsts(a.sizes, b.sizes),))
            parts[f"{name}.weight"] = parts[f"{name}.bias"] = part
    return parts


def _firsts(sizes: tuple[int, ...], keep: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Ranges of the first `keep[i]` of each of parts of `sizes`, laid end to end; those that touch are one."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for size, k in zip(sizes, keep, strict=True):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], start + k)
        else:
            ranges.append((start, start + k))
        start += size
    return tuple(ranges)


def parameters(net: UNet) -> int:
    """Number of weights that `net` holds."""
    return sum(p.numel() for p in net.parameters())


def macs(net: UNet, images: tuple[int, int], width: float) -> int:
    """Multiply-accumulates of one call on one image at `width`, counted by torch as it runs.

    images: (channels, side). Counts convolutions and matrix products, as published figures do.
    """
    device = next(net.parameters()).device
    x = torch.zeros(1, images[0], images[1], images[1], device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x, torch.zeros(1, dtype=torch.long, device=device), width)
    return int(counter.get_total_flops()) // 2
