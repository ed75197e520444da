"""The machine: `apply(state, event) -> state` and `todo(state) -> effects`. No clock, network, SQL or torch."""

from coordinator.machine.admission import Admission, admit
from coordinator.machine.apply import apply, fold
from coordinator.machine.state import Device, Run, RunPhase, State
from coordinator.machine.todo import todo

__all__ = ["Admission", "Device", "Run", "RunPhase", "State", "admit", "apply", "fold", "todo"]
