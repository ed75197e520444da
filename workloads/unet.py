"""The U-Net of DDPM (Ho et al. 2020), slimmable as in DDSM (arXiv 2310.03337): width is said at each call.

At width w every layer keeps its first `kept(C, w)` of C channels, so all widths share one set of weights and
a narrow network is a slice of the wide one. GroupNorm keeps its number of groups and slices its affine.
Where a skip is concatenated, the two halves are sliced separately. The first convolution takes all image
channels and the last one gives all of them.

With channels 128, multipliers (1, 2, 2, 2), 2 blocks and attention at 16 this is DDPM's network for
CIFAR-10, parameter for parameter: 35,746,307.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

GROUPS = 8
"""Groups of every GroupNorm at every width, and what every number of channels is a multiple of."""


def kept(channels: int, width: float) -> int:
    """Channels that a layer of `channels` keeps at `width` in (0, 1]: make_divisible of MobileNet, divisor 8.

    The nearest multiple of 8, at least 8, and never more than 10 % below width*channels.
    """
    if not 0 < width <= 1:
        raise ValueError(f"width {width} is not in (0, 1]")
    wanted = width * channels
    rounded = max(GROUPS, int(wanted + GROUPS / 2) // GROUPS * GROUPS)
    return min(channels, rounded if rounded >= 0.9 * wanted else rounded + GROUPS)


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
    """GroupNorm over the concatenation of inputs of `sizes` channels each."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.ones(sum(sizes)))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))

    def forward(self, *inputs: Tensor) -> Tensor:
        """inputs: one (B, C_i, H, W) per size. Returns (B, sum of C_i, H, W)."""
        keep = [i.shape[1] for i in inputs]
        x = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
        weight, bias = (first(p, self.sizes, keep, dim=0) for p in (self.weight, self.bias))
        return F.group_norm(x, GROUPS, weight, bias, eps=1e-6)


class Block(nn.Module):
    """Residual block of DDPM: norm, SiLU, conv, plus time, norm, SiLU, conv, plus the input."""

    def __init__(self, sizes: tuple[int, ...], out: int, time: int) -> None:
        super().__init__()
        self.out = out
        self.norm1 = Norm(*sizes)
        self.conv1 = Layer(sizes, out, 3, 3)
        self.time = Layer((time,), out)
        self.norm2 = Norm(out)
        self.conv2 = Layer((out,), out, 3, 3, gain=0.0)
        self.shortcut = None if sizes == (out,) else Layer(sizes, out, 1, 1)

    def forward(self, inputs: list[Tensor], time: Tensor, width: float) -> Tensor:
        """inputs: one (B, C_i, H, W) per size; time: (B, D). Returns (B, kept(out, width), H, W)."""
        out = kept(self.out, width)
        normed = torch.split(F.silu(self.norm1(*inputs)), [i.shape[1] for i in inputs], dim=1)
        h = self.conv1(list(normed), out) + self.time([F.silu(time)], out)[:, :, None, None]
        h = self.conv2([F.silu(self.norm2(h))], out)
        result: Tensor = h + (inputs[0] if self.shortcut is None else self.shortcut(inputs, out))
        return result


class Attention(nn.Module):
    """Self-attention over the pixels, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.q, self.k, self.v = (Layer((channels,), channels, 1, 1) for _ in range(3))
        self.proj = Layer((channels,), channels, 1, 1, gain=0.0)

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
    of 8, and `blocks` residual blocks. attention: sides at which there is attention, beside the middle.
    patch: squares of so many pixels a side are folded into channels first (1: none; 2 makes a call about
    four times cheaper; Hoogeboom et al. 2023). side / patch must be divisible by 2 for each level but one.
    ValueError where the numbers do not fit.
    """

    def __init__(
        self,
        images: tuple[int, int],
        channels: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...],
        patch: int = 1,
    ) -> None:
        super().__init__()
        if channels % GROUPS:
            raise ValueError(f"{channels} channels are not a multiple of {GROUPS}")
        if images[1] % (patch * 2 ** (len(multipliers) - 1)):
            halvings = len(multipliers) - 1
            raise ValueError(f"images of side {images[1]} in patches of {patch} cannot be halved {halvings} times")
        self.patch, self.image_channels, side = patch, images[0] * patch**2, images[1] // patch
        self.channels, self.time_channels = channels, 4 * channels
        self.levels, self.blocks = len(multipliers), blocks
        time, c = self.time_channels, channels

        self.time1, self.time2 = Layer((channels,), time), Layer((time,), time)
        self.entry = Layer((self.image_channels,), channels, 3, 3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        self.focus = nn.ModuleDict()
        skips = [channels]
        for level, multiplier in enumerate(multipliers):
            for b in range(blocks):
                self.down.append(Block((c,), channels * multiplier, time))
                c = channels * multiplier
                if side >> level in attention:
                    self.focus[f"down{level}-{b}"] = Attention(c)
                skips.append(c)
            if level < self.levels - 1:
                self.shrink.append(Layer((c,), c, 3, 3))
                skips.append(c)
        self.middle1, self.middle2 = Block((c,), c, time), Block((c,), c, time)
        self.focus["middle"] = Attention(c)
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for b in range(blocks + 1):
                self.up.append(Block((c, skips.pop()), channels * multiplier, time))
                c = channels * multiplier
                if side >> level in attention:
                    self.focus[f"up{level}-{b}"] = Attention(c)
            if level:
                self.grow.append(Layer((c,), c, 3, 3))
        self.norm = Norm(c)
        self.exit = Layer((c,), self.image_channels, 3, 3, gain=0.0)

    def draw(self, generator: torch.Generator) -> None:
        """Fresh weights from `generator`."""
        for module in self.modules():
            if isinstance(module, Layer):
                module.draw(generator)

    def forward(self, x: Tensor, t: Tensor, width: float) -> Tensor:
        """x: (B, C, H, W) noisy images; t: (B,) time steps; width in (0, 1]. Returns the noise, as x."""
        time = self.time1([embedding(t, self.channels)], kept(self.time_channels, width))
        time = self.time2([F.silu(time)], kept(self.time_channels, width))
        h = self.entry([F.pixel_unshuffle(x, self.patch)], kept(self.channels, width))
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


def narrowed(net: UNet, width: float) -> dict[str, Tensor]:
    """The part of each parameter of `net` that a call at `width` uses, by the parameter's name."""
    parts = {}
    for name, module in net.named_modules():
        if isinstance(module, Layer):
            outer = module in (net.entry, net.time1)
            keep = [s if outer else kept(s, width) for s in module.sizes]
            out = module.out if module is net.exit else kept(module.out, width)
            parts[f"{name}.weight"] = first(module.weight[:out], module.sizes, keep, dim=1)
            parts[f"{name}.bias"] = module.bias[:out]
        elif isinstance(module, Norm):
            keep = [kept(s, width) for s in module.sizes]
            parts[f"{name}.weight"] = first(module.weight, module.sizes, keep, dim=0)
            parts[f"{name}.bias"] = first(module.bias, module.sizes, keep, dim=0)
    return parts


def macs(net: UNet, images: tuple[int, int], width: float) -> int:
    """Multiply-accumulates of one call on one image at `width`, counted by torch as it runs.

    images: (channels, side). Counts convolutions and matrix products, as published figures do.
    """
    device = next(net.parameters()).device
    x = torch.zeros(1, images[0], images[1], images[1], device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x, torch.zeros(1, dtype=torch.long, device=device), width)
    return int(counter.get_total_flops()) // 2
