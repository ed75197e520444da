"""How large a network is, in the numbers that models of energy ask for: counted as it runs, never by formula."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fleet.domain import NetworkSize


def network_size(net: nn.Module, call: Callable[[], object], inputs: int, batch: int) -> NetworkSize:
    """The size of `net`, of which `call` is one forward pass on one sample of `inputs` values.

    Counts the MACs of convolutions and matrix products, and as outputs those of every module that has weights of
    two or more dimensions. batch: samples of a step of training.
    """
    outputs = 0

    def count(module: nn.Module, given: object, result: Tensor) -> None:
        nonlocal outputs
        outputs += result.numel()

    layers = [m for m in net.modules() if any(p.ndim > 1 for p in m.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    parameters = sum(p.numel() for p in net.parameters())
    return NetworkSize(parameters, counter.get_total_flops() / 2, outputs, inputs, batch)
