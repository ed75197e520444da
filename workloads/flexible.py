"""The sandwich rule: on one batch the widest network, the narrowest and one in between; then one step of the
optimiser.

Yu and Huang 2019 ("Universally Slimmable Networks"), for diffusion as in DDSM (arXiv 2310.03337). The gradients of
the three losses are added. A device that can afford less than the whole network plays it up to the width it has.
"""

import torch

NARROWEST = 0.25


def widths(channels: int, divisor: int, widest: float) -> tuple[float, ...]:
    """The widths from NARROWEST to `widest` that a network of `channels` has, rising, both ends among them.

    Those between are the multiples of divisor / channels: there every layer keeps just its share of channels.
    """
    grid = {k * divisor / channels for k in range(1, channels // divisor)}
    return (*sorted(w for w in grid | {NARROWEST} if NARROWEST <= w < widest), widest)


def sandwich(among: tuple[float, ...], generator: torch.Generator) -> tuple[float, ...]:
    """The widths of one step, rising: the ends of `among`, and one drawn from those between."""
    if len(among) < 3:
        return among
    drawn = int(torch.randint(1, len(among) - 1, (), generator=generator))
    return among[0], among[drawn], among[-1]
