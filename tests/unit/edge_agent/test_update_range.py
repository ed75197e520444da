"""What an update spans is said in its header, of the very values that are quantised, and reaches the policy."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from coordinator import screen
from coordinator.events import RoundOpened, UpdateReceived, from_json
from coordinator.ledger import RunLedger
from coordinator.machine import Run
from edge_agent.worker import Worker
from fleet import wire
from fleet.domain import Assignment, Capabilities, Task, UpdateHeader
from fleet.errors import BadRequest
from fleet.experiment import Experiment, parse
from optimizer.policy import Candidate, load

CLASSIFIER = Path(__file__).parents[3] / "experiments" / "classifier.toml"


def task(bits: int, round: int, residual_round: int | None = None) -> Task:
    a = Assignment("x-1", round, "a", "m0", 1, 0, bits, 32, "fp32", 1.0, 1, 7, 0.0, residual_round)
    return Task(a, "noop", "{}", 1, block_size=8, error_feedback=True)


@pytest.mark.parametrize("bits", [4, 32])
def test_it_is_twice_the_root_mean_square_of_the_blocks_largest(tmp_path, bits):
    update = {"w": np.array([1.0] * 8 + [-3.0] + [0.0] * 7, np.float32)}
    encoded = Worker(tmp_path, None).encode(task(bits, 1), update)

    assert encoded.update_range == pytest.approx(2 * np.sqrt((1 + 9) / 2))


def test_what_error_feedback_adds_is_part_of_it(tmp_path):
    worker, update = Worker(tmp_path, None), {"w": np.linspace(-1, 0.93, 64, dtype=np.float32)}
    worker.encode(task(4, 1), update)
    nothing = {"w": np.zeros(64, np.float32)}
    left_over = worker.encode(task(4, 2, residual_round=1), nothing).update_range

    assert 0 < left_over < 2 / 14 * 2


def test_a_header_carries_it_and_one_of_an_older_agent_lacks_it():
    header = UpdateHeader("x-1", 1, "a", "d", 10, 0, 8, 0.5, 1, 0.25)

    assert wire.from_proto(wire.to_proto(header)) == header
    old = UpdateHeader("x-1", 1, "a", "d", 10, 0, 8, 0.5, 1)
    assert wire.from_proto(wire.to_proto(old)).update_range is None


def test_the_ledger_tells_it_to_the_policy_and_bits_follow():
    options = {
        "demand": {"of": "device", "rms": 1e-3, "first_range": 0.1},
        "training": {"precisions": ["fp32"], "widths": [1.0], "train_steps": [1]},
        "bits_down": 32,
        "deadline_s": 100.0,
        "late": "leave out",
    }
    candidate = Candidate("a", Capabilities("raspberry-pi-5", "cpu", 4, 1, "m", "0"))
    policy, ledger, bits = load("on-demand", options), RunLedger(), []
    for round, span in enumerate((0.05, 0.4, 1.6), start=1):
        (made,) = policy.ask(round, [candidate])
        bits.append(made.bits_up)
        a = Assignment("x-1", round, "a", "m0", 1, 0, made.bits_up, 32, "fp32", 1.0, 1, 7, 0.0)
        ledger.add(RoundOpened(1, "x-1", round, (a,), 50.0))
        ledger.add(UpdateReceived(2, "x-1", round, "a", "d", 10, 8, 0.5, update_range=span))
        for told in ledger.told(round):
            policy.tell(told)
    bits.append(policy.ask(4, [candidate])[0].bits_up)
    # rms = 1e-3 at a range R needs 2^q - 2 >= R / (2 rms)
    assert bits == [6, 5, 8, 10]


def test_a_log_of_before_it_was_said_is_read():
    old = (
        '{"at_s": 1, "run": "x-1", "round": 1, "device": "a", "digest": "d", "size_bytes": 10, "samples": 8, '
        '"loss": 0.5}'
    )

    assert from_json("UpdateReceived", old).update_range is None


def test_an_agent_that_says_less_than_nothing_is_refused():
    experiment = parse(Experiment, tomllib.loads(CLASSIFIER.read_text()), where="x")
    header = UpdateHeader("x-1", 1, "a", "d", 10, 0, 8, 0.5, 1, -0.25)

    with pytest.raises(BadRequest, match="is said to span -0.25"):
        screen.header(Run("x-1", "", experiment, 1.0), header)
