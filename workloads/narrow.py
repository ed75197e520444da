"""Which part of a wide model a narrow one is: what a device of some width receives, trains and sends.

A narrow network of a slimmable one holds a block of each tensor: along every dimension one or more ranges. The
coordinator cuts models by it, checks updates against it, and averages each value over those who trained it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Protocol, runtime_checkable

import numpy as np

from workloads.protocol import Params

Ranges = tuple[tuple[int, int], ...]
"""(start, stop) along one dimension, rising and apart."""

Block = tuple[slice, ...]


@dataclass(frozen=True)
class Part:
    """The part of a tensor of `shape` that lies in `ranges`, of each dimension."""

    shape: tuple[int, ...]
    ranges: tuple[Ranges, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """Shape of the part."""
        return tuple(sum(stop - start for start, stop in along) for along in self.ranges)

    def blocks(self) -> Iterator[tuple[Block, Block]]:
        """Where each block lies: in the whole tensor, and in the part."""
        for placed in product(*(tuple(_laid(along)) for along in self.ranges)):
            yield tuple(slice(*whole) for whole, _ in placed), tuple(slice(*own) for _, own in placed)

    def of(self, whole: np.ndarray) -> np.ndarray:
        """The part of `whole`, in memory of its own."""
        part = np.empty(self.kept, whole.dtype)
        for there, here in self.blocks():
            part[here] = whole[there]
        return part

    def add(self, part: np.ndarray, whole: np.ndarray) -> None:
        """Adds `part` to where it belongs in `whole`."""
        for there, here in self.blocks():
            whole[there] += part[here]


Parts = Mapping[str, Part]
"""By the name of the tensor."""


@runtime_checkable
class Flexible(Protocol):
    """A workload with devices of several widths, each of which holds a part of the model."""

    def parts(self, width: float) -> Parts | None:
        """What a device of `width` holds of each tensor; None where that is the whole model."""


def parts_of(workload: object, width: float) -> Parts | None:
    """What of a model a device of `width` receives, trains and sends in this workload; None: all of it."""
    return workload.parts(width) if isinstance(workload, Flexible) else None


def cut(params: Params, parts: Parts | None) -> dict[str, np.ndarray]:
    """The narrow model in `params`; with None all of them."""
    return dict(params) if parts is None else {name: parts[name].of(tensor) for name, tensor in params.items()}


def _laid(along: Ranges) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    at = 0
    for start, stop in along:
        yield (start, stop), (at, at + stop - start)
        at += stop - start
