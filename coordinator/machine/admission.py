"""Whether an update is one that was asked for. Asked at its header and again when its bytes are in."""

from enum import StrEnum

from coordinator.machine.state import Run, RunPhase
from fleet.errors import IllegalMove, LateUpdate, StrangerUpdate


class Admission(StrEnum):
    """Fresh: take it. Duplicate: it is in already, say so and change nothing."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"


def admit(run: Run, round: int, device: str, sha256: str) -> Admission:
    """Whether `device` may deliver `sha256` for `round` of `run` now.

    LateUpdate: its round is closed, or its model too old. StrangerUpdate: it was never asked.
    IllegalMove: it delivered something else for this round before.
    """
    known = [a for a in (run.arrived.get(device), run.closing.get(device), run.counted.get(device)) if a]
    for arrival in known:
        if arrival.round == round and arrival.sha256 == sha256:
            return Admission.DUPLICATE
        if arrival.round == round:
            raise IllegalMove(
                f"device {device} delivered {arrival.sha256[:12]} for round {round} of run {run.run} before; "
                f"{sha256[:12]} is refused"
            )
    if run.phase.ended:
        raise LateUpdate(f"run {run.run} is {run.phase}; the update of {device} for round {round} is refused")
    waiting = run.outstanding.get(device)
    if waiting is not None and waiting.assignment.round == round:
        limit = run.experiment.round.max_staleness
        if limit is not None and run.round - round > limit:
            raise LateUpdate(
                f"the update of {device} is for the model of round {round} of run {run.run}, "
                f"{run.round - round} rounds old; at most {limit} are allowed"
            )
        if run.asynchronous or run.phase == RunPhase.TRAINING:
            return Admission.FRESH
        raise LateUpdate(f"round {round} of run {run.run} is closed; the update of {device} came too late")
    if device not in run.shards:
        raise StrangerUpdate(f"device {device} was never asked to train in run {run.run}")
    if round < run.round or (round == run.round and run.phase != RunPhase.TRAINING):
        raise LateUpdate(
            f"round {round} of run {run.run} is closed (round {run.round} is {run.phase}); "
            f"the update of {device} came too late"
        )
    raise StrangerUpdate(f"device {device} was not asked to train in round {round} of run {run.run}")
