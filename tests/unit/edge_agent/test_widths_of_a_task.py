"""An update of another width than the last one: error feedback starts anew instead of failing the task."""

import json
from dataclasses import replace

import numpy as np

from edge_agent.worker import Worker
from fleet.domain import Assignment, Task
from quantizer import decode

ASSIGNMENT = Assignment("run", 1, "device", "", 0, 0, 4, 32, "fp32", 1.0, 1, 7, 0.0)
TASK = Task(ASSIGNMENT, "noop", json.dumps({"model_bytes": 400, "tensors": 1}), 1, 64, True)


def encoded(worker: Worker, task: Task, values: int) -> np.ndarray:
    update = {"tensor0000": np.linspace(-1, 1, values, dtype=np.float32)}
    return decode(worker.encode(task, update).path.read_bytes())["tensor0000"]


def test_a_narrower_update_is_sent_without_the_residual_of_the_wider_one(tmp_path):
    worker, fresh = Worker(tmp_path / "worker", None), Worker(tmp_path / "fresh", None)
    encoded(worker, TASK, 100)
    narrow = replace(TASK, assignment=replace(ASSIGNMENT, round=2, width=0.5, residual_round=1))

    assert np.array_equal(encoded(worker, narrow, 50), encoded(fresh, narrow, 50))


def test_an_update_of_the_same_width_is_sent_with_it(tmp_path):
    worker, fresh = Worker(tmp_path / "worker", None), Worker(tmp_path / "fresh", None)
    encoded(worker, TASK, 100)
    again = replace(TASK, assignment=replace(ASSIGNMENT, round=2, residual_round=1))

    assert not np.array_equal(encoded(worker, again, 100), encoded(fresh, again, 100))
