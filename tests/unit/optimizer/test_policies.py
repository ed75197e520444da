import asyncio
import logging
from dataclasses import replace

import numpy as np
import pytest

from coordinator.events import DeviceAttached, ModelEvaluated, ModelInitialised, RoundFailed, RunStarted
from coordinator.loop import Loop
from coordinator.machine import RunPhase
from coordinator.machine.todo import Evaluate, Initialise, Plan
from coordinator.store import Store
from fleet.domain import Capabilities, LeverInfo, Phase, Prediction
from fleet.errors import BadExperiment, BadRequest
from fleet.experiment import Experiment, parse
from optimizer.fitting.start import Start
from optimizer.ondemand.problem import Infeasible
from optimizer.policies.precision import PrecisionPolicy
from optimizer.policy import Candidate, Decision, load
from optimizer.precision import exhaustive as judge

pytestmark = pytest.mark.slow

MENU = {"bits_up": [4, 8, 16], "precisions": ["fp32", "bf16"], "widths": [1.0, 0.5], "train_steps": [20]}
GREEDY = {"menu": MENU, "bits_down": 32, "bits_floor": 8, "deadline_s": 100.0, "late": "leave out"}
DEMAND = {"of": "device", "rms": 1e-3, "first_range": 0.1}
TRAINING = {"precisions": ["fp32", "bf16"], "widths": [1.0], "train_steps": [20]}
ON_DEMAND = {"demand": DEMAND, "training": TRAINING, "bits_down": 32, "deadline_s": 100.0, "late": "leave out"}
EXHAUSTIVE = {"menu": MENU, "bits_down": 32, "deadline_s": 100.0}
RANDOM = {"seed": 3, "bits_down": 32, "menu": MENU}
NETWORK = {"parameters": 411_598, "macs": 40.5e6, "outputs": 4990, "inputs": 784, "batch": 32}
LEARNING = {
    "max_iterations": 30, "smoothness": 0.097, "convexity": 0.05, "beta": 40.0, "gamma": 1.0, "gradient": 0.25,
    "heterogeneity": 0.6, "noise": 100.0, "eps": 0.1, "variance": 0.0,
}  # fmt: skip
PRECISION = {
    "goal": "energy", "arithmetic": "native", "precisions": ["fp32", "bf16"], "width": 1.0, "bits_down": 32,
    "radio_watts": 0.1,
    "seed": 1, "learning": LEARNING, "network": NETWORK,
}  # fmt: skip
ALL = {
    "random": RANDOM,
    "greedy": GREEDY,
    "on-demand": ON_DEMAND,
    "exhaustive": EXHAUSTIVE,
    "precision": PRECISION,
}


def fleet(simulated, *names, **changes):
    """Calibrated devices that differ in speed, power and link."""
    traits = {"a": (0.2, 5.0, 2e6), "b": (0.1, 20.0, 8e6), "c": (0.4, 3.0, 1e6), "d": (0.05, 40.0, 50e6)}
    found = []
    for name in names or tuple(traits):
        step, watts, rate = traits[name]
        found.append(simulated(device=name, step_s=step, watts=watts, up_bps=rate, **changes).calibrated())
    return found


def candidates(devices):
    return [d.candidate for d in devices]


def played(policy, devices, rounds, **more):
    """The decisions of so many rounds, each told of before the next."""
    by_name, made = {d.device: d for d in devices}, []
    for round in range(1, rounds + 1):
        decisions = policy.ask(round, candidates(devices))
        for d in decisions:
            policy.tell(by_name[d.device].told(d, round, **more))
        made.append(decisions)
    return made


@pytest.mark.parametrize("name", ALL)
def test_every_policy_plans_from_calibrations_and_then_from_rounds(name, simulated):
    devices = fleet(simulated)
    rounds = played(load(name, ALL[name]), devices, 4)
    truth = {d.device: d for d in devices}
    errors = [abs(d.predicted.joules / truth[d.device].joules(d) - 1) for made in rounds[2:] for d in made]
    assert np.median(errors) < 0.1


@pytest.mark.parametrize("name", ALL)
def test_after_a_restart_the_same_history_gives_the_same_plan(name, simulated):
    options = ALL[name]
    if name != "random":
        options = options | {"explore": {"share": 0.5, "seed": 1, "menu": MENU}}
    live, anew = load(name, options), load(name, options)
    devices = fleet(simulated)
    told = []
    for round in range(1, 6):
        for d in live.ask(round, candidates(devices)):
            told.append(next(x for x in devices if x.device == d.device).told(d, round))
            live.tell(told[-1])
    for t in told:
        anew.tell(t)
    assert anew.ask(6, candidates(devices)) == live.ask(6, candidates(devices))


