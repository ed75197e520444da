"""Each .txt file here is a story told to the machine, with what it said after each paragraph.

A paragraph has one command a line, then "----", then the outcome: what the machine decided ("> "), what
it refused ("! "), where each run stands and what is due. `REWRITE=1 pytest tests/scenarios` writes the
outcomes anew; they are reviewed as a diff.

    at T                       the clock of the events that follow
    tick T                     TimePassed
    attach D.. / detach D..    streams open and end
    restart                    a new coordinator takes over the log
    start NAME key=value..     RunStarted; keys are those of [round] and rounds, every
    initialised / evaluated / aggregated / planned      the due effect of the latest run came back
    planned without D..        the same, leaving devices out
    update D [round=N] [sha=S] [run=R]
    failed D REASON / refused D REASON / stop REASON
    calibrate D [id=C]         CalibrationRequested; it may be away 30 s, and lasts 600 s at most
    calibrated D [id=C] / uncalibrated D REASON         what the device answers
    ask R.. [within=S]         RequestReceived, of one image each, of a model of a run that is over
    placed B on D R..          RequestsPlaced: the planner put these requests into one batch
    withdrawn B / served R.. by B / made B [REASON] / dropped R.. / refused_request R REASON
                               what the planner, the devices and the operators say of them
"""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.events import (
    AssignmentFailed,
    BatchEnded,
    BatchWithdrawn,
    CalibrationFailed,
    CalibrationRequested,
    CoordinatorStarted,
    DeviceAttached,
    DeviceCalibrated,
    DeviceDetached,
    DevicesAssigned,
    ModelAggregated,
    ModelEvaluated,
    ModelInitialised,
    RequestCancelled,
    RequestReceived,
    RequestRefused,
    RequestServed,
    RequestsPlaced,
    RoundOpened,
    RunEnded,
    RunStarted,
    TimePassed,
    UpdateReceived,
    UpdateRefused,
)
from coordinator.generation.due import PushBatch
from coordinator.machine import State, apply, fold, todo
from coordinator.machine.todo import Plan, Push, PushCalibration, Record, Wake
from fleet.calibration import Calibration
from fleet.calibration_plans import plan as calibration_plan
from fleet.domain import Assignment, Capabilities
from fleet.errors import WattbedError
from fleet.experiment import Experiment, parse
from fleet.generation import Batch, GenerationRequest, ModelRef, Portion, Recipe

MODEL = ModelRef("demo-1", "a" * 64, 10, "noop", "{}")
PLAN = replace(calibration_plan(), lost_after_s=30.0, deadline_s=600.0)
COMMANDS = (
    "at|tick|attach|detach|restart|start|initialised|evaluated|aggregated|planned|update|failed|refused|stop"
    "|ask|placed|withdrawn|served|made|dropped|refused_request|calibrate|calibrated|uncalibrated"
)
FILES = sorted(Path(__file__).parent.glob("*.txt"))


def experiment(name, rounds=2, every=1, **settings):
    settings = {"mode": "sync", "min_devices": 2, "devices": 3, "quorum": 2, "deadline_s": 60} | settings
    return parse(
        Experiment,
        {
            "name": name,
            "seed": 1,
            "rounds": int(rounds),
            "shards": 3,
            "workload": {"name": "noop", "options": {}},
            "policy": {"name": "fixed", "options": {}},
            "round": {k: v if k == "mode" else float(v) for k, v in settings.items()},
            "server": {"optimizer": "fedavg", "lr": 1.0},
            "quantizer": {"block_size": 64, "error_feedback": True},
            "evaluate": {"every": int(every)},
        },
        where=name,
    )


