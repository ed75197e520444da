"""`wattbed learn`: from a calibration in the log to a policy that acts, and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet import wire
from fleet.calibration import Calibration, CalibrationRow, UnitJoules, Work
from fleet.calibration_plans import plan
from fleet.domain import Capabilities, Quality
from fleet.experiment import read
from fleet.v1 import operator_pb2
from optimizer.learned.policy import LearnedPolicy
from optimizer.policy import Candidate

pytestmark = pytest.mark.slow

LEARNED = """
name = "x"
seed = 1
rounds = 4
shards = 2
[workload]
name = "noop"
options = { model_bytes = 400000, tensors = 4 }
[policy]
name = "learned"
[policy.options]
bits_down = 32
deadline_s = 100.0
seed = 1
file = "FILE"
menu = { bits_up = [4, 16], precisions = ["fp32"], widths = [1.0, 0.5], train_steps = [60] }
[round]
mode = "sync"
min_devices = 1
devices = 1
quorum = 1
deadline_s = 200.0
[server]
optimizer = "fedavg"
lr = 1.0
[quantizer]
block_size = 64
error_feedback = true
[evaluate]
every = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.toml"
    path.write_text(LEARNED.replace("FILE", str(tmp_path / "learned.npz")))
    return path


@pytest.fixture
def calibrated(operator: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def row(work: Work, seconds: float, **setting: Any) -> CalibrationRow:
        joules = UnitJoules("model", "cpu", "board", Quality.ESTIMATED, 5.0 * seconds)
        return CalibrationRow(work, 5, 10.0, seconds, joules=(joules,), **setting)

    rows = (
        *(row(work, 1.0) for work in (Work.IDLE_BEFORE, Work.IDLE_AFTER)),
        row(Work.TRAIN, 0.1, width=1.0, precision="fp32"),
        row(Work.ENCODE, 0.5, bits=8),
        row(Work.SEND, 1.0),
        row(Work.RECEIVE, 0.5),
    )
    found = Calibration("c", "agent-1", plan(read(file)), 0.0, 1.0, 400_000, rows)
    answer = operator_pb2.GetCalibrationsResponse(calibrations=[wire.to_proto(found)])
    monkeypatch.setattr(operator, "GetCalibrations", lambda request, context: answer, raising=False)
    monkeypatch.setattr(operator, "GetReport", lambda request, context: wire.to_proto(operator.report))


@pytest.mark.usefixtures("calibrated")
def test_what_was_learned_from_the_log_acts(wattbed: Any, file: Path) -> None:
    found = json.loads(wattbed("learn", str(file), "--steps", "2000", "--json").out)
    assert "error" not in found, found
    assert list(found["compared"]) == ["learned", "greedy", "random", "dearest", "best"]
    assert found["origin"]["devices"] == 1
    policy = LearnedPolicy(read(file).policy.options)
    able = Capabilities("mini-pc-n100", "cpu", 4, 1 << 30, "x86_64", "0")
    (decision,) = policy.ask(1, (Candidate("a", able),))
    assert decision.width in (0.5, 1.0)


def test_another_policy_is_not_trained(wattbed: Any, file: Path) -> None:
    file.write_text(file.read_text().replace('"learned"', '"greedy"'))
    assert 'only "learned" is trained' in wattbed("learn", str(file)).err
