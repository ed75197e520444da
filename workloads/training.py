"""What the workloads that train a torch network by an assignment have in common: their arguments, checked."""

import numpy as np
import torch
from torch import Tensor, nn

from fleet.domain import Assignment
from fleet.errors import BadRequest
from fleet.experiment import PRECISIONS
from quantizer import qat
from workloads.protocol import Params, Shard


def training_bits(precision: str) -> int:
    """Bits of weights and activations in training; BadRequest lists the precisions there are."""
    known: dict[str, int] = dict.fromkeys(PRECISIONS, 32) | {f"q{bits}": bits for bits in qat.BITS if bits < 32}
    if precision not in known:
        raise BadRequest(f"precision {precision!r}; known are {', '.join(PRECISIONS)} and q1 to q16")
    return known[precision]


def check(shard: Shard, assignment: Assignment) -> None:
    """BadRequest if the shard does not exist, the width is outside (0, 1] or there are no steps."""
    if not 0 <= shard.index < shard.of:
        raise BadRequest(f"shard {shard.index} of {shard.of}")
    if not 0 < assignment.width <= 1:
        raise BadRequest(f"width {assignment.width} is not in (0, 1]")
    if assignment.train_steps < 1:
        raise BadRequest(f"train_steps {assignment.train_steps}; at least 1 is needed")


def put(params: Params, net: nn.Module) -> None:
    """Copies `params` into `net`; BadRequest names the first that does not fit."""
    own = {n: tuple(p.shape) for n, p in net.named_parameters()}
    got = {n: p.shape for n, p in params.items()}
    if wrong := sorted(n for n in own.keys() | got.keys() if own.get(n) != got.get(n)):
        name = wrong[0]
        raise BadRequest(
            f"{len(wrong)} of {len(own)} parameters do not fit this network; {name!r} has shape "
            f"{got.get(name, 'none')} instead of {own.get(name, 'none')}"
        )
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(torch.tensor(params[name]))


def scaled(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) as float32 (N, C, H, W) in [-1, 1]."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
