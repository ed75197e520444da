"""`wattbed learn FILE`: trains the policy `learned` of an experiment on what the log says of its devices."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import options
from cli.options import Coordinator, Json, State, address, console, say_json
from cli.plan import known_of
from cli.report import table
from cli.sheets import Sheet
from fleet.errors import BadExperiment
from fleet.experiment import parse, read

COMPARED = 200
"""Drawn devices on which the trained policy and its rivals are compared."""

ROUNDS = 10
OTHER_DEVICES = 1
"""Added to the seed, so that nobody is compared on what he was trained on."""


def learn(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment in TOML with the policy `learned`.")],
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1000, help="Simulated assignments to learn from; else a minute's worth."),
    ] = None,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Train an experiment's policy `learned` on the devices of the log, and compare it with the solvers' way."""
    from optimizer.fitting import FleetFit
    from optimizer.learned import compare, memory, train
    from optimizer.learned.policy import LearnedOptions
    from optimizer.learned.simulator import simulator

    experiment = read(file)
    if experiment.policy.name != "learned":
        raise BadExperiment(f'{file}: policy.name is {experiment.policy.name!r}; only "learned" is trained')
    asked = parse(LearnedOptions, experiment.policy.options, where="policy.options")
    menu = memory.entries(asked.menu, asked.bits_down)
    known, fits = known_of(experiment, address(coordinator, state)), FleetFit()
    for told in known.history:
        fits.add(told)
    devices = simulator(known.candidates, fits, menu)
    trained = train.train(devices, menu, asked.seed, steps or train.STEPS)
    trained.save(asked.file)
    found = compare.compared(trained, devices, devices=COMPARED, rounds=ROUNDS, seed=asked.seed + OTHER_DEVICES)
    if as_json:
        rivals = {name: asdict(outcome) for name, outcome in found.items()}
        say_json({"file": str(asked.file), "origin": trained.origin, "compared": rivals})
        return
    rows = tuple((name, f"{o.joules:.3f}", f"{o.late:.1%}") for name, o in found.items())
    out = console()
    out.print(table(Sheet("joules relative to the best entry in time", ("policy",), ("joules", "late"), rows)))
    drawn = f"{COMPARED} devices drawn around {len(devices.seconds)} known to {known.source}"
    out.print(f"simulated: {drawn}, {ROUNDS} rounds each")
    out.print(f"wrote {asked.file}")
