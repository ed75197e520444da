"""What wattbed asks of anything it trains. Bring your own: implement Workload, name it as an entry point.

    [project.entry-points."wattbed.workloads"]
    mine = "my_package:MyWorkload"

Parameters travel as a mapping from name to a float32 NumPy array; the names and shapes never change
within a run. Everything random comes from the seed that is passed in, so that a round repeated after
a crash gives the same bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fleet.domain import Assignment, Evaluation, NetworkSize
from fleet.errors import BadExperiment

Params = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """Part `index` of `of` of the training data, cut by the workload's own partition."""

    index: int
    of: int


@dataclass(frozen=True)
class Outcome:
    """What local training gave. `update` is trained minus received, `samples` its weight in the mean."""

    update: dict[str, np.ndarray]
    samples: int
    loss: float


class Workload(Protocol):
    """Something that can be trained in parts and evaluated as a whole."""

    def __init__(self, options: Mapping[str, Any], data: Path | None) -> None:
        """Checks `options`; BadExperiment names a wrong key. `data` is a folder of data sets (WATTBED_DATA).

        Cheap: reads no data. `check` does.
        """

    def check(self) -> None:
        """Raises DataMissing or DataCorrupt if this machine cannot run the workload."""

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """The untrained model."""

    def train(
        self,
        params: dict[str, np.ndarray],
        shard: Shard,
        assignment: Assignment,
        progress: Callable[[int, float | None], None],
    ) -> Outcome:
        """Trains `assignment.train_steps` steps from `params`, which are read-only.

        Uses assignment.seed, .precision, .width and .train_steps. Calls `progress(steps done, loss)`
        after each step; what `progress` raises ends the training (the assignment was cancelled).
        """

    def evaluate(self, params: Params, seed: int) -> Evaluation:
        """Numbers about a model on held-out data, each with what it was computed with."""


@runtime_checkable
class Sized(Protocol):
    """A workload that can say how large its network is; one that cannot goes without models of energy."""

    def network_size(self) -> NetworkSize:
        """In the numbers of models of energy. Reads no data."""


def load(name: str, options: Mapping[str, Any], data: Path | None) -> Workload:
    """The workload called `name`; BadExperiment lists the known ones."""
    known = {e.name: e for e in entry_points(group="wattbed.workloads")}
    if name not in known:
        raise BadExperiment(f"workload.name = {name!r}: known are {', '.join(sorted(known))}")
    workload: Workload = known[name].load()(options, data)
    return workload
