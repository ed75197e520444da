"""What Prometheus sees of runs, from events as they happen."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from coordinator.events import (
    BytesMoved,
    DeviceAttached,
    DevicesAssigned,
    EnergyMeasured,
    ModelAggregated,
    ModelEvaluated,
    ModelInitialised,
    RoundClosed,
    RoundOpened,
    RunEnded,
    RunStarted,
    UpdateReceived,
)
from coordinator.machine import State, apply
from coordinator.run_metrics import LINGER_S, collect
from coordinator.store import Store
from coordinator.tallies import KEPT_RUNS
from coordinator.totals import Totals
from fleet.domain import (
    Assignment,
    Capabilities,
    EnergyReading,
    Metric,
    Origin,
    Phase,
    PhaseMeasured,
    Prediction,
    Quality,
)
from fleet.experiment import Experiment, parse

NOTHING_KNOWN = Prediction(None, None)
MACHINE = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")


def experiment(name="x", mode="sync"):
    buffered = {"buffer": 1, "max_staleness": 5} if mode == "async" else {}
    return parse(
        Experiment,
        {
            "name": name, "seed": 1, "rounds": 3, "shards": 2,
            "workload": {"name": "noop", "options": {}},
            "policy": {"name": "fixed", "options": {}},
            "round": {"mode": mode, "min_devices": 1, "devices": 2, "quorum": 1, "deadline_s": 50} | buffered,
            "server": {"optimizer": "fedavg", "lr": 1.0},
            "quantizer": {"block_size": 64, "error_feedback": True},
            "evaluate": {"every": 1},
        },
        where=name,
    )  # fmt: skip


class Seen(Collector):
    def __init__(self, families):
        self._families = families

    def collect(self):
        return self._families


class Story:
    """Events one after the other, ten seconds apart, and what is seen of them."""

    def __init__(self, name="x", mode="sync"):
        self.state, self.totals, self.now_s, self.windows = State(), Totals(), 1000.0, 0
        self.history = []
        for device in ("a", "b"):
            self.tell(DeviceAttached(self.now_s, device, "s", MACHINE, None))
        self.start("x-1", name, mode)

    def tell(self, event):
        self.state = apply(self.state, event)
        self.totals.count(event)
        self.history.append(event)
        return self

    def start(self, run, name="x", mode="sync"):
        self.run = run
        self.tell(RunStarted(self.now_s, run, "", experiment(name, mode)))
        self.tell(ModelInitialised(self.now_s, run, "m0", 100))
        return self.evaluated(0, 9.0)

    def evaluated(self, round, fid):
        return self.tell(ModelEvaluated(self.now_s, self.run, round, (Metric("fid", fid),), None, 1.0))

    def asked(self, round, device, bits=8, predicted=NOTHING_KNOWN):
        return Assignment(
            self.run, round, device, "m", 100, 0, bits, 32, "fp32", 0.5, 7, 1, self.now_s + 50, predicted=predicted
        )

    def opened(self, round, *assignments):
        self.now_s += 10
        return self.tell(RoundOpened(self.now_s, self.run, round, assignments, self.now_s + 50))

    def spent(self, round, device, phase, *readings, seconds=4.0):
        self.windows += 1
        window = PhaseMeasured(f"w{self.windows}", self.run, round, phase, 1.0, seconds, readings)
        return self.tell(EnergyMeasured(self.now_s, self.run, device, window))

    def arrived(self, round, *devices):
        for device in devices:
            self.tell(UpdateReceived(self.now_s, self.run, round, device, f"u{device}", 50, 8, 0.25))
        return self

    def closed(self, round, *devices):
        self.now_s += 10
        self.tell(RoundClosed(self.now_s, self.run, round, devices, (), "all updates are in"))
        self.tell(ModelAggregated(self.now_s, self.run, round, f"m{round}", 100, None, 0.5))
        return self.evaluated(round, 9.0 - round)

    def seen(self, *names):
        """Lines of /metrics about these metrics."""

        registry = CollectorRegistry()
        registry.register(Seen(list(collect(self.state, self.totals.tallies, self.now_s))))
        lines = generate_latest(registry).decode().splitlines()
        return [line for line in lines if line.split("{")[0].split(" ")[0] in names]


def joules(joules, source="rapl:package-0", component="cpu", scope="package", quality=Quality.MEASURED):
    return EnergyReading(source, component, scope, quality, joules)


@pytest.fixture
def story():
    return Story()


def test_the_present_round_shows_what_each_device_is_asked_for(story):
    story.opened(1, story.asked(1, "a", bits=4), story.asked(1, "b", bits=16))
    assert story.seen("wattbed_assignment_bits", "wattbed_assignment_width", "wattbed_assignment_info")[:6] == [
        'wattbed_assignment_bits{device="a",direction="up",experiment="x"} 4.0',
        'wattbed_assignment_bits{device="a",direction="down",experiment="x"} 32.0',
        'wattbed_assignment_bits{device="b",direction="up",experiment="x"} 16.0',
        'wattbed_assignment_bits{device="b",direction="down",experiment="x"} 32.0',
        'wattbed_assignment_width{device="a",experiment="x"} 0.5',
        'wattbed_assignment_width{device="b",experiment="x"} 0.5',
    ]


def test_a_device_that_is_not_asked_again_is_not_shown_in_the_next_round(story):
    story.opened(1, story.asked(1, "a"), story.asked(1, "b")).arrived(1, "a", "b").closed(1, "a", "b")
    story.opened(2, story.asked(2, "b"))
    assert story.seen("wattbed_assignment_train_steps") == [
        'wattbed_assignment_train_steps{device="b",experiment="x"} 7.0'
    ]


def test_in_an_asynchronous_run_a_device_keeps_its_assignment_until_it_gets_another():
    story = Story(mode="async")
    story.opened(1, story.asked(1, "a", bits=4), story.asked(1, "b", bits=4)).arrived(1, "b").closed(1, "b")
    story.opened(2).tell(DevicesAssigned(story.now_s, "x-1", 2, (story.asked(2, "b", bits=16),)))
    assert [line for line in story.seen("wattbed_assignment_bits") if "up" in line] == [
        'wattbed_assignment_bits{device="a",direction="up",experiment="x"} 4.0',
        'wattbed_assignment_bits{device="b",direction="up",experiment="x"} 16.0',
    ]


def test_predicted_stands_beside_measured_for_the_round_that_closed_last(story):
    fitted = Prediction(9.0, 3.0, Origin.FITTED, 2)
    story.opened(1, story.asked(1, "a", predicted=fitted), story.asked(1, "b"))
    story.spent(1, "a", Phase.TRAIN, joules(6.0)).spent(1, "a", Phase.TRAIN, joules(2.0), seconds=1.0)
    before = story.seen("wattbed_round_measured_joules")
    story.arrived(1, "a", "b").closed(1, "a", "b")
    story.opened(2, story.asked(2, "a")).spent(1, "a", Phase.UPLOAD, joules(1.0))
    assert (before, story.seen("wattbed_round_measured_joules")) == (
        [],
        [
            'wattbed_round_measured_joules{component="cpu",device="a",experiment="x",phase="train",'
            'quality="measured",scope="package"} 8.0',
            'wattbed_round_measured_joules{component="cpu",device="a",experiment="x",phase="upload",'
            'quality="measured",scope="package"} 1.0',
        ],
    )
    assert story.seen(
        "wattbed_round_predicted_joules", "wattbed_round_predicted_seconds", "wattbed_round_measured_seconds",
        "wattbed_round_seconds", "wattbed_round_loss",
    ) == [
        'wattbed_round_seconds{experiment="x"} 10.0',
        'wattbed_round_measured_seconds{device="a",experiment="x",phase="train"} 5.0',
        'wattbed_round_measured_seconds{device="a",experiment="x",phase="upload"} 4.0',
        'wattbed_round_predicted_joules{device="a",experiment="x"} 9.0',
        'wattbed_round_predicted_seconds{device="a",experiment="x"} 3.0',
        'wattbed_round_loss{device="a",experiment="x"} 0.25',
        'wattbed_round_loss{device="b",experiment="x"} 0.25',
    ]  # fmt: skip


def test_an_unknown_window_makes_the_round_of_that_source_unknown_and_not_small(story):
    story.opened(1, story.asked(1, "a"))
    story.spent(1, "a", Phase.TRAIN, joules(6.0)).spent(1, "a", Phase.TRAIN, joules(None))
    story.spent(1, "a", Phase.TRAIN, joules(3.0))
    story.arrived(1, "a").closed(1, "a")
    assert story.seen("wattbed_round_measured_joules") == []


def test_of_two_techniques_for_one_component_one_counts_and_rails_do_not_count_for_the_run(story):
    story.opened(1, story.asked(1, "a"))
    story.spent(
        1,
        "a",
        Phase.TRAIN,
        joules(6.0),
        joules(5.0, "rapl:package-1"),
        joules(2.0, "rapl:dram-0", "dram"),
        joules(40.0, "nvml_energy:GPU-1", "gpu"),
        joules(44.0, "nvml_power:GPU-1", "gpu"),
        joules(4.0, "rapl:core", "rail"),
        joules(90.0, "plug:desk", "wall", "wall"),
        joules(80.0, "battery:0", "board", "wall"),
        joules(3.0, "model", "cpu", "package", Quality.ESTIMATED),
    )
    assert story.seen("wattbed_run_energy_joules_total") == [
        'wattbed_run_energy_joules_total{experiment="x",quality="measured",scope="package"} 53.0',
        'wattbed_run_energy_joules_total{experiment="x",quality="measured",scope="wall"} 90.0',
        'wattbed_run_energy_joules_total{experiment="x",quality="estimated",scope="package"} 3.0',
    ]


def test_bytes_are_those_of_the_run_and_of_the_round_that_closed_last(story):
    story.opened(1, story.asked(1, "a"))
    story.tell(BytesMoved(story.now_s, "x-1", 1, "a", "up", 70)).arrived(1, "a").closed(1, "a")
    story.opened(2, story.asked(2, "a")).tell(BytesMoved(story.now_s, "x-1", 2, "a", "up", 5))
    assert story.seen("wattbed_run_wire_bytes_total", "wattbed_round_wire_bytes") == [
        'wattbed_run_wire_bytes_total{direction="up",experiment="x"} 75.0',
        'wattbed_round_wire_bytes{device="a",direction="up",experiment="x"} 70.0',
    ]


def test_a_run_says_when_it_last_moved_and_when_its_open_round_is_due(story):
    story.opened(1, story.asked(1, "a"))
    names = ("wattbed_run_moved_timestamp_seconds", "wattbed_run_round_deadline_timestamp_seconds")
    within = story.seen(*names)
    story.arrived(1, "a").closed(1, "a")
    assert (within, story.seen(*names)) == (
        [f'{names[0]}{{experiment="x"}} 1010.0', f'{names[1]}{{experiment="x"}} 1060.0'],
        [f'{names[0]}{{experiment="x"}} 1020.0'],
    )


def test_the_last_evaluation_of_a_run_is_seen_after_its_end_for_a_while(story):
    story.opened(1, story.asked(1, "a")).arrived(1, "a").closed(1, "a")
    story.tell(RunEnded(story.now_s, "x-1", "completed", None))
    story.now_s += LINGER_S - 1
    just_ended = story.seen("wattbed_model_quality", "wattbed_run_info")
    story.now_s += 1
    assert (just_ended, story.seen("wattbed_model_quality", "wattbed_run_info")) == (
        [
            'wattbed_run_info{experiment="x",phase="completed",run="x-1"} 1.0',
            'wattbed_model_quality{experiment="x",metric="fid"} 8.0',
        ],
        [],
    )


def test_of_two_runs_of_one_experiment_the_newer_is_shown(story):
    story.start("x-2").tell(RunEnded(story.now_s, "x-1", "stopped", None))
    assert [line for line in story.seen("wattbed_run_info", "wattbed_run_round") if "experiment" in line] == [
        'wattbed_run_info{experiment="x",phase="planning",run="x-2"} 1.0',
        'wattbed_run_round{experiment="x"} 0.0',
    ]


def test_only_so_many_ended_runs_are_remembered(story):
    for number in range(2, KEPT_RUNS + 5):
        story.tell(RunEnded(story.now_s, story.run, "stopped", None)).start(f"x-{number}")
    assert len(story.totals.tallies.runs) == KEPT_RUNS + 1


def test_a_start_from_the_log_remembers_the_same_runs_though_it_passes_over_the_others(story, tmp_path):
    for number in range(2, KEPT_RUNS + 5):
        story.opened(1, story.asked(1, "a")).spent(1, "a", Phase.TRAIN, joules(2.0)).arrived(1, "a").closed(1, "a")
        story.tell(RunEnded(story.now_s, story.run, "stopped", None)).start(f"x-{number}")
    store = Store(tmp_path / "log")
    store.append(story.history)
    anew = Totals(store.ended())
    for event in store.events():
        anew.count(event)
    assert store.ended() == [f"x-{number}" for number in range(1, KEPT_RUNS + 4)]
    assert anew.tallies.runs == story.totals.tallies.runs
    assert anew.joules == story.totals.joules
