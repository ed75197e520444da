"""A coordinator's machine and planner in virtual time, with devices that take exactly as long as a test says."""

from dataclasses import replace

import pytest

from coordinator.enrolment.events import DeviceDrained
from coordinator.events import (
    BatchEnded,
    BatchMeasured,
    CoordinatorStarted,
    DeviceAttached,
    DeviceDetached,
    QualityMeasured,
    RequestCancelled,
    RequestReceived,
    RequestServed,
    RunStarted,
    TimePassed,
)
from coordinator.generation.book import Book
from coordinator.generation.costing import Costs
from coordinator.generation.due import PlaceRequests, PushBatch
from coordinator.generation.effects import _lost_on
from coordinator.generation.fleet_view import serving
from coordinator.generation.placing import Known, Placing
from coordinator.machine import State, apply, todo
from coordinator.machine.todo import Record, Wake
from fleet.domain import Capabilities, EnergyReading, Phase, Quality
from fleet.experiment import Experiment, parse
from fleet.generation import Demand, GenerationMeasured, GenerationRequest, ModelRef, Recipe
from optimizer.generation.quality import QualityLaws, StepLaw, WidthLaw, as_numbers

MODEL = ModelRef("demo-1", "a" * 64, 1_000_000, "noop", "{}")
FULL = Recipe((1.0,) * 10, "ddim")
LAWS = QualityLaws(WidthLaw(10.0, 2.0, 1.0), StepLaw((5.0, 10.0, 20.0), (40.0, 20.0, 12.0)))


def experiment():
    return parse(
        Experiment,
        {
            "name": "demo", "seed": 1, "rounds": 1, "shards": 1,
            "workload": {"name": "noop", "options": {}},
            "policy": {"name": "fixed", "options": {}},
            "round": {"mode": "sync", "min_devices": 1, "devices": 1, "quorum": 1, "deadline_s": 60},
            "server": {"optimizer": "fedavg", "lr": 1.0},
            "quantizer": {"block_size": 64, "error_feedback": True},
            "evaluate": {"every": 1},
        },
        where="demo",
    )  # fmt: skip


class Fleet:
    """Everything that is due is carried out at once, but batches: those a test makes, or `run` does."""

    def __init__(self):
        self.state, self.book, self.costs = State(), Book(), Costs(lambda model: 5e6)
        self.now_s, self.history, self.windows = 100.0, [], 0
        self.tell(RunStarted(self.now_s, "demo-1", "k", experiment()))

    def tell(self, *events):
        for event in events:
            self._take(event)
        while True:
            due = todo(self.state)
            if decided := [e.event for e in due if isinstance(e, Record)]:
                self._take(decided[0])
            elif plans := [e for e in due if isinstance(e, PlaceRequests)]:
                for event in self.placing(plans[0].decided).events(self.unplaced()):
                    self._take(event)
            else:
                return

    def _take(self, event):
        self.state = apply(self.state, event)
        self.history.append(event)
        self.book.count(event, self.state.generations)

    def unplaced(self):
        return [a for a in self.state.generations.requests.values() if a.batch is None]

    def placing(self, number):
        asked = self.state.generations.requests
        costs = {name: self.costs.of(self.state, self.book, name, [MODEL]) for name in self.state.devices}
        known = {MODEL.sha256: Known({"fid": LAWS} if self.state.generations.laws else {}, FULL)}
        lost = {name: _lost_on(self.book, name) for name, a in asked.items() if a.interrupted}
        fleet = serving(self.state, self.book, costs, self.now_s)
        return Placing(fleet, known, asked, lost, self.now_s, number)

    def attach(self, *names, place="device", storage_bytes=1 << 30):
        for name in names:
            able = Capabilities(
                "mini-pc-n100", "cpu", 4, 1, "m", "0", model_storage_bytes=storage_bytes, place=place
            )
            self.tell(DeviceAttached(self.now_s, name, f"{name}@{self.now_s:g}", able, None))

    def detach(self, name):
        session = self.state.devices[name].session
        self.tell(DeviceDetached(self.now_s, name, session, "the stream was cut"))

    def drain(self, name, drained=True):
        self.tell(DeviceDrained(self.now_s, name, drained))

    def restart(self):
        self.tell(CoordinatorStarted(self.now_s, "0"))

    def know_quality(self):
        self.tell(QualityMeasured(self.now_s, "demo-1", MODEL.sha256, "fid", repr(as_numbers(LAWS))))

    def ask(self, name, images=4, recipe=FULL, **settings):
        request = GenerationRequest(name, "demo-1", images, 1, recipe=recipe, **settings)
        self.tell(RequestReceived(self.now_s, "demo-1", request, MODEL))

    def ask_for(self, name, at_most, images=4, **settings):
        self.ask(name, images, recipe=None, quality=Demand("fid", at_most), **settings)

    def cancel(self, name):
        self.tell(RequestCancelled(self.now_s, "demo-1", name, "not wanted"))

    def tick(self, at_s):
        self.now_s = at_s
        self.tell(TimePassed(at_s))

    def begun(self):
        """The batches that are with their devices now."""
        return [
            self.state.generations.batches[e.batch].batch for e in todo(self.state) if isinstance(e, PushBatch)
        ]

    def make(self, batch, seconds, joules=None, quality=Quality.MEASURED, reason=""):
        """The device has made all of a batch, which took it `seconds` until now."""
        self.windows += 1
        reading = EnergyReading("rapl:package-0", "cpu", "package", quality, joules)
        readings = (reading,) if joules is not None else ()
        window = GenerationMeasured(f"w{self.windows}", batch.batch, Phase.GENERATE, 0.0, seconds, readings)
        self.tell(BatchMeasured(self.now_s, "demo-1", batch.device, window))
        for portion in batch.portions if not reason else ():
            asked = self.state.generations.requests.get(portion.request)
            if asked is not None:
                due = asked.deadline_at_s
                late = due is not None and self.now_s > due
                place = (portion.request, batch.batch, batch.device)
                self.tell(RequestServed(self.now_s, "demo-1", *place, "d" * 64, 1000, late))
        self.tell(BatchEnded(self.now_s, "demo-1", batch.batch, batch.device, reason))

    def learn(self, seconds_of):
        """A few batches on every device that is here, so that plans rest on what they took."""
        for name in [n for n, d in self.state.devices.items() if d.session]:
            for images, width in ((1, 1.0), (16, 1.0), (8, 0.25), (16, 0.25), (8, 0.5)):
                label = f"learn-{name}-{images}-{width:g}"
                self.ask(label, images, replace(FULL, widths=(width,) * 10), where="device", device=name)
                (batch,) = [b for b in self.begun() if b.device == name]
                took_s = seconds_of(batch)
                self.now_s += took_s
                self.make(batch, took_s, joules=10 * took_s)

    def run(self, seconds_of, until_s):
        """Devices work as they are told, each batch as long as `seconds_of(batch)`, until nothing is left to do."""
        while self.now_s < until_s:
            ends = {}
            for batch in self.begun():
                began_s = self.state.generations.batches[batch.batch].began_at_s
                ends[batch.batch] = (began_s + seconds_of(batch), batch)
            wakes = [e.at_s for e in todo(self.state) if isinstance(e, Wake)]
            if not ends:
                return
            at_s, batch = min(ends.values(), key=lambda e: (e[0], e[1].batch))
            if wakes and min(wakes) < at_s:
                self.tick(min(wakes))
            else:
                self.now_s = at_s
                self.make(batch, seconds_of(batch))

    def status(self, *names):
        return [self.book.page(name).status for name in names]


@pytest.fixture
def fleet():
    return Fleet()
