"""Training at n bits: weights and activations on a fixed-point grid, gradients straight through.

Kim, Saad, Mozaffari, Debbah, "Green, Quantized Federated Learning over Wireless Networks" (arXiv 2207.09387), as
in their public code: one sign bit and n - 1 fractional bits on [-1, 1], step D = 2^(1-n), stochastic rounding

    Q(w) = floor_D(w) + D * Bernoulli((w - floor_D(w)) / D)        E[Q(w)] = w,  E||Q(w) - w||^2 <= d D^2 / 4

Weights are clipped to [-1, 1] after each step (`clip`), forward and backward run at Q(w), activations are
quantised after the non-linearity; n = 32 is the identity, n = 1 the sign. Ours: only parameters of two or more
dimensions are quantised (biases and the gains of norms are few, and a gain of 1 is not on the grid below it), and
activations may have a reach other than 1. This simulates n bits in float32, so it costs time and saves none: what
n bits would save is the model's to say.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

BITS = (*range(1, 17), 32)

NONLINEARITIES: frozenset[Callable[..., Any]] = frozenset(
    {
        *(functional.relu, functional.relu_, functional.relu6, functional.leaky_relu, functional.leaky_relu_),
        *(functional.elu, functional.selu, functional.celu, functional.gelu, functional.silu, functional.mish),
        *(functional.softplus, functional.hardtanh, functional.hardswish, functional.prelu, functional.tanh),
        *(torch.relu, torch.relu_, torch.tanh, Tensor.relu, Tensor.relu_, Tensor.tanh),
    }
)
"""After these the result is quantised."""


def fixed_point(
    x: Tensor, bits: int, generator: torch.Generator | None = None, reach: float | None = 1.0
) -> Tensor:
    """Q(x / reach) * reach with stochastic rounding; its gradient is that of clipping x to [-reach, reach].

    x: any shape, float32 or bfloat16. bits: 1 (the sign, 0 counts as positive) to 16, or 32 for x itself. reach:
    the largest magnitude there is; None is the least power of two that holds all of x. generator: on x's device.
    """
    if bits not in BITS:
        raise ValueError(f"{bits} bits; training at 1 to 16 bits is simulated, and 32 is without")
    if bits == 32:
        return x
    if reach is None:
        most = x.detach().abs().amax() if x.numel() else x.new_zeros(())
        scale = torch.where(most > 0, 2 ** most.clamp(min=1e-30).log2().ceil(), 1.0)
    else:
        scale = torch.as_tensor(reach, dtype=x.dtype, device=x.device)
    clipped = torch.minimum(torch.maximum(x, -scale), scale)
    with torch.no_grad():
        if bits == 1:
            rounded = torch.where(clipped >= 0, scale, -scale)
        else:
            step = scale * 2.0 ** (1 - bits)
            t = torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32)
            rounded = (clipped / step + t).floor().mul(step).clamp(-scale, scale).to(x.dtype)
    return clipped + (rounded - clipped).detach()


@torch.no_grad()
def clip(net: nn.Module) -> None:
    """Puts the weights that are quantised back to [-1, 1]: after each step of the optimiser."""
    for p in net.parameters():
        if _quantised(p):
            p.clamp_(-1, 1)


@dataclass(frozen=True)
class Quantised:
    """`net` at n bits: called as `net` is. Nothing is set on `net`; gradients arrive at its own parameters.

    weight_bits, activation_bits: as for `fixed_point`. reach: of the activations; 1.0 as published, None for a
    power of two per tensor, which networks without batch norm need. generator: where the rounding is drawn from.
    """

    net: nn.Module
    weight_bits: int
    activation_bits: int
    generator: torch.Generator | None = None
    reach: float | None = 1.0

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """What `net` gives at Q(weights), each non-linearity followed by Q."""
        weights = {
            name: fixed_point(p, self.weight_bits, self.generator)
            for name, p in self.net.named_parameters()
            if _quantised(p)
        }
        with quantised_activations(self.activation_bits, self.generator, self.reach):
            return functional_call(self.net, weights, inputs, options)


@contextmanager
def quantised_activations(
    bits: int, generator: torch.Generator | None = None, reach: float | None = 1.0
) -> Iterator[None]:
    """Within it, what a non-linearity gives is quantised."""
    with _AfterNonlinearities(bits, generator, reach):
        yield


class _AfterNonlinearities(TorchFunctionMode):
    def __init__(self, bits: int, generator: torch.Generator | None, reach: float | None) -> None:
        super().__init__()
        self._how = bits, generator, reach

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return fixed_point(result, *self._how) if func in NONLINEARITIES else result


def _quantised(p: Tensor) -> bool:
    return p.ndim > 1