class Story:
    """Tells the machine what happens, and keeps every event that it took."""

    def __init__(self):
        self.state, self.now_s, self.history, self.said = State(), 0.0, [], []

    @property
    def run(self):
        return list(self.state.runs.values())[-1]

    def tell(self, *events):
        for event in events:
            try:
                self.state = apply(self.state, event)
            except WattbedError as error:
                self.said.append(f"! {type(error).__name__}: {error}")
                return
            self.history.append(event)
        while decided := [e.event for e in todo(self.state) if isinstance(e, Record)][:1]:
            self.state = apply(self.state, decided[0])
            self.history.extend(decided)
            self.said.append("> " + shown(decided[0]))

    def command(self, line):
        word, *rest = line.split()
        options = dict(part.split("=") for part in rest if "=" in part)
        names = [part for part in rest if "=" not in part]
        run = self.run.run if self.state.runs else ""
        at = self.now_s
        match word:
            case "at":
                self.now_s = float(names[0])
            case "tick":
                self.now_s = float(names[0])
                self.tell(TimePassed(self.now_s))
            case "attach":
                machine = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")
                for name in names:
                    self.tell(DeviceAttached(at, name, f"{name}@{at:g}", machine, None))
            case "detach":
                for name in names:
                    self.tell(DeviceDetached(at, name, self.state.devices[name].session or "gone", "cut"))
            case "restart":
                self.tell(CoordinatorStarted(at, "0"))
            case "start":
                name = f"{names[0]}-{len(self.state.runs) + 1}"
                self.tell(RunStarted(at, name, "", experiment(names[0], **options)))
            case "initialised":
                self.tell(ModelInitialised(at, run, "model0", 10))
            case "evaluated":
                self.tell(ModelEvaluated(at, run, self.run.round, (), None, 0.1))
            case "aggregated":
                self.tell(ModelAggregated(at, run, self.run.round, f"model{self.run.round}", 10, None, 0.1))
            case "planned":
                self.planned(names[1:])
            case "update":
                round = int(options.get("round", self.run.round))
                sha = options.get("sha", f"{names[0]}{round}")
                self.tell(UpdateReceived(at, options.get("run", run), round, names[0], sha, 5, 8, 0.5))
            case "failed":
                self.tell(AssignmentFailed(at, run, self.run.round, names[0], " ".join(names[1:])))
            case "refused":
                self.tell(UpdateRefused(at, run, self.run.round, names[0], " ".join(names[1:])))
            case "calibrate":
                self.tell(CalibrationRequested(at, names[0], options.get("id", "c1"), PLAN))
            case "calibrated":
                found = Calibration(options.get("id", "c1"), names[0], PLAN, at, 1.0, 10)
                self.tell(DeviceCalibrated(at, names[0], found))
            case "uncalibrated":
                self.tell(CalibrationFailed(at, names[0], options.get("id", "c1"), " ".join(names[1:])))
            case "ask":
                for name in names:
                    within_s = float(options["within"]) if "within" in options else None
                    self.tell(RequestReceived(at, run, GenerationRequest(name, run, 1, 1, within_s), MODEL))
            case "placed":
                batch, _, device, *asked = names
                portions = tuple(Portion(name, 1, 1) for name in asked)
                made = Batch(batch, run, device, MODEL.sha256, 10, Recipe((1.0,), "ddim"), portions)
                start_s = at + len(self.state.generations.batches)
                self.tell(RequestsPlaced(at, run, made, start_s, start_s + 1))
            case "withdrawn":
                self.tell(BatchWithdrawn(at, run, names[0]))
            case "served":
                *asked, _, batch = names
                placed = self.state.generations.batches[batch].batch
                for name in asked:
                    self.tell(RequestServed(at, run, name, batch, placed.device, "d", 1))
            case "made":
                page = self.state.generations.batches.get(names[0])
                device = page.batch.device if page else ""
                self.tell(BatchEnded(at, run, names[0], device, " ".join(names[1:])))
            case "dropped":
                for name in names:
                    self.tell(RequestCancelled(at, run, name, "not wanted"))
            case "refused_request":
                self.tell(RequestRefused(at, run, names[0], " ".join(names[1:])))
            case "stop":
                self.tell(RunEnded(at, run, "stopped", " ".join(names)))
            case _:
                raise ValueError(f"no command {word!r}")

    def planned(self, without):
        plan = next(e for e in todo(self.state) if isinstance(e, Plan))
        run, deadline_at_s = self.state.runs[plan.run], self.now_s + self.run.experiment.round.deadline_s
        assignments = tuple(
            Assignment(
                run=plan.run, round=plan.round, device=device, model_sha256=run.model_sha256, model_bytes=10,
                shard=index, bits_up=8, bits_down=32, precision="fp32", width=1.0, train_steps=1, seed=1,
                deadline_at_s=deadline_at_s,
            )
            for index, device in enumerate(d for d in plan.devices if d not in without)
        )  # fmt: skip
        if plan.opens:
            self.tell(RoundOpened(self.now_s, plan.run, plan.round, assignments, deadline_at_s))
        else:
            self.tell(DevicesAssigned(self.now_s, plan.run, plan.round, assignments))

    def outcome(self):
        lines, self.said = self.said, []
        for run in self.state.runs.values():
            parts = [f"{run.run}: {run.phase} round {run.round}"]
            for what in ("outstanding", "arrived", "closing", "given_up"):
                if names := sorted(getattr(run, what)):
                    parts.append(f"{what.replace('_', ' ')} {' '.join(names)}")
            lines.append(", ".join(parts))
        for name, pending in self.state.calibrating.items():
            lines.append(f"{name}: being calibrated, {pending.calibration}")
        for name, found in self.state.calibrated.items():
            lines.append(f"{name}: calibrated by {' '.join(c.calibration for c in found)}")
        now = self.state.generations
        for name, asked in now.requests.items():
            tries = f", {asked.tries} tries" if asked.tries else ""
            lines.append(f"request {name}: {'in ' + asked.batch if asked.batch else 'without a place'}{tries}")
        for name, placed in now.batches.items():
            begun = f"with its device since {placed.began_at_s:g}" if placed.began_at_s else "queued"
            lines.append(f"batch {name} on {placed.batch.device}: {begun}, left {' '.join(placed.left)}")
        lines.append("due: " + ("; ".join(shown(e) for e in todo(self.state)) or "nothing"))
        return lines


def shown(x):
    match x:
        case Push():
            return f"Push {x.run} round {x.round} to {x.session}"
        case PushBatch():
            return f"PushBatch {x.batch} to {x.session}"
        case PushCalibration():
            return f"PushCalibration {x.calibration} to {x.session}"
        case Wake():
            return f"Wake at {x.at_s:g}"
    fields = {k: v for k, v in vars(x).items() if k not in ("at_s", "event")}
    return f"{type(x).__name__} " + " ".join(f"{k}={value(v)}" for k, v in fields.items())


def value(v):
    return ",".join(map(str, v)) or "-" if isinstance(v, tuple) else v


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_machine_tells_this_story(path):
    story, told = Story(), []
    for paragraph in re.split(r"\n\n+", path.read_text().strip()):
        commands = paragraph.split("\n----\n")[0].splitlines()
        for line in commands:
            if not line.startswith("#"):
                story.command(line)
        if all(line.startswith("#") for line in commands):
            told.append("\n".join(commands))
        else:
            told.append("\n".join([*commands, "----", *story.outcome()]))
    text = "\n\n".join(told) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_log_of_this_story_folds_to_its_state(path):
    story = Story()
    for line in path.read_text().split("\n"):
        if re.match(rf"({COMMANDS})\b", line):
            story.command(line)
    assert fold(story.history) == story.state