@pytest.mark.parametrize("name", ALL)
def test_an_empty_fleet_is_refused_by_name(name):
    with pytest.raises(BadRequest, match="empty fleet"):
        load(name, ALL[name]).ask(1, [])


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_option_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(BadExperiment, match="unknown key speed; known are .*bits_down"):
        load(name, ALL[name] | {"speed": 1})


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("greedy", {"deadline_s": 0}, "deadline_s = 0"),
        ("greedy", {"bits_floor": 32}, "no bits_up of the menu reaches bits_floor 32"),
        ("greedy", {"menu": MENU | {"bits_up": [0]}}, "bits must be 1 to 16 or 32, not 0"),
        ("greedy", {"menu": MENU | {"precisions": ["fp12"]}}, "precision must be one of fp32"),
        ("on-demand", {"demand": DEMAND | {"rms": 0}}, "demand.rms = 0"),
        ("on-demand", {"demand": DEMAND | {"of": "run", "tolerances": {"a": 1.0}}}, "tolerances belong to"),
        ("on-demand", {"demand": DEMAND | {"tolerances": {"a": 0.0}}}, "above zero: a"),
        ("on-demand", {"participation": {"devices": 2, "by": "sample"}}, "seed belongs to"),
        ("precision", {"precisions": ["bf16"]}, "fp32 must be among them"),
        ("precision", {"arithmetic": "simulated", "radio_watts": 0.0}, "needs radio_watts above zero"),
        ("random", {"seed": -1}, "seed = -1"),
    ],
)
def test_wrong_options_are_named(name, changes, message):
    with pytest.raises(BadExperiment, match=message):
        load(name, ALL[name] | changes)


def test_random_draws_all_of_its_menu(simulated):
    policy, devices = load("random", RANDOM), candidates(fleet(simulated))
    drawn = {(d.bits_up, d.precision, d.width) for round in range(1, 40) for d in policy.ask(round, devices)}
    assert len(drawn) == 3 * 2 * 2


def test_greedy_takes_the_least_joules_above_the_floor(simulated):
    devices = fleet(simulated)
    found = load("greedy", GREEDY).ask(1, candidates(devices))
    assert {(d.bits_up, d.precision, d.width) for d in found} == {(8, "bf16", 0.5)}


def test_greedy_does_what_exhaustive_does(simulated):
    devices = fleet(simulated)
    menu = MENU | {"bits_up": [8, 16], "train_steps": [10, 20]}
    mine = load("greedy", GREEDY | {"menu": menu}).ask(1, candidates(devices))
    assert mine == load("exhaustive", EXHAUSTIVE | {"menu": menu}).ask(1, candidates(devices))


def test_measured_joules_decide_and_not_what_was_thought_before(simulated):
    (device,) = fleet(simulated, "a")
    device.bf16 = 3.0  # the calibration said 0.7
    menu = MENU | {"widths": [1.0]}
    explore = {"share": 0.25, "seed": 5, "menu": menu | {"precisions": ["fp32"]}}
    rounds = played(load("greedy", GREEDY | {"menu": menu, "explore": explore}), [device], 6)
    # the third round explores
    assert [made[0].precision for made in rounds] == ["bf16", "bf16", "fp32", "fp32", "fp32", "fp32"]


def test_a_device_that_cannot_hold_the_deadline_is_left_out_or_fails_the_plan(simulated):
    devices = fleet(simulated)
    slow = GREEDY | {"deadline_s": 6.0}
    assert [d.device for d in load("greedy", slow).ask(1, candidates(devices))] == ["b", "d"]
    with pytest.raises(Infeasible, match=r"device a needs .* its deadline is 6 s") as caught:
        load("greedy", slow | {"late": "fail"}).ask(1, candidates(devices))
    assert (caught.value.constraint, caught.value.devices) == ("deadline", (0,))


@pytest.mark.parametrize("name", ["greedy", "on-demand", "exhaustive"])
def test_a_deadline_that_nobody_holds_is_named(name, simulated):
    with pytest.raises(Infeasible, match="deadline"):
        load(name, ALL[name] | {"deadline_s": 0.1}).ask(1, candidates(fleet(simulated)))


