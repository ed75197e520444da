"""Calls of bitsandbytes, which imports PyTorch: a module of its own, imported when one of its codecs codes
something.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from bitsandbytes import functional
from bitsandbytes.optim.adam import Adam8bit


def quantise(name: str, values: np.ndarray, block_size: int, packed: np.ndarray, scales: np.ndarray) -> None:
    """Codes and scales of `values` (n,) float32."""
    codes, largest = quantised(name, torch.from_numpy(np.array(values)), block_size)
    packed[:] = codes.numpy()
    scales[:] = largest.numpy()


def quantised(name: str, values: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, packed (ceil(n * bits / 8),) uint8, and scales of `values` (n,) float32, on their device."""
    if name == "int8":
        codes, state = functional.quantize_blockwise(
            values, code=table(name).to(values.device), blocksize=block_size
        )
    else:
        codes, state = functional.quantize_4bit(values, blocksize=block_size, quant_type=name)
    return codes.view(-1), state.absmax


def dequantise(name: str, packed: np.ndarray, block_size: int, scales: np.ndarray, out: np.ndarray) -> None:
    """Values of the codes into `out` (n,) float32."""
    codes, absmax = torch.from_numpy(np.array(packed)), torch.from_numpy(np.array(scales))
    if name == "int8":
        values = functional.dequantize_blockwise(codes, absmax=absmax, code=table(name), blocksize=block_size)
    else:
        shape = torch.Size([out.size])
        make: Callable[..., Any] = functional.QuantState
        state = make(absmax, shape, table(name), block_size, quant_type=name, dtype=torch.float32)
        values = functional.dequantize_4bit(codes.view(-1, 1), state)
    out[:] = values.reshape(-1).numpy()


def adam8bit(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam with moments in 8 bits (Dettmers et al. 2022) for tensors of 4,096 values and more."""
    make: Callable[..., torch.optim.Optimizer] = Adam8bit
    return make(parameters, lr=lr)


@cache
def table(name: str) -> torch.Tensor:
    """What the codes stand for, times the scale: (2^bits,) float32."""
    make: Callable[..., torch.Tensor] = (
        functional.create_dynamic_map if name == "int8" else partial(functional.get_4bit_type, name, device="cpu")
    )
    return make()
