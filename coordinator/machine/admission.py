"""Whether an update is one that was asked for. Asked at its header and again when its bytes are in."""

from enum import StrEnum

from coordinator.machine.state import Run, RunPhase
from fleet.errors import IllegalMove, LateUpdate, StrangerUpdate


class Admission(StrEnum):
    """Fresh: take it. Duplicate: it is in already, say so and change nothing."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"


def admit(run: Run, round: int, device: str, digest: str) -> Admission:
    """Whether `device` may deliver `digest` for `round` of `run` now.

    LateUpdate: its round is closed, or its model too old. StrangerUpdate: it was never asked.
    IllegalMove: it delivered something else for this round before.
    """
    open_, over = (run.arrived.get(device), run.closing.get(device)), run.counted.get(device)
    if any(a and (a.round, a.digest) == (round, digest) for a in (*open_, over)):
        return Admission.DUPLICATE
    if run.phase.ended:
        raise LateUpdate(f"run {run.run} is {run.phase}; the update of {device} for round {round} is refused")
    waiting = run.outstanding.get(device)
    if waiting is not None and waiting.assignment.round == round:
        limit = run.experiment.round.max_staleness
        if limit is None or run.round - round <= limit:
            return Admission.FRESH
        raise LateUpdate(
            f"the update of {device} is for the model of round {round} of run {run.run}, "
            f"{run.round - round} rounds old; at most {limit} are allowed"
        )
    if device not in run.shards:
        raise StrangerUpdate(f"device {device} was never asked to train in run {run.run}")
    for arrival in open_:
        if arrival and arrival.round == round:
            raise IllegalMove(
                f"device {device} delivered {arrival.digest[:12]} for round {round} of run {run.run} before; "
                f"{digest[:12]} is refused"
            )
    if round < run.round or (round == run.round and run.phase != RunPhase.TRAINING):
        raise LateUpdate(
            f"round {round} of run {run.run} is closed (round {run.round} is {run.phase}); "
            f"the update of {device} came too late"
        )
    raise StrangerUpdate(f"device {device} was not asked to train in round {round} of run {run.run}")
