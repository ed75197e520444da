"""The sandwich rule: on one batch the widest network, the narrowest and some in between; then one step of the
optimiser.

Yu and Huang 2019 ("Universally Slimmable Networks"), for diffusion as in DDSM (arXiv 2310.03337). The gradients of
the losses are added. A device that can afford less than the whole network plays it up to the width it has.

The weights of a narrow network belong to all wider ones too, whose gradients on them point elsewhere, while what
only wide networks have is theirs alone. So a narrow loss may count for more, w^-exponent: Adam's steps do not grow
with the gradient, so that the rest of a wide network moves as much as before. [R]
"""

import torch

NARROWEST = 0.25


def widths(channels: int, divisor: int, widest: float) -> tuple[float, ...]:
    """The widths from NARROWEST to `widest` that a network of `channels` has, rising, both ends among them.

    Those between are the multiples of divisor / channels: there every layer keeps just its share of channels.
    """
    grid = {k * divisor / channels for k in range(1, channels // divisor)}
    return (*sorted(w for w in grid | {NARROWEST} if NARROWEST <= w < widest), widest)


def sandwich(among: tuple[float, ...], generator: torch.Generator, between: int = 1) -> tuple[float, ...]:
    """The widths of one step, rising: the ends of `among`, and up to `between` drawn from those between."""
    inner, drawn = list(among[1:-1]), list[float]()
    for _ in range(min(between, len(inner))):
        drawn.append(inner.pop(int(torch.randint(len(inner), (), generator=generator))))
    return tuple(sorted({among[0], *drawn, among[-1]}))


def shares(at: tuple[float, ...], exponent: float) -> tuple[float, ...]:
    """What the loss at each width of `at` counts: in the proportion of w^-exponent, 1 on average."""
    each = [width**-exponent for width in at]
    return tuple(share * len(each) / sum(each) for share in each)
