"""The trainings that bench/widths.py compares: one network for all widths, networks alone, mixed devices."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from demo import AGENTS, ROOT

from cli import local, report
from cli.client import Operator
from cli.ledger_view import all_devices, choices, counted, totals
from cli.options import console
from cli.run import start, watch
from fleet.experiment import Experiment, read
from fleet.kinds import kinds

STATE = Path(".wattbed-widths")
FLEXIBLE, ALONE, MIXED = "flexible", "alone", "mixed"
EVALUATED = 64
"""Images that the coordinator judges a model by: few, for the bench judges all models itself."""


@dataclass(frozen=True)
class Wanted:
    """One training: by which rule, at what width, from which seed."""

    how: str
    width: float
    seed: int

    @property
    def key(self) -> str:
        """Its name, in files too."""
        return f"{self.how}-{self.width:g}-{self.seed}"


@dataclass(frozen=True)
class Trained:
    """What a training came to: bytes counted on the wire by device, joules by quality and scope."""

    how: str
    width: float
    seed: int
    model: str
    seconds: float
    joules: dict[str, float]
    up_bytes: dict[str, int]
    down_bytes: dict[str, int]
    widths: dict[str, float]


def every(seeds: list[int], alone: tuple[float, ...]) -> Iterator[Wanted]:
    """Seed after seed, so that a bench that is stopped has whole seeds; mixed devices of the first only."""
    for seed in seeds:
        yield Wanted(FLEXIBLE, 1.0, seed)
        for width in alone:
            yield Wanted(ALONE, width, seed)
    yield Wanted(MIXED, 1.0, seeds[0])


def changed(wanted: Wanted, rounds: int | None, steps: int | None) -> Experiment:
    """The experiment of a training; networks alone are trained as without the sandwich rule, at their width."""
    file = "flexible-mixed.toml" if wanted.how == MIXED else "flexible.toml"
    values = read(ROOT / "experiments" / file).model_dump(mode="json", exclude_none=True)
    values["seed"] = wanted.seed
    values["rounds"] = values["evaluate"]["every"] = rounds or values["rounds"]
    values["workload"]["options"]["evaluation"]["samples"] = EVALUATED
    policy = values["policy"]["options"]
    policy["train_steps"] = steps or policy["train_steps"]
    if wanted.how == ALONE:
        values["workload"]["options"]["training"]["flexible"] = False
        policy["width"] = wanted.width
    return Experiment.model_validate(values)


def train(wanted: Wanted, models: Path, rounds: int | None = None, steps: int | None = None) -> Trained:
    """Trains on the local testbed, which is brought up where it is not there yet; keeps the model in `models`."""
    names = list(kinds())[:AGENTS]
    testbed, _ = local.up(STATE, agents=AGENTS, kinds=names, data=None, port=0, http_port=0)
    run = start(changed(wanted, rounds, steps), testbed.address)
    console().print(f"{wanted.key}: {run}")
    if code := watch(run, testbed.address, as_json=False):
        raise SystemExit(code)
    found, _ = asyncio.run(report.fetch(testbed.address, run, with_grids=False))
    models.mkdir(parents=True, exist_ok=True)
    model = models / f"{wanted.key}.wb"
    model.write_bytes(asyncio.run(_fetched(testbed.address, run, found.rounds[-1].model_sha256 or "")))
    devices = list(all_devices(found))
    by_name = {d.device: counted([x for x in devices if x.device == d.device]) for d in devices}
    spent = {f"{t.quality}, {t.scope}": t.joules for t in totals(devices, choices(found)) if t.joules is not None}
    took_s = (found.run.ended_at_s or 0) - found.run.started_at_s
    return Trained(
        **asdict(wanted),
        model=str(model),
        seconds=took_s,
        joules=spent,
        up_bytes={name: c.wire_up_bytes for name, c in by_name.items()},
        down_bytes={name: c.wire_down_bytes for name, c in by_name.items()},
        widths={d.device: d.width for d in devices},
    )


async def _fetched(address: str, run: str, sha256: str) -> bytes:
    async with Operator(address) as operator:
        return await operator.artifact(run, sha256)