def test_a_device_whose_speed_is_halved_is_planned_anew_within_two_rounds(simulated):
    devices = {n: simulated(device=n, step_s=s).calibrated() for n, s in (("a", 0.05), ("b", 0.2))}
    slowed, asked = devices["b"], Decision("b", 8, 32, "fp32", 1.0, 20, Prediction(None, None))
    phases = slowed.seconds(asked)
    deadline_s = sum(phases.values()) + 0.5 * phases[Phase.TRAIN]
    menu = {"bits_up": [8], "precisions": ["fp32"], "widths": [1.0], "train_steps": [20]}
    policy, taking_part = load("greedy", GREEDY | {"menu": menu, "deadline_s": deadline_s}), []
    for round in range(1, 11):
        if round == 7:
            slowed.step_s, slowed.overhead_s = 2 * slowed.step_s, 2 * slowed.overhead_s
        made = policy.ask(round, candidates(devices.values()))
        taking_part.append("b" in [d.device for d in made])
        for d in made:
            policy.tell(devices[d.device].told(d, round))
    assert taking_part == [True] * 8 + [False] * 2


def test_bits_follow_the_live_range_of_each_update(simulated):
    devices = fleet(simulated)
    policy = load("on-demand", ON_DEMAND)
    first = [d.bits_up for d in policy.ask(1, candidates(devices))]
    for device, span in zip(devices, (0.1, 0.05, 0.4, 1.6), strict=True):
        policy.tell(device.told(policy.ask(1, [device.candidate])[0], 1, update_range=span))
    then = [d.bits_up for d in policy.ask(2, candidates(devices))]
    # rms = 1e-3 at a range R needs 2^q - 2 >= R / (2 rms)
    assert (first, then) == ([6, 6, 6, 6], [6, 5, 8, 10])


def test_a_devices_own_tolerance_comes_before_its_kinds_and_that_before_the_runs(simulated):
    devices = [simulated(device="a").calibrated(), simulated(device="b").calibrated()]
    other = Candidate("c", Capabilities("raspberry-pi-5", "cpu", 4, 1, "aarch64", "0"))
    demand = DEMAND | {"tolerances": {"mini-pc-n100": 1e-2, "a": 1e-4}}
    found = load("on-demand", ON_DEMAND | {"demand": demand}).ask(1, [*candidates(devices), other])
    assert [d.bits_up for d in found] == [9, 3, 6]


@pytest.mark.parametrize("rms", [3e-4, 1e-3, 3e-3])
def test_the_shared_error_budget_is_split_as_exhaustive_splits_it(rms, simulated):
    devices = fleet(simulated, "a", "b", "c")
    bits = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16]
    demand = {"of": "run", "rms": rms, "first_range": 0.1}
    mine = load("on-demand", ON_DEMAND | {"demand": demand}).ask(1, candidates(devices))
    menu = MENU | {"bits_up": bits, "widths": [1.0], "precisions": ["bf16"]}
    best = load("exhaustive", EXHAUSTIVE | {"menu": menu, "demand": demand}).ask(1, candidates(devices))
    joules = [sum(d.predicted.joules for d in found) for found in (mine, best)]
    assert joules[0] == pytest.approx(joules[1], rel=1e-3)


def test_who_pays_more_for_a_bit_sends_fewer(simulated):
    demand = {"of": "run", "rms": 1e-3, "first_range": 0.1}
    devices = [simulated(device=name, watts=w).calibrated() for name, w in (("a", 1), ("b", 10), ("c", 100))]
    found = load("on-demand", ON_DEMAND | {"demand": demand}).ask(1, candidates(devices))
    bits = [d.bits_up for d in found]
    assert bits[0] > bits[1] > bits[2]


def test_a_budget_that_the_deadline_forbids_names_the_device_and_the_constraint(simulated):
    devices = fleet(simulated, "a", "b", "c")
    demand = {"of": "run", "rms": 1e-9, "first_range": 0.1}
    with pytest.raises(Infeasible, match=r"error is at least .*\(c\)") as caught:
        load("on-demand", ON_DEMAND | {"demand": demand, "deadline_s": 15.0}).ask(1, candidates(devices))
    assert caught.value.constraint == "error budget"


@pytest.mark.parametrize("by", [{"by": "cheapest"}, {"by": "sample", "seed": 1}])
def test_so_many_devices_take_part_as_are_asked_for(by, simulated):
    policy = load("on-demand", ON_DEMAND | {"participation": {"devices": 2, **by}})
    rounds = [[d.device for d in policy.ask(n, candidates(fleet(simulated)))] for n in range(1, 60)]
    assert {len(names) for names in rounds} == {2}
    assert len({tuple(names) for names in rounds}) == (1 if by["by"] == "cheapest" else 6)


