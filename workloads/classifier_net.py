"""The convolutional classifier of Kim et al. (arXiv 2207.09387): 3x3 convolutions, hidden layers, classes.

    convolution - batch norm - leaky ReLU - (maximum of 2x2)      for each of `channels`; then the mean over pixels
    linear - batch norm - leaky ReLU                              for each of `hidden`; then the classes

With channels 128, 64, 64, 32, 32 and hidden 2000, 100 this is their network [P]. Where they pool is not published,
nor that the last convolution goes without batch norm: it does here, because then one channel of images in and ten
classes out make 411,598 parameters, which is their d to the last digit.

Batch norm's mean and variance are no part of the model (docs/decisions/0015): training takes those of the
batch, and who uses a model estimates them from images (`settle`).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    """images: (channels, side); pool: the convolutions, counted from 1, that are followed by a maximum over 2x2.

    ValueError where the numbers do not fit.
    """

    def __init__(
        self,
        images: tuple[int, int],
        classes: int,
        channels: tuple[int, ...],
        pool: tuple[int, ...],
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        if wrong := [at for at in pool if not 1 <= at <= len(channels)]:
            raise ValueError(f"pool names convolution {wrong[0]}; there are 1 to {len(channels)}")
        if len(set(pool)) < len(pool):
            raise ValueError(f"pool names a convolution twice: {', '.join(map(str, pool))}")
        if images[1] < 2 ** len(pool):
            raise ValueError(f"images of side {images[1]} cannot be halved {len(pool)} times")
        self.pool = frozenset(pool)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        inputs = images[0]
        for at, out in enumerate(channels, 1):
            self.convolutions.append(nn.Conv2d(inputs, out, 3, padding=1))
            self.norms.append(nn.BatchNorm2d(out, momentum=None) if at < len(channels) else nn.Identity())
            inputs = out
        self.hidden, self.hidden_norms = nn.ModuleList(), nn.ModuleList()
        for out in hidden:
            self.hidden.append(nn.Linear(inputs, out))
            self.hidden_norms.append(nn.BatchNorm1d(out, momentum=None))
            inputs = out
        self.classes = nn.Linear(inputs, classes)

    def draw(self, generator: torch.Generator) -> None:
        """Fresh weights from `generator`, by He et al. 2015; biases 0, gains 1."""
        with torch.no_grad():
            for layer in (*self.convolutions, *self.hidden, self.classes):
                assert isinstance(layer, nn.Conv2d | nn.Linear)
                nn.init.kaiming_uniform_(layer.weight, a=0.01, nonlinearity="leaky_relu", generator=generator)
                assert layer.bias is not None
                layer.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W) in [-1, 1]. Returns logits (B, classes)."""
        x = images
        for at, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), 1):
            x = F.leaky_relu(norm(convolution(x)))
            if at in self.pool:
                x = F.max_pool2d(x, 2)
        x = x.mean(dim=(2, 3))
        for linear, norm in zip(self.hidden, self.hidden_norms, strict=True):
            x = F.leaky_relu(norm(linear(x)))
        logits: Tensor = self.classes(x)
        return logits


@torch.no_grad()
def settle(net: ConvNet, batches: Iterable[Tensor]) -> None:
    """Sets batch norm's mean and variance to those of `batches`, and `net` to use them."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
    net.train()
    for images in batches:
        net(images)
    net.eval()
