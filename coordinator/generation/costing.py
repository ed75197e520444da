"""What batches cost each device: fitted again when a device has made another one, carried over with the log."""

from collections.abc import Callable, Iterable, Mapping

from coordinator.generation.book import Book, Shape, shape_of
from coordinator.generation.fleet_view import kind_of
from coordinator.machine.state import State
from fleet.generation import ModelRef
from optimizer.generation.costs import BatchCost, fitted, preset


class Costs:
    """Fits by device and shape of the model, kept until there is another batch to fit to.

    `macs_of` gives the multiplications of a forward pass of one image, None where the workload cannot say.
    """

    def __init__(self, macs_of: Callable[[ModelRef], float | None]) -> None:
        self._macs_of = macs_of
        self._macs: dict[Shape, float | None] = {}
        self._fits: dict[tuple[str, Shape], tuple[int, BatchCost]] = {}

    def know(self, models: Iterable[ModelRef]) -> None:
        """Finds out how large the networks of `models` are. The first of a workload imports what it rests on."""
        for model in models:
            if shape_of(model) not in self._macs:
                self._macs[shape_of(model)] = self._macs_of(model)

    def of(self, state: State, book: Book, device: str, models: Iterable[ModelRef]) -> Mapping[str, BatchCost]:
        """By sha256 what batches of `models` cost `device`."""
        return {m.sha256: self._of(state, book, device, m) for m in models}

    def _of(self, state: State, book: Book, device: str, model: ModelRef) -> BatchCost:
        key = (device, shape_of(model))
        count, known = book.sampled[key], self._fits.get(key)
        if known is not None and known[0] == count:
            return known[1]
        able = state.devices[device].capabilities
        before = preset(kind_of(state.devices[device]), able.cpu_quota or able.cpu_cores, self._macs.get(key[1]))
        cost = fitted(list(book.samples.get(key, ())), before)
        self._fits[key] = (count, cost)
        return cost