CLOCK = LeverInfo("cpufreq", "Hz", 0.5e9, 2e9)
QUOTA = LeverInfo("cpu_quota", "Hz", 0.3e9, 3e9)


def test_a_clock_is_lowered_only_where_there_is_a_lever_that_saves(simulated):
    hardware = simulated(device="a", levers=(CLOCK,)).calibrated()
    rest = simulated(device="b", levers=(QUOTA,)).calibrated()
    none = simulated(device="c").calibrated()
    for device in (hardware, rest, none):
        device.rests_at(0.5)
    options = ON_DEMAND | {"training": TRAINING | {"frequencies": [1.0, 0.5]}}
    found = load("on-demand", options).ask(1, candidates([hardware, rest, none]))
    assert [d.frequency_hz for d in found] == [1e9, None, None]


def test_a_declared_share_of_rounds_tries_what_was_tried_least_and_says_so(simulated, caplog):
    menu = {"bits_up": [4, 16], "precisions": ["fp32"], "widths": [1.0], "train_steps": [20]}
    policy = load("greedy", GREEDY | {"explore": {"share": 0.25, "seed": 5, "menu": menu}})
    with caplog.at_level(logging.INFO, logger="optimizer.policies.base"):
        rounds = played(policy, fleet(simulated, "a"), 16)
    tried = [made[0].bits_up for made in rounds if (made[0].precision, made[0].width) == ("fp32", 1.0)]
    assert len(tried) == len(caplog.records) == 4
    assert sorted(tried) == [4, 4, 16, 16]
    assert [made[0].note for made in rounds].count("explores") == 4
    assert {made[0].note for made in rounds} == {"explores", ""}
    assert "explores (0.25 of the rounds do): a: 4 bits, fp32, width 1, 20 steps" in caplog.text


def test_exhaustive_refuses_a_fleet_that_is_too_large(simulated):
    many = [simulated(device=f"d{i:02}").calibrated().candidate for i in range(8)]
    with pytest.raises(BadRequest, match=r"combinations; exhaustive tries 2,000,000 at most"):
        load("exhaustive", EXHAUSTIVE).ask(1, many)


def test_a_device_that_trains_at_nothing_on_the_menu_is_named(simulated):
    (device,) = fleet(simulated, "a")
    rows = device.calibration.rows
    broken = tuple(replace(r, repeats=0, reason="no") if r.precision == "bf16" else r for r in rows)
    device.calibration = replace(device.calibration, rows=broken)
    only = GREEDY | {"menu": MENU | {"precisions": ["bf16"]}}
    with pytest.raises(Infeasible, match="device a trains at none of bf16"):
        load("greedy", only).ask(1, candidates([device]))


def test_a_precision_that_nobody_had_time_to_try_is_not_one_that_the_device_lacks(simulated):
    (device,) = fleet(simulated, "a")

    def can_train(**change):
        rows = tuple(
            replace(r, repeats=0, **change) if r.precision == "bf16" else r for r in device.calibration.rows
        )
        return Start(replace(device.candidate, calibration=replace(device.calibration, rows=rows)), None).can(
            "bf16"
        )

    assert (can_train(reason="no"), can_train(left_out=True)) == (False, None)


def test_the_precision_point_is_that_of_the_exhaustive_search_on_the_same_constants(simulated):
    devices = candidates(fleet(simulated))
    for goal, best in (("energy", judge.energy), ("sum", judge.total)):
        policy = PrecisionPolicy(PRECISION | {"goal": goal})
        policy.ask(1, devices)
        problem = policy.problem(devices)
        assert policy.point.joules <= best(judge.table(problem)).joules * 1.001 or goal == "sum"
        score = (lambda p: p.joules) if goal == "energy" else (lambda p: p.joules + p.rounds)
        assert score(policy.point) == pytest.approx(score(best(judge.table(problem))), rel=1e-3)


def test_the_constants_of_the_precision_problem_are_the_fitted_ones(simulated):
    devices = fleet(simulated, "a", "b")
    problem = PrecisionPolicy(PRECISION).problem(candidates(devices))
    full = np.mean([d.watts * d.step_s for d in devices])
    assert problem.train_joules([32, 16]) == pytest.approx([full, 0.7 * full])
    per_bit = np.mean([(d.watts + 0.1) * 500_000 / d.up_bps for d in devices])
    assert problem.joules_per_bit == pytest.approx(per_bit)


