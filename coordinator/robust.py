"""Aggregation that a few bad updates cannot ruin.

    norm clipping      w_k update_k min(1, C / |update_k|)           an update pulls no further than C
    median             the median over k, for each value by itself   Yin et al. 2018, with one block per device
    trimmed mean       the same without the lowest and the highest   floor(trim K) of them at either end

Median and trimmed mean do not weigh: a device that claims many samples gains nothing. Both hold while fewer than
half, and than `trim`, of the updates are bad. They need all updates at once, but only tile by tile: what is held
is the result, a tile of TILE_BYTES and the pages under it, however many updates there are. Rows are sorted by a
network of comparisons (Batcher 1968), so that what is done does not depend on the values, and the rows stand in
the order of the devices' names: the bytes are the same whatever the order of arrival.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import numpy as np

import quantizer
from coordinator.blobs import BlobStore, forget_pages, mapped_together
from fleet.errors import BadRequest, CorruptUpdate
from fleet.experiment import AggregationSection
from quantizer import PayloadError
from quantizer.chunks import at_once

COLUMNS = 1 << 13
"""Values of a row that are sorted together: two such rows stay in the first cache."""

TOUCHED_VALUES = 1 << 22
"""Values of each payload read before its pages are given back."""

Arrays = Mapping[str, np.ndarray]


class Update(Protocol):
    """An update that counts."""

    @property
    def device(self) -> str:
        """Who made it."""

    @property
    def blobs(self) -> BlobStore:
        """Where its payload is."""

    @property
    def digest(self) -> str:
        """The payload's name there."""


@dataclass(frozen=True)
class Rules:
    """What an experiment asks for, and the norm of each device's update where that is needed for it.

    share: what the result is multiplied with.
    """

    section: AggregationSection
    norms: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0

    @property
    def combines(self) -> bool:
        """Whether it is other than a sum."""
        return self.section.rule != "mean"

    def factor(self, device: str) -> float:
        """What the update of `device` is multiplied with, so that its norm is at most the clip."""
        clip = self.section.clip_norm
        if clip is None:
            return self.share
        norm = self.norms.get(device)
        if norm is None:
            raise BadRequest(f"the norm of the update of {device} is not known; it cannot be clipped to {clip:g}")
        return self.share * (clip / norm if norm > clip else 1.0)


def combine(updates: Sequence[Update], rules: Rules, scale: float, out: Arrays) -> None:
    """`scale` times the median or trimmed mean of `updates` into `out`, arrays of the model's shapes.

    BadRequest where there is no update; CorruptUpdate where one does not fit.
    """
    if not updates:
        raise BadRequest(f"a {rules.section.rule} of no updates")
    ordered = sorted(updates, key=lambda u: (u.device, u.digest))
    factors = np.array([scale * rules.factor(u.device) for u in ordered], np.float64)
    shapes = {name: array.shape for name, array in out.items()}
    keep = _kept(len(ordered), rules.section)
    touched = 0
    with mapped_together([(u.blobs, u.digest) for u in ordered]) as payloads:
        try:
            for name, (start, stop), values in quantizer.across(payloads, shapes):
                _reduce(values, factors, keep, out[name].reshape(-1)[start:stop])
                touched += stop - start
                if touched >= TOUCHED_VALUES:
                    forget_pages(payloads)
                    touched = 0
        except PayloadError as error:
            devices = ", ".join(u.device for u in ordered)
            raise CorruptUpdate(f"the update of one of {devices}: {error}") from error


def _kept(count: int, section: AggregationSection) -> slice:
    """Which of `count` sorted values are averaged: the middle one or two, or what is left after trimming."""
    cut = (count - 1) // 2 if section.trim is None else int(section.trim * count)
    return slice(cut, count - cut)


def _reduce(values: np.ndarray, factors: np.ndarray, keep: slice, out: np.ndarray) -> None:
    """Into `out` (n,) the mean of the `keep` of each sorted column of `values` (k, n), rows times `factors`."""

    def some(columns: slice) -> None:
        part = values[:, columns]
        for row, factor in zip(part, factors, strict=True):
            if factor != 1:
                np.multiply(row, factor, out=row, casting="same_kind")
        _sort_columns(part)
        kept = part[keep]
        total = kept[0].astype(np.float64)
        for row in kept[1:]:
            total += row
        np.divide(total, len(kept), out=out[columns], casting="same_kind")

    at_once(some, [slice(start, start + COLUMNS) for start in range(0, out.size, COLUMNS)])


def _sort_columns(values: np.ndarray) -> None:
    """Sorts each column of `values` (k, n)."""
    spare = np.empty(values.shape[1], values.dtype)
    for low, high in network(values.shape[0]):
        np.minimum(values[low], values[high], out=spare)
        np.maximum(values[low], values[high], out=values[high])
        values[low] = spare


@cache
def network(rows: int) -> tuple[tuple[int, int], ...]:
    """Pairs to be put in order, one after the other, that sort any `rows` values: odd-even merging."""
    return tuple(_pairs(rows))


def _pairs(rows: int) -> Iterator[tuple[int, int]]:
    p = 1
    while p < rows:
        k = p
        while k >= 1:
            for j in range(k % p, rows - k, 2 * k):
                for i in range(min(k, rows - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        yield i + j, i + j + k
            k //= 2
        p *= 2
