"""The learned policy without its training: what it sees, how it is kept, what it decides, and whom it is held against."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fleet.domain import Assignment, Capabilities, EnergyReading, Phase, PhaseReport, Quality
from fleet.errors import BadExperiment, BadRequest
from optimizer.fitting import FleetFit
from optimizer.learned import compare, memory, network, train
from optimizer.learned.network import Network, described
from optimizer.learned.policy import LearnedPolicy
from optimizer.learned.simulator import Simulator, simulator
from optimizer.policies.options import Menu
from optimizer.policy import Candidate, Told

pytestmark = pytest.mark.slow

MENU = Menu(bits_up=(4, 16), precisions=("fp32",), widths=(0.5, 1.0), train_steps=(10,))
ENTRIES = memory.entries(MENU, 32)
DEVICES = Simulator(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[5.0, 9.0, 16.0, 20.0]]))


def net(weights=None, bias=(0.0, 1.0, 0.0, 0.0), menu=ENTRIES):
    w = np.zeros((4, 12)) if weights is None else weights
    return Network((w,), (np.asarray(bias, float),), described(menu), {"seed": 0})


def told(choice, seconds=2.0, round=1):
    s = choice.setting
    a = Assignment(
        *("r", round, "a", "m", 1, 0, choice.bits_up, choice.bits_down),
        *(s.precision, s.width, choice.steps, 1, 0.0),
    )
    joules = EnergyReading("model", "cpu", "board", Quality.ESTIMATED, 3.0 * seconds)
    phases = (Phase.DOWNLOAD, Phase.TRAIN, Phase.QUANTIZE, Phase.UPLOAD)
    return Told(a, tuple(PhaseReport(p, seconds, 1, (joules,)) for p in phases), 1000, 1000)


def options(tmp_path, **changes):
    made = {
        "menu": MENU.model_dump(),
        "bits_down": 32,
        "deadline_s": 10.0,
        "seed": 0,
        "file": str(tmp_path / "n.npz"),
    }
    return made | changes


CANDIDATE = Candidate("a", Capabilities("mini-pc-n100", "cpu", 4, 1 << 30, "x86_64", "0"))


def test_a_network_that_was_kept_is_the_same_network(tmp_path):
    made = net(np.arange(48.0).reshape(4, 12))
    made.save(tmp_path / "n.npz")
    back = network.load(tmp_path / "n.npz", ENTRIES)
    seen = np.linspace(-1, 1, 12)
    assert (back.preferences(seen) == made.preferences(seen)).all()


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"PK\x03\x04broken"])
def test_a_file_that_is_no_network_is_refused_by_name(tmp_path, content):
    (tmp_path / "n.npz").write_bytes(content)
    with pytest.raises(BadRequest, match="holds no trained policy"):
        network.load(tmp_path / "n.npz", ENTRIES)


def test_a_network_for_another_menu_is_refused(tmp_path):
    net().save(tmp_path / "n.npz")
    with pytest.raises(BadRequest, match="another menu"):
        network.load(tmp_path / "n.npz", memory.entries(MENU, 16))


def test_without_a_file_it_says_how_to_make_one(tmp_path):
    with pytest.raises(BadRequest, match="wattbed learn"):
        LearnedPolicy(options(tmp_path)).ask(1, (CANDIDATE,))


def test_it_does_what_the_network_prefers_and_predicts_as_every_policy(tmp_path):
    net(bias=(0, 0, 5, 0)).save(tmp_path / "n.npz")
    (decision,) = LearnedPolicy(options(tmp_path)).ask(1, (CANDIDATE,))
    chosen = ENTRIES[2]
    assert (decision.width, decision.bits_up, decision.train_steps) == (chosen.setting.width, chosen.bits_up, 10)


def test_what_an_assignment_came_to_changes_what_it_does_next(tmp_path):
    weights = np.zeros((4, 12))
    weights[3, 1] = 9.0  # entry 3, once entry 1 was tried
    net(weights).save(tmp_path / "n.npz")
    policy = LearnedPolicy(options(tmp_path))
    first = policy.ask(1, (CANDIDATE,))[0]
    policy.tell(told(ENTRIES[1]))
    second = policy.ask(2, (CANDIDATE,))[0]
    assert [(d.width, d.bits_up) for d in (first, second)] == [
        (ENTRIES[at].setting.width, ENTRIES[at].bits_up) for at in (1, 3)
    ]


def test_the_same_history_gives_the_same_decisions(tmp_path):
    net(np.random.default_rng(0).normal(size=(4, 12))).save(tmp_path / "n.npz")
    policies = [LearnedPolicy(options(tmp_path)) for _ in range(2)]
    for policy in policies:
        for at in (0, 2, 1):
            policy.tell(told(ENTRIES[at], seconds=1.0 + at, round=at + 1))
    assert policies[0].ask(4, (CANDIDATE,)) == policies[1].ask(4, (CANDIDATE,))


def test_what_is_seen_of_an_entry_is_relative_to_the_cheapest_and_to_the_deadline():
    kept = memory.Memory(3)
    kept.add(0, 2.0, 10.0)
    kept.add(2, 4.0, 20.0)
    seen = kept.seen(4.0)
    assert seen.tolist() == pytest.approx([1, 0, 1, 0, 0, np.log(2), -np.log(2), 0, 0])


def test_levers_and_menus_that_are_too_long_are_refused():
    with pytest.raises(BadExperiment, match="not learned"):
        memory.entries(MENU.model_copy(update={"frequencies": (0.5, 1.0)}), 32)
    with pytest.raises(BadExperiment, match="48 are the most"):
        memory.entries(MENU.model_copy(update={"train_steps": tuple(range(1, 20))}), 32)


def test_devices_of_which_nothing_is_known_cannot_be_simulated():
    with pytest.raises(BadRequest, match="calibrate one"):
        simulator((CANDIDATE,), FleetFit(), ENTRIES)


def test_a_drawn_device_can_always_hold_its_deadline():
    random = np.random.default_rng(1)
    drawn = [DEVICES.draw(random) for _ in range(200)]
    assert all(d.seconds.min() <= d.deadline_s for d in drawn)


def test_the_rivals_are_in_the_order_they_must_be_in():
    found = compare.compared(net(), DEVICES, devices=60, rounds=5, seed=3)
    assert found["best"].joules == pytest.approx(1.0, abs=0.02)
    assert found["greedy"].joules < found["random"].joules < found["dearest"].joules
    assert found["greedy"].late < found["random"].late


def test_greedy_takes_the_cheapest_in_time_and_learns_that_a_device_is_slow():
    first = compare.greedy(DEVICES, 2.5, [])
    slow = [(0, 20.0, 100.0)]
    assert (first, compare.greedy(DEVICES, 45.0, slow), compare.greedy(DEVICES, 1.0, slow)) == (0, 0, 0)
    dear = replace(DEVICES, joules=np.array([[9.0, 5.0, 16.0, 20.0]]))
    assert (compare.greedy(dear, 2.5, []), compare.greedy(dear, 25.0, slow)) == (1, 0)


def test_without_the_extra_training_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    with pytest.raises(train.MissingExtra, match=r"gymnasium and stable_baselines3.*wattbed\[learned\]"):
        train.train(DEVICES, ENTRIES, 0)


def test_acting_imports_neither_torch_nor_the_extra():
    asked = "import sys, optimizer.learned.policy; print({'torch', 'gymnasium', 'stable_baselines3'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )
