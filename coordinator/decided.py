"""From the devices there are to assignments: who is asked, whether what was decided can be done, what is asked.

Nothing here waits or writes.
"""

import io
import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from coordinator.machine import Run
from coordinator.machine.todo import Plan
from fleet.domain import Assignment
from fleet.errors import PlanFailed
from fleet.experiment import BITS, PRECISIONS, SIMULATED_PRECISIONS, QuantizerSection
from optimizer.policy import Candidate, Decision
from quantizer import encode_to, encode_with_feedback


def sampled(run: Run, plan: Plan) -> list[str]:
    """The devices asked: all free ones in an asynchronous round, a seeded sample in a synchronous one."""
    settings = run.experiment.round
    wanted = settings.devices + settings.over_commit
    if run.asynchronous or len(plan.devices) <= wanted:
        return sorted(plan.devices)
    return sorted(random.Random(seed_for(run, plan.round, "sample")).sample(sorted(plan.devices), wanted))


def check(decisions: Sequence[Decision], candidates: Sequence[Candidate]) -> None:
    """PlanFailed unless `decisions` are of some `candidates`, once each, and can be carried out."""
    names = [d.device for d in decisions]
    if candidates and not decisions:
        raise PlanFailed(f"the policy chose none of {len(candidates)} devices")
    if unknown := sorted(set(names) - {c.device for c in candidates}):
        raise PlanFailed(f"the policy chose devices it was not offered: {', '.join(unknown)}")
    if len(set(names)) < len(names):
        raise PlanFailed(f"the policy chose a device twice: {', '.join(names)}")
    for d in decisions:
        if (
            d.bits_up not in BITS
            or d.bits_down not in BITS
            or d.precision not in (*PRECISIONS, *SIMULATED_PRECISIONS)
        ):
            raise PlanFailed(f"{d.device}: bits {d.bits_up} up, {d.bits_down} down at {d.precision} do not exist")
        if not 0 < d.width <= 1 or d.train_steps < 1:
            raise PlanFailed(f"{d.device}: width {d.width} and {d.train_steps} steps cannot be trained")


def check_codec(decisions: Sequence[Decision], settings: QuantizerSection) -> None:
    """PlanFailed where the codec of the experiment has no such bits, or no error feedback at them."""
    for bits in sorted({d.bits_up for d in decisions}):
        try:
            how = {"codec": settings.codec, "keep": settings.keep, "block_size": settings.block_size}
            if settings.error_feedback and bits < 32:
                encode_with_feedback({}, None, bits, seed=0, sink=io.BytesIO(), **how)  # type: ignore[arg-type]
            else:
                encode_to(io.BytesIO(), {}, bits, seed=0, **how)  # type: ignore[arg-type]
        except ValueError as error:
            raise PlanFailed(f"updates cannot be coded at {bits} bits: {error}") from error


def assignments_of(
    run: Run,
    round: int,
    decisions: Sequence[Decision],
    payloads: Mapping[tuple[int, float], tuple[str, int]],
    deadline_at_s: float,
) -> tuple[Assignment, ...]:
    """What `decisions` ask of each device. payloads: digest and bytes of the model by bits down and width."""
    shards = dict(run.shards)
    assignments = []
    for d in decisions:
        shard = shards.setdefault(d.device, len(shards) % run.experiment.shards)
        model_sha256, model_bytes = payloads[d.bits_down, d.width]
        counted = run.counted.get(d.device)
        assignments.append(
            Assignment(
                run=run.run,
                round=round,
                device=d.device,
                model_sha256=model_sha256,
                model_bytes=model_bytes,
                shard=shard,
                bits_up=d.bits_up,
                bits_down=d.bits_down,
                precision=d.precision,
                width=d.width,
                train_steps=d.train_steps,
                seed=seed_for(run, round, f"train/{shard}"),
                deadline_at_s=deadline_at_s,
                residual_round=counted.round if counted else None,
                power_limit_watts=d.power_limit_watts,
                frequency_hz=d.frequency_hz,
                predicted=d.predicted,
                note=d.note,
            )
        )
    return tuple(assignments)


def seed_for(run: Run, round: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of one round, the same in every run of the experiment's seed."""
    text = f"{run.experiment.seed}/{round}/{purpose}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
