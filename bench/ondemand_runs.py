"""One run of bench/ondemand.py: an experiment file under one scheme and seed, and what it came to."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ondemand_testbed import Bed
from provenance import ROOT

from cli import report
from cli.ledger_view import all_devices, choices, comparisons, counted, metric, readings
from cli.run import start, watch
from fleet.domain import Phase, RunReport
from fleet.energy import RADIO, Choices, over_devices, total
from fleet.experiment import Experiment, read
from optimizer.models.arithmetic import BITS, step_joules
from optimizer.policies.options import NetworkSection

FILES = {"diffusion": "ondemand.toml", "classifier": "ondemand-classifier.toml"}
CHOSEN = {"diffusion": "on-demand", "classifier": "precision"}
"""The scheme that decides for itself, which is what each experiment file says."""

FULL = "fp32"
FIXED = {"diffusion": (FULL, "16", "8", "6", "4"), "classifier": (FULL, "8")}
WARM_UP_SEED = 1_000_003
FROM_ROUND = 3
"""Predictions are judged from this round on."""

PARTS = {"training": (Phase.TRAIN, Phase.QUANTIZE), "transfers": (Phase.DOWNLOAD, Phase.UPLOAD)}


@dataclass(frozen=True)
class Ran:
    """One run. `joules` are by part of an assignment, then by quality and scope, summed over devices.

    curve: for each evaluated round its metrics, and the `share` of all joules that were spent until then. bits: by
    round and device that took part. Errors: |actual / predicted - 1|, medians from round FROM_ROUND on.
    chip_joules: what all steps would take on the paper's chip.
    """

    workload: str
    scheme: str
    seed: int
    quotas: bool
    rounds: int
    curve: list[dict[str, float]]
    joules: dict[str, dict[str, float]]
    radio_joules: float
    chip_joules: float | None
    up_bytes: int
    down_bytes: int
    seconds: float
    bits: list[dict[str, int]]
    precisions: list[str]
    steps: int
    taking_part: int
    joules_error: float | None
    seconds_error: float | None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells one run from another."""
        return self.workload, self.scheme, self.seed

    @property
    def device_joules(self) -> float:
        """Of all devices, whatever the scope of each: of a device it is always one."""
        return sum(sum(of.values()) for of in self.joules.values())

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.up_bytes + self.down_bytes

    def last(self, name: str) -> float:
        """A metric of the last model."""
        return self.curve[-1][name]


def experiment(workload: str, scheme: str, seed: int, quick: bool, like: Ran | None = None) -> Experiment:
    """The experiment under a scheme. `like`: the run of the chosen scheme, whose steps and devices others take."""
    values = read(ROOT / "experiments" / FILES[workload]).model_dump(mode="json")
    values["seed"] = seed
    if quick:
        _shrink(values)
    if scheme != CHOSEN[workload]:
        bits = 32 if scheme == FULL else int(scheme)
        own = values["policy"]["options"]
        steps = like.steps if like else own["training"]["train_steps"][0]
        simulated = workload == "classifier" and bits <= 16
        values["policy"] = {
            "name": "fixed",
            "options": {
                "bits_up": [bits],
                "bits_down": 32 if scheme == FULL else own["bits_down"],
                "precision": f"q{bits}" if simulated else "fp32",
                "width": 1.0,
                "train_steps": steps,
            },
        }
        if like:
            values["round"]["devices"] = values["round"]["quorum"] = like.taking_part
    return Experiment.model_validate(values)


def warm_up(workload: str) -> Experiment:
    """Two steps, at 4 bits: imports, compiling and reading the data are paid for by it.

    Its batch is another, so that no policy is told of it; its seed too, so that no device keeps a model of it.
    """
    values = experiment(
        workload, FULL, 0, quick=True, like=None if workload == "diffusion" else _NOBODY
    ).model_dump(mode="json")
    values["seed"] = WARM_UP_SEED
    values["rounds"] = values["evaluate"]["every"] = 1
    values["workload"]["options"]["training"]["batch"] += 1
    values["policy"]["options"] |= {"train_steps": 2, "bits_up": [4], "bits_down": 8}
    return Experiment.model_validate(values)


