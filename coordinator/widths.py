"""The mean of updates of several widths: each value over those who trained it.

    mean[i] = sum_{k holds i} w_k update_k[i]  /  sum_{k holds i} w_k        0 where nobody holds i

as in HeteroFL (Diao et al. 2021). Updates of one width are added up in the order of the devices' names in a
running sum of that width; then the widths, rising. The result has the same bytes whatever the order of arrival,
and memory grows with the number of widths, not of devices.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from fleet.errors import BadExperiment, PlanFailed
from fleet.experiment import Experiment
from optimizer.policy import Policy, SaysWidths
from workloads.narrow import Parts, parts_of

Arrays = dict[str, np.ndarray]

Widths = Mapping[float, Parts]
"""What updates of a width hold of the model; a width that is not here holds all of it."""

WHOLE: Widths = {}


def parts_by_width(workload: object, widths: Collection[float], experiment: Experiment) -> Widths:
    """What devices of `widths` hold of the model; PlanFailed where updates of parts could not be averaged."""
    parts = {width: held for width in widths if (held := parts_of(workload, width)) is not None}
    if parts and (option := _whole_only(experiment)):
        narrow = ", ".join(f"{w:g}" for w in sorted(parts))
        raise PlanFailed(f"{option} takes whole updates only; widths {narrow} send parts")
    return parts


def check_widths(workload: object, policy: Policy, experiment: Experiment) -> None:
    """BadExperiment where `policy` may ask for updates of parts that could not be averaged, as far as it says."""
    if isinstance(policy, SaysWidths) and _whole_only(experiment):
        try:
            parts_by_width(workload, policy.widths, experiment)
        except PlanFailed as error:
            raise BadExperiment(f"policy.options: {error}") from None


def _whole_only(experiment: Experiment) -> str | None:
    """The option of an experiment that updates of parts do not go with."""
    rules = experiment.aggregation
    if rules is not None and rules.rule != "mean":
        return f"aggregation.rule {rules.rule!r}"
    if experiment.secure is not None:
        return "privacy.secure_aggregation"
    return "privacy.differential" if experiment.differential is not None else None


class Term(Protocol):
    """An update that counts, with the width of its assignment."""

    @property
    def width(self) -> float:
        """In (0, 1]."""


T = TypeVar("T", bound=Term)


def add_each_over_its_own(
    terms: Sequence[T],
    shares: Sequence[float],
    widths: Widths,
    sums: Arrays,
    add: Callable[[Sequence[T], Arrays], None],
) -> None:
    """Makes of `sums`, zeros of the model's shapes, what `terms` add up to, each value over the share of those who
    hold it.

    shares: the weight of each term in a mean; they add up to 1. `add` adds weight * payload of each of some terms
    to arrays of just their shapes.
    """
    weighed = list(zip(terms, shares, strict=True))
    add([t for t, _ in weighed if t.width not in widths], sums)
    cover = sum(share for t, share in weighed if t.width not in widths)
    parts = []
    for width in sorted({t.width for t in terms} & widths.keys()):
        held = {name: np.zeros(widths[width][name].kept, np.float32) for name in sums}
        add([t for t in terms if t.width == width], held)
        parts.append((widths[width], held, sum(share for t, share in weighed if t.width == width)))
    for name, total in sums.items():
        weights = np.full(total.shape, cover, np.float32)
        for holds, held, share in parts:
            holds[name].add(held[name], total)
            holds[name].add(np.broadcast_to(np.float32(share), holds[name].kept), weights)
        np.divide(total, weights, out=total, where=weights > 0)
