"""`wattbed plan FILE`: what the first round of an experiment would do and cost. Nothing of it is run."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import counts, options
from cli.client import Operator
from cli.options import Coordinator, Data, Json, State, address, console, say_json
from cli.report import table
from fleet.calibration_plans import options_json
from fleet.device import Capabilities, LinkInfo
from fleet.domain import RunReport
from fleet.errors import BadRequest, Unreachable
from fleet.experiment import Experiment, read
from fleet.kinds import DeviceKind, kind, kinds

if TYPE_CHECKING:
    from optimizer.policy import Candidate, Told


@dataclass(frozen=True)
class Known:
    """Whom the plan is for, what was told of them, and where that comes from."""

    candidates: tuple["Candidate", ...]
    history: tuple["Told", ...]
    source: str
    runs: tuple[str, ...] = ()


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment in TOML.")],
    agents: Annotated[
        list[str] | None,
        typer.Option("--agents", metavar="N|KIND=N", help="An assumed fleet, without asking a coordinator."),
    ] = None,
    data: Data = None,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show what the optimiser would do in the first round and at what price, running nothing."""
    from cli import plan_sheets
    from cli.operations import counted
    from optimizer import planning
    from optimizer.policy import load

    experiment = read(file)
    load(experiment.policy.name, experiment.policy.options)  # what is wrong with it is said before anyone is asked
    known = assumed(agents, "as --agents asks") if agents else known_of(experiment, address(coordinator, state))
    learned = {told.assignment.device for told in known.history}
    blind = [c.device for c in known.candidates if c.calibration is None and c.device not in learned]
    job, note = counted(experiment, data) if blind else (None, "")
    made = planning.plan(experiment.policy.name, experiment.policy.options, known.candidates, known.history, job)
    if as_json:
        say_json(plan_sheets.as_values(experiment, known, made, note))
        return
    out = console()
    for line in plan_sheets.notes(experiment, known, made, note):
        out.print(line)
    out.print(*(table(sheet) for sheet in plan_sheets.sheets(made)), sep="\n")


def known_of(experiment: Experiment, at: str) -> Known:
    """What the coordinator knows; without one, or without a device attached to it, an assumed fleet."""
    try:
        found = asyncio.run(_ask(experiment, at))
    except Unreachable:
        return assumed(None, f"no coordinator answers at {at}")
    return found if found.candidates else assumed(None, f"no device is attached to {at}")


async def _ask(experiment: Experiment, at: str) -> Known:
    from optimizer import recall
    from optimizer.policy import Candidate

    wanted = (experiment.workload.name, options_json(experiment.workload))
    async with Operator(at) as operator:
        if not await operator.healthy():
            raise Unreachable(f"no coordinator answers at {at}")
        candidates = []
        for device in await operator.devices():
            if device.attached and device.capabilities is not None:
                found = [
                    c
                    for c in await operator.calibrations(device.device)
                    if (c.plan.workload, c.plan.options_json) == wanted
                ]
                candidates.append(Candidate(device.device, device.capabilities, found[-1] if found else None))
        reports: list[RunReport] = []
        for run in reversed(await operator.runs()):
            report = await operator.report(run.run)
            if recall.same_workload(experiment, Experiment.model_validate_json(report.experiment_json)):
                reports.insert(0, report)
            if len(reports) == recall.RUNS:
                break
    history = tuple(told for report in reports for told in recall.told(report))
    return Known(tuple(candidates), history, f"the coordinator at {at}", tuple(r.run.run for r in reports))


def assumed(agents: Sequence[str] | None, why: str) -> Known:
    """A fleet as `wattbed up` would start it: of each kind that is emulated one, or what `agents` asks for."""
    from optimizer.policy import Candidate

    emulated = [name for name, each in kinds().items() if each.emulation]
    wanted = dict.fromkeys(emulated, 1)
    if agents:
        wanted = counts.asked(agents, emulated, {})
    candidates = [
        Candidate(f"{name}-{number}", _able(kind(name)))
        for name, n in wanted.items()
        for number in range(1, n + 1)
    ]
    if not candidates:
        raise BadRequest(f"--agents {' '.join(agents or ())} asks for no agent at all")
    return Known(tuple(sorted(candidates, key=lambda c: c.device)), (), f"an assumed fleet: {why}")


def _able(of: DeviceKind) -> Capabilities:
    """What an emulated device of this kind says of itself; one that is not emulated is taken for the hardware."""
    e = of.link
    link = LinkInfo(e.rate_up_bps, e.rate_down_bps, e.delay_s, e.jitter_s, e.loss, "none", "none", "none")
    return Capabilities(
        *(of.name, "assumed", int(of.cores), of.memory_bytes, "assumed", ""),
        cpu_quota=of.emulation.cpus if of.emulation else None,
        link=link,
    )