def _shrink(values: dict[str, Any]) -> None:
    values["rounds"] = values["evaluate"]["every"] = 2
    options = values["policy"]["options"]
    if "training" in options:
        options["training"]["train_steps"] = [4]
    judging = values["workload"]["options"]["evaluation"]
    for name, most in {"samples": 64, "held_out": 64, "statistics": 128}.items():
        if name in judging:
            judging[name] = min(judging[name], most)


def carry_out(bed: Bed, wanted: Experiment, workload: str, scheme: str) -> Ran:
    """Runs it; SystemExit with the exit code of a run that failed."""
    run = start(wanted, bed.address)
    print(f"{workload}, {scheme}, seed {wanted.seed}: {run}", flush=True)
    if code := watch(run, bed.address, as_json=False):
        raise SystemExit(code)
    found, _ = asyncio.run(report.fetch(bed.address, run, with_grids=False))
    if failed := [f"round {r.round}: {r.reason}" for r in found.rounds if r.status == "failed"]:
        raise RuntimeError(f"{run} has failed rounds, which would not compare: {'; '.join(failed)}")
    return _ran(found, wanted, workload, scheme, bed.quotas)


def _ran(found: RunReport, wanted: Experiment, workload: str, scheme: str, quotas: bool) -> Ran:
    devices, moved = list(all_devices(found)), counted(all_devices(found))
    names = sorted({m.name for r in found.rounds for m in r.metrics})
    late = [c for c in comparisons(found) if c.round >= FROM_ROUND]
    rounds = [r for r in found.rounds if r.devices]
    whole = sum(_device_joules(found, r.round) for r in rounds)
    return Ran(
        workload,
        scheme,
        wanted.seed,
        quotas,
        len(rounds),
        [
            {"round": float(r.round), "share": _spent(found, r.round) / whole}
            | {n: v for n in names if (v := metric(r, n)) is not None}
            for r in found.rounds
            if r.metrics
        ],
        {part: _joules(found, phases) for part, phases in PARTS.items()},
        sum(r.joules or 0.0 for r in readings(devices) if r.component == RADIO),
        _chip_joules(found, wanted),
        moved.wire_up_bytes,
        moved.wire_down_bytes,
        sum(r.seconds or 0.0 for r in rounds),
        [{d.device: d.bits_up for d in r.devices} for r in rounds],
        sorted({d.precision for d in devices}),
        round(median(d.train_steps for d in devices)),
        round(median(len(r.devices) for r in rounds)),
        _median(abs(c.joules_error) for c in late if c.joules_error is not None),
        _median(abs(c.seconds_error) for c in late if c.seconds_error is not None),
        {m.name: m.detail for r in found.rounds for m in r.metrics},
    )


def _joules(found: RunReport, phases: Iterable[Phase]) -> dict[str, float]:
    """Joules of `phases` by quality and scope."""
    chosen, wanted = choices(found), tuple(phases)
    totals = over_devices(
        total([p.readings for p in d.phases if p.phase in wanted], choice)
        for d in all_devices(found)
        for choice in _of(chosen, d.device)
    )
    return {f"{t.quality}, {t.scope}": t.joules for t in totals if t.joules is not None}


def _of(chosen: dict[str, Choices], device: str) -> Iterator[Any]:
    yield from chosen.get(device, {}).values()


def _device_joules(found: RunReport, number: int) -> float:
    chosen = choices(found)
    return sum(
        total([p.readings for p in d.phases], choice).joules or 0.0
        for r in found.rounds
        if r.round == number
        for d in r.devices
        for choice in _of(chosen, d.device)
    )


def _spent(found: RunReport, number: int) -> float:
    return sum(_device_joules(found, r.round) for r in found.rounds if r.round <= number)


def _chip_joules(found: RunReport, wanted: Experiment) -> float | None:
    said = wanted.policy.options.get("network") or _network(wanted.workload.name)
    if said is None:
        return None
    size = NetworkSection.model_validate(said).size()
    return sum(d.train_steps * step_joules(size, BITS[d.precision]) for d in all_devices(found))


def _network(workload: str) -> Any:
    """What the experiment file of this workload says of its network."""
    for file in FILES.values():
        named = read(ROOT / "experiments" / file)
        if named.workload.name == workload:
            return named.policy.options.get("network")
    return None


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None


_NOBODY = Ran("", "", 0, False, 0, [], {}, 0.0, None, 0, 0, 0.0, [], [], 2, 4, None, None)
