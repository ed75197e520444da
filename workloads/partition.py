"""Cutting a labelled data set into shards: a list of index arrays in which every sample occurs once.

Pure functions of (labels, shards, seed): every device computes the same cut and takes its own part.
labels: (N,) integers. Each array is sorted and none is empty. BadExperiment where no such cut exists.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fleet.errors import BadExperiment
from fleet.experiment import Section

Labels = NDArray[np.int64]
Cut = list[NDArray[np.int64]]


class Iid(Section):
    """Shards alike: a shuffled deck, dealt evenly."""

    scheme: Literal["iid"]
    seed: int = Field(ge=0)


class Dirichlet(Section):
    """Shards with class proportions drawn from Dirichlet(alpha): small alpha, unlike shards."""

    scheme: Literal["dirichlet"]
    alpha: float = Field(gt=0)
    seed: int = Field(ge=0)


class ByClass(Section):
    """Shards that hold `classes` classes each."""

    scheme: Literal["by-class"]
    classes: int = Field(ge=1)
    seed: int = Field(ge=0)


Partition = Annotated[Iid | Dirichlet | ByClass, Field(discriminator="scheme")]


def cut(labels: Labels, shards: int, how: Partition) -> Cut:
    """The cut that an experiment asks for."""
    match how:
        case Iid(seed=seed):
            return iid(labels, shards, seed)
        case Dirichlet(alpha=alpha, seed=seed):
            return dirichlet(labels, shards, alpha, seed)
        case ByClass(classes=classes, seed=seed):
            return by_class(labels, shards, classes, seed)


def iid(labels: Labels, shards: int, seed: int) -> Cut:
    """Shards whose sizes differ by at most one, drawn without regard to the labels."""
    _check(labels, shards)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return [np.sort(part) for part in np.array_split(shuffled, shards)]


def dirichlet(labels: Labels, shards: int, alpha: float, seed: int) -> Cut:
    """Each class divided among the shards by its own draw from Dirichlet(alpha) (Hsu et al. 2019).

    A shard left empty, as happens with small alpha, takes one random sample from the then largest shard.
    """
    _check(labels, shards)
    rng = np.random.default_rng(seed)
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(rng.dirichlet(np.full(shards, alpha)))[:-1] * len(members)
        for shard, part in enumerate(np.split(members, np.rint(ends).astype(np.int64))):
            owner[part] = shard
    for shard in range(shards):
        sizes = np.bincount(owner, minlength=shards)
        if sizes[shard] == 0:
            owner[rng.choice(np.flatnonzero(owner == sizes.argmax()))] = shard
    return _by_owner(owner, shards)


def by_class(labels: Labels, shards: int, classes: int, seed: int) -> Cut:
    """Each shard holds exactly `classes` classes; a class held by several shards is divided evenly.

    The classes, in random order, are dealt round and round, so that each is held equally often, give or
    take one. Needs shards * classes of at least the number of classes there are, or some would go unused.
    """
    _check(labels, shards)
    rng = np.random.default_rng(seed)
    there = rng.permutation(np.unique(labels))
    if classes > len(there):
        raise BadExperiment(f"partition: {classes} classes per shard, but the data has {len(there)}")
    if shards * classes < len(there):
        raise BadExperiment(
            f"partition: {shards} shards of {classes} classes hold {shards * classes} of {len(there)} classes"
        )
    owner = np.empty(len(labels), np.int64)
    for place, label in enumerate(there):
        holders = [slot // classes for slot in range(place, shards * classes, len(there))]
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(holders):
            raise BadExperiment(f"partition: class {label} has {len(members)} samples for {len(holders)} shards")
        for shard, part in zip(holders, np.array_split(members, len(holders)), strict=True):
            owner[part] = shard
    return _by_owner(owner, shards)


def _check(labels: Labels, shards: int) -> None:
    if shards < 1:
        raise BadExperiment(f"partition: {shards} shards; at least 1 is needed")
    if shards > len(labels):
        raise BadExperiment(f"partition: {shards} shards of {len(labels)} samples; some would be empty")


def _by_owner(owner: NDArray[np.int64], shards: int) -> Cut:
    return [np.flatnonzero(owner == shard) for shard in range(shards)]
