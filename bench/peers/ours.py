"""The same bytes through wattbed: a coordinator and N agents as processes on loopback, the no-op workload.

Everything a round does is in: the model is fetched, checked, decoded, scaled, encoded, hashed, uploaded,
checked, stored, averaged and logged. Round times are differences of the log's own time stamps.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from processes import cpu_s, forget_peak, peak_bytes

from cli import local
from cli.client import Operator
from fleet.domain import LoggedEvent, RunReport
from fleet.experiment import (
    EvaluateSection,
    Experiment,
    FedAvg,
    PolicySection,
    QuantizerSection,
    RoundSection,
    WorkloadSection,
)

KIND = "epyc-8024p"


@dataclass(frozen=True)
class OurRun:
    """What one run gave, all times of every round in seconds.

    `round_s`: a round's opening to the next one's, or to its model for the last. `arriving_s`: opening to
    the last update. `aggregating_s`: last update to the new model. `phase_s`: median over devices and
    rounds of the seconds in each phase of the agents. `wire_up_bytes`, `wire_down_bytes`: counted, median of
    the devices in the last round. `..._cpu_s`: CPU seconds per round, of the coordinator and of one agent,
    over the whole run. The peak is of the coordinator, from just before the run was started.
    """

    model_bytes: int
    agents: int
    round_s: list[float]
    arriving_s: list[float]
    aggregating_s: list[float]
    phase_s: dict[str, float]
    wire_up_bytes: int
    wire_down_bytes: int
    coordinator_cpu_s: float
    agent_cpu_s: float
    idle_bytes: int
    peak_bytes: int


def experiment(model_bytes: int, tensors: int, agents: int, rounds: int, seed: int) -> Experiment:
    """All devices in every round, 32 bits both ways, evaluated as rarely as can be."""
    fixed = {"bits_up": [32], "bits_down": 32, "precision": "fp32", "width": 1.0, "train_steps": 1}
    return Experiment(
        name=f"overhead-{model_bytes}-bytes-{agents}-agents",
        seed=seed,
        rounds=rounds,
        shards=agents,
        workload=WorkloadSection(name="noop", options={"model_bytes": model_bytes, "tensors": tensors}),
        policy=PolicySection(name="fixed", options=fixed),
        round=RoundSection(mode="sync", min_devices=agents, devices=agents, quorum=agents, deadline_s=300.0),
        server=FedAvg(optimizer="fedavg", lr=1e-3),
        quantizer=QuantizerSection(block_size=1024, error_feedback=False),
        evaluate=EvaluateSection(every=rounds),
    )


def measure(
    model_bytes: int, tensors: int, agents: int, rounds: int, seed: int, folder: Path, timeout_s: float = 600.0
) -> OurRun:
    """Runs `rounds` rounds of `agents` agents; logs and state go to `folder`."""
    testbed, _ = local.up(folder, agents=agents, kinds=[KIND], data=None, port=0, http_port=0)
    try:
        coordinator = next(p.pid for p in testbed.processes if p.name == local.COORDINATOR)
        others = [p.pid for p in testbed.processes if p.pid != coordinator]
        forget_peak(coordinator)
        idle = peak_bytes(coordinator)
        before = cpu_s(coordinator), sum(map(cpu_s, others))
        wanted = experiment(model_bytes, tensors, agents, rounds, seed)
        events, report = asyncio.run(asyncio.wait_for(_follow(testbed.address, wanted), timeout_s))
        peak = peak_bytes(coordinator)
        after = cpu_s(coordinator), sum(map(cpu_s, others))
    finally:
        local.end(testbed.processes)
    if report.run.phase != "completed":
        raise RuntimeError(f"the run is {report.run.phase}: {report.run.reason}; logs are in {folder}")
    last = max(report.rounds, key=lambda r: r.round)
    opened = _times(events, "RoundOpened", min)
    arrived = _times(events, "UpdateReceived", max)
    made = _times(events, "ModelAggregated", max)
    starts = [*sorted(opened.values()), made[rounds]]
    return OurRun(
        model_bytes=model_bytes,
        agents=agents,
        round_s=[end - start for start, end in pairwise(starts)],
        arriving_s=[arrived[r] - opened[r] for r in sorted(opened)],
        aggregating_s=[made[r] - arrived[r] for r in sorted(opened)],
        phase_s=_phases(report),
        wire_up_bytes=round(median(d.wire_up_bytes for d in last.devices)),
        wire_down_bytes=round(median(d.wire_down_bytes for d in last.devices)),
        coordinator_cpu_s=(after[0] - before[0]) / rounds,
        agent_cpu_s=(after[1] - before[1]) / rounds / agents,
        idle_bytes=idle,
        peak_bytes=peak,
    )


async def _follow(address: str, wanted: Experiment) -> tuple[list[LoggedEvent], RunReport]:
    async with Operator(address) as operator:
        run = await operator.start(wanted, key=wanted.name)
        events = [event async for event in operator.watch(run) if isinstance(event, LoggedEvent)]
        return events, await operator.report(run)


def _times(events: list[LoggedEvent], kind: str, pick: Callable[[float, float], float]) -> dict[int, float]:
    """Unix time of the events of a kind by round; of several of one round, the one that `pick` picks."""
    found: dict[int, float] = {}
    for event in events:
        if event.kind == kind:
            number = int(json.loads(event.json)["round"])
            found[number] = pick(found.get(number, event.at_s), event.at_s)
    return found


def _phases(report: RunReport) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for device in (d for r in report.rounds for d in r.devices):
        for phase in device.phases:
            seconds.setdefault(str(phase.phase), []).append(phase.seconds)
    return {phase: median(values) for phase, values in seconds.items()}