def test_a_precision_that_a_device_was_never_seen_to_run_is_not_chosen(simulated):
    loose = PRECISION | {"learning": LEARNING | {"eps": 1000.0}}
    seen = PrecisionPolicy(loose).ask(1, candidates(fleet(simulated, "a")))
    unseen = PrecisionPolicy(loose).ask(1, [simulated().candidate])
    assert (seen[0].precision, unseen[0].precision) == ("bf16", "fp32")


def test_before_any_data_precision_plans_from_the_presets_of_the_kind_and_says_so(simulated):
    (found,) = PrecisionPolicy(PRECISION).ask(1, [simulated().candidate])
    assert (found.predicted.origin, found.predicted.samples) == ("preset", 0)


def test_precision_needs_constants_of_every_device(simulated):
    stranger = simulated(kind="an-unknown-board").candidate
    with pytest.raises(BadRequest, match="device a: nothing says what fp32 at width 1 costs it"):
        PrecisionPolicy(PRECISION).ask(1, [stranger])


def test_an_eps_that_no_precision_reaches_is_named(simulated):
    with pytest.raises(BadRequest, match="eps = 1e-12 needs"):
        PrecisionPolicy(PRECISION | {"learning": LEARNING | {"eps": 1e-12}}).ask(1, candidates(fleet(simulated)))


def test_joules_at_mac_level_are_apart_from_the_measured_ones(simulated):
    policy = PrecisionPolicy(PRECISION)
    (found,) = policy.ask(1, candidates(fleet(simulated, "a")))
    assert policy.mac_level(8) < policy.mac_level(32)
    truth = fleet(simulated, "a")[0]
    assert found.predicted.joules == pytest.approx(truth.joules(found), rel=0.2)


def test_the_papers_own_experiment_trains_at_simulated_bits_on_the_chips_joules(simulated):
    options = PRECISION | {"arithmetic": "simulated", "learning": LEARNING | {"eps": 1000.0}}
    policy, devices = PrecisionPolicy(options), fleet(simulated)
    decisions = policy.ask(1, candidates(devices))
    assert {d.precision for d in decisions} == {f"q{policy.point.n}"}
    problem = policy.problem(candidates(devices))
    assert problem.train_joules(8) == pytest.approx(policy.mac_level(8))
    seconds_per_bit = np.mean([500_000 / d.up_bps for d in devices])
    assert problem.joules_per_bit == pytest.approx(0.1 * seconds_per_bit)
    truth = next(d for d in devices if d.device == decisions[0].device)
    assert decisions[0].predicted.joules == pytest.approx(truth.joules(decisions[0]), rel=0.2)


EXPERIMENT = {
    "name": "x", "seed": 1, "rounds": 3, "shards": 3,
    "workload": {"name": "noop", "options": {}},
    "policy": {"name": "greedy", "options": GREEDY | {"deadline_s": 0.1, "late": "fail"}},
    "round": {"mode": "sync", "min_devices": 1, "devices": 1, "quorum": 1, "deadline_s": 50, "max_failures": 2},
    "server": {"optimizer": "fedavg", "lr": 1.0},
    "quantizer": {"block_size": 64, "error_feedback": True},
    "evaluate": {"every": 1},
}  # fmt: skip


async def test_a_policy_that_raises_fails_its_round_with_the_reason_and_not_the_coordinator(simulated, tmp_path):
    experiment, (device,) = parse(Experiment, EXPERIMENT, "x"), fleet(simulated, "a")

    async def execute(effect):
        match effect:
            case Initialise():
                return (ModelInitialised(loop.now_s(), effect.run, "m", 1),)
            case Evaluate():
                return (ModelEvaluated(loop.now_s(), effect.run, effect.round, (), None, 0.0),)
            case Plan():
                load(experiment.policy.name, experiment.policy.options).ask(effect.round, [device.candidate])
        return ()

    store = Store(tmp_path / "log")
    loop = Loop(store, execute, "test")
    able = device.candidate.capabilities
    await loop.submit(
        DeviceAttached(loop.now_s(), "a", "s", able, None), RunStarted(loop.now_s(), "x-1", "", experiment)
    )
    async with asyncio.timeout(10):
        while not loop.state.runs["x-1"].phase.ended:
            await asyncio.sleep(0.01)
    reasons = [e.reason for e in store.events("x-1") if isinstance(e, RoundFailed)]
    await loop.stop()
    assert loop.state.runs["x-1"].phase is RunPhase.FAILED
    assert len(reasons) == 2
    assert reasons[0].startswith("planning: device a needs")
