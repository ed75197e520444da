"""The fold of a long log, as a coordinator does it when it starts: what `fold` gives, with fewer copies.

Nearly all events of a log are about one run and touch nothing else. Those change that run in a dictionary of runs,
and a state is put together only where another event needs one.
"""

from coordinator.events import (
    AssignmentFailed,
    BlobsDropped,
    BytesMoved,
    EnergyMeasured,
    Event,
    ModelAggregated,
    ModelEvaluated,
    ModelInitialised,
    RoundClosed,
    RoundOpened,
    UpdateReceived,
    UpdateRefused,
)
from coordinator.machine.apply import apply, apply_to_run
from coordinator.machine.replacing import replace
from coordinator.machine.state import Run, State

LINES = frozenset({BytesMoved, EnergyMeasured, UpdateRefused})
"""Lines of the ledger: they change no state but the time."""
OF_A_RUN = frozenset(
    {
        AssignmentFailed,
        BlobsDropped,
        ModelAggregated,
        ModelEvaluated,
        ModelInitialised,
        RoundClosed,
        RoundOpened,
        UpdateReceived,
    }
)
"""Events that change their run and nothing else."""


class Folding:
    """`add` events in order; `last` is the state as of the latest event that was not about one run alone."""

    def __init__(self) -> None:
        self.last = State()
        self._runs: dict[str, Run] = {}
        self._now_s = 0.0

    def add(self, event: Event) -> None:
        """Enters one event. Raises what `apply` raises."""
        self._now_s = max(self._now_s, event.at_s)
        kind = type(event)
        if kind in LINES and event.run in self._runs:  # type: ignore[union-attr]
            return
        if kind in OF_A_RUN and event.run in self._runs:  # type: ignore[union-attr]
            name: str = event.run  # type: ignore[union-attr]
            self._runs[name] = apply_to_run(self._runs[name], event)
            return
        self.last = apply(self.state(), event)
        self._runs = dict(self.last.runs)

    def state(self) -> State:
        """The state after all that was added."""
        return replace(self.last, runs=dict(self._runs), now_s=self._now_s)
