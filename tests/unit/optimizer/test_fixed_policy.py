import pytest

from fleet.domain import Assignment, Capabilities, EnergyReading, Origin, Phase, PhaseReport, Quality
from fleet.errors import BadExperiment
from optimizer.policy import Candidate, Told, load

OPTIONS = {"bits_up": [4, 8], "bits_down": 32, "precision": "fp32", "width": 1.0, "train_steps": 10}
MACHINE = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")
CANDIDATES = [Candidate(name, MACHINE) for name in ("a", "b", "c")]


def phase(name, seconds, joules):
    reading = EnergyReading("model", "cpu", "board", Quality.ESTIMATED, joules)
    return PhaseReport(name, seconds, 1, (reading,))


def told(device, train_s, joules=10.0, steps=10, width=1.0):
    assignment = Assignment("r", 1, device, "m", 1, 0, 4, 32, "fp32", width, steps, 1, 0.0)
    return Told(assignment, (phase(Phase.TRAIN, train_s, joules), phase(Phase.UPLOAD, 1.0, 2.0)), 1, 1)


def test_bits_go_round_the_devices():
    assert [d.bits_up for d in load("fixed", OPTIONS).ask(1, CANDIDATES)] == [4, 8, 4]


def test_with_nothing_measured_there_is_no_number():
    decision = load("fixed", OPTIONS).ask(1, CANDIDATES)[0]
    assert (decision.predicted.joules, decision.predicted.seconds, decision.predicted.origin) == (
        None,
        None,
        Origin.PRESET,
    )


def test_a_prediction_is_the_median_of_what_the_same_device_did_for_as_many_steps():
    policy = load("fixed", OPTIONS | {"train_steps": 20})
    for seconds in (6.0, 5.0, 100.0, 6.0):
        policy.tell(told("a", seconds, joules=seconds * 2))
    a, b, _ = policy.ask(4, CANDIDATES)
    assert (a.predicted.seconds, a.predicted.joules, a.predicted.samples) == (13.0, 26.0, 4)
    assert b.predicted.seconds is None


def test_the_first_assignment_of_a_device_is_left_out_once_there_is_another():
    policy, predicted = load("fixed", OPTIONS), []
    for seconds in (50.0, 5.0):
        policy.tell(told("a", seconds))
        predicted.append(policy.ask(2, CANDIDATES)[0].predicted.seconds)
    assert predicted == [51.0, 6.0]


def test_a_device_that_becomes_half_as_fast_is_predicted_right_after_two_rounds():
    policy, predicted = load("fixed", OPTIONS), []
    for seconds in (5.0, 5.0, 5.1, 4.9, 5.0, 10.0, 10.0):
        policy.tell(told("a", seconds))
        predicted.append(policy.ask(2, CANDIDATES)[0].predicted.seconds)
    assert predicted[-3:] == [6.0, 6.0, 11.0]


def test_another_width_teaches_nothing_about_this_one():
    policy = load("fixed", OPTIONS)
    policy.tell(told("a", 5.0, width=0.5))
    assert policy.ask(2, CANDIDATES)[0].predicted.seconds is None


def test_joules_that_one_phase_lacks_are_not_predicted():
    policy = load("fixed", OPTIONS)
    policy.tell(told("a", 5.0, joules=None))
    predicted = policy.ask(2, CANDIDATES)[0].predicted
    assert (predicted.joules, predicted.seconds) == (None, 6.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits_up": []}, "bits_up"),
        ({"bits_down": 0}, "bits must be 1 to 16 or 32, not 0"),
        ({"width": 0}, "width = 0"),
        ({"steps": 3}, "unknown key steps; known are bits_down, bits_up, precision, train_steps, width"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(BadExperiment, match=message):
        load("fixed", OPTIONS | changes)


def test_a_device_trains_at_the_width_that_it_or_its_kind_affords():
    policy = load("fixed", OPTIONS | {"widths": {"mini-pc-n100": 0.5, "b": 0.25, "raspberry-pi-5": 0.75}})

    assert [d.width for d in policy.ask(1, CANDIDATES)] == [0.5, 0.25, 0.5]


def test_a_width_that_is_none_is_refused():
    with pytest.raises(BadExperiment, match=r"policy.options: .*widths"):
        load("fixed", OPTIONS | {"widths": {"b": 1.5}})
