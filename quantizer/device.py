"""The pass of quantizer.kernels in PyTorch, for tensors on a GPU: codes are made there, and only those are copied.

The arithmetic is that of the kernels in the same order, floats and integers, so the bytes are the same; the mean
magnitude of `sign` is summed in another order and may differ in its last bit. Tried with tensors on the CPU; no
GPU was there to try it on. What is only kept in part (top-k) and what has error feedback is copied first and
quantised on the host.
"""

import numpy as np
import torch
from torch import Tensor

from quantizer.blockwise import Blockwise
from quantizer.codecs import Affine, Codec, Rounding
from quantizer.tiles import FIXED, GREATEST_SPAN, LEAST_SPAN, MINMAX, SHORT_BITS, SIGN, SIGN_ONE, SYMMETRIC

MASK = 0xFFFFFFFF
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def quantise(
    codec: Codec,
    values: Tensor,
    bits: int,
    block_size: int,
    key: np.uint64,
    first_block: int,
    packed: np.ndarray,
    scales: np.ndarray,
    rounding: Rounding,
) -> int:
    """As Codec.quantise, of `values` (n,) on their device."""
    values = values.float()
    finite = values.isfinite()
    if not finite.all():
        return int((~finite).nonzero()[0])
    if isinstance(codec, Blockwise):
        from quantizer import bnb

        codes, largest = bnb.quantised(codec.name, values, block_size)
        packed[:], scales[:] = codes.cpu().numpy(), largest.cpu().numpy()
        return -1
    if isinstance(codec, Affine):
        codes, found = _codes(codec.form_at(bits), values, bits, block_size, int(key), first_block, rounding)
        packed[:] = _packed(codes, bits).cpu().numpy()
        scales[:] = found.reshape(-1).cpu().numpy()
        return -1
    short = values.to({"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[codec.name])
    beyond = ~short.isfinite()
    if beyond.any():
        return int(beyond.nonzero()[0])
    packed[:] = short.contiguous().view(torch.uint8).cpu().numpy()
    return -1


def _codes(
    form: int, values: Tensor, bits: int, block_size: int, key: int, first_block: int, rounding: Rounding
) -> tuple[Tensor, Tensor]:
    """Codes (n,) int64, and scales (blocks, scales per block) float32."""
    n = values.numel()
    blocks = -(-n // block_size)
    # The last block is filled up with its first value, which changes neither its largest nor its least.
    x = values.new_empty(blocks * block_size)
    x[:n] = values
    x[n:] = values[(blocks - 1) * block_size]
    x = x.view(blocks, block_size)
    if form in (SIGN, SIGN_ONE):
        held = torch.full((blocks,), block_size, device=x.device)
        held[-1] = n - (blocks - 1) * block_size
        total = x.double().abs().sum(1) - (block_size - held) * x[-1:, 0].double().abs()
        scales = (total / held).float()[:, None] if form == SIGN else x.new_empty(blocks, 0)
        return (x >= 0).view(-1)[:n].long(), scales
    zero, top, least = 0, (1 << bits) - 1, torch.zeros(blocks, 1, dtype=torch.float64, device=x.device)
    scales = x.new_empty(blocks, 0)
    if form == SYMMETRIC:
        zero, top = (1 << (bits - 1)) - 1, (1 << bits) - 2
        scales = x.abs().amax(1, keepdim=True)
        per_step = torch.where(scales > 0, zero / scales.double(), 0.0)
    elif form == MINMAX:
        scales = torch.stack([x.amin(1), x.amax(1)], 1)
        least = scales[:, :1].double()
        extent = scales[:, 1:].double() - least
        per_step = torch.where(extent > 0, top / extent, 0.0)
    else:
        zero = 1 << (bits - 1)
        per_step = torch.full_like(least, zero)
    y = (x.double() - least) * per_step
    if form == FIXED:
        y = y.clamp(-zero, zero)
    places = torch.arange(block_size, device=x.device)
    if rounding == "nearest":
        codes = ((y - 0.5).ceil().long() + zero).clamp(0, top)
    else:
        t = _hashed(key, first_block, blocks, places).double() * 2.0**-32
        codes = ((y - t).ceil().long() + zero).clamp(0, top)
        if bits <= SHORT_BITS:
            span = torch.where(per_step > 0, top / per_step, LEAST_SPAN)
            near = (span >= LEAST_SPAN) & (span <= GREATEST_SPAN)
            pairs = _hashed(key, first_block, blocks, places // 2)
            sixteen = torch.where(places % 2 == 1, pairs >> 16, pairs & 0xFFFF) | 1
            v = (x - least.float()) * per_step.float() + (sixteen.float() * 2.0**-16 + zero)
            codes = torch.where(near, v.clamp(0, top).long(), codes)
    return codes.view(-1)[:n], scales


def _hashed(key: int, first_block: int, blocks: int, places: Tensor) -> Tensor:
    """quantizer.tiles.hash_places of `places` (n,) of every block: (blocks, n) int64."""
    device = places.device
    keys = torch.tensor([_mix(key + (first_block + b + 1) * GOLDEN) for b in range(blocks)], dtype=torch.uint64)
    halves = torch.from_numpy(keys.numpy().view(np.uint32).astype(np.int64).reshape(-1, 2)).to(device)
    low, high = halves[:, :1], halves[:, 1:]
    h = places[None] * 0x9E3779B9 + low & MASK
    # A product of two numbers of 32 bits may leave int64; its lower 32 bits are right all the same.
    h = (h ^ (h >> 16)) * 0x7FEB352D + high & MASK
    h = (h ^ (h >> 15)) * 0x846CA68B & MASK
    return h ^ (h >> 16)


def _mix(x: int) -> int:
    """quantizer.tiles.mix."""
    x %= 2**64
    x = (x ^ (x >> 30)) * FIRST % 2**64
    x = (x ^ (x >> 27)) * SECOND % 2**64
    return x ^ (x >> 31)


def _packed(codes: Tensor, bits: int) -> Tensor:
    """`codes` (n,) as one string of bits: (ceil(n * bits / 8),) uint8."""
    if bits == 8:
        return codes.to(torch.uint8)
    if bits == 16:
        return torch.stack([codes & 255, codes >> 8], 1).to(torch.uint8).view(-1)
    n = codes.numel()
    groups = torch.nn.functional.pad(codes, (0, -n % 8)).view(-1, 8)
    places = torch.arange(8, device=codes.device) * bits
    out = []
    for byte in range(bits):  # 8 codes fill `bits` bytes
        shifts = places - 8 * byte
        parts = torch.where(shifts >= 0, groups << shifts.clamp(0, 8), groups >> (-shifts).clamp(0, 63)) & 255
        out.append(parts.sum(1))  # no two codes share a bit
    return torch.stack(out, 1).to(torch.uint8).view(-1)[: -(-n * bits // 8)]
