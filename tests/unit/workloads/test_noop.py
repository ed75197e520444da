import subprocess
import sys

import numpy as np
import pytest

from fleet.domain import Assignment
from fleet.errors import BadExperiment
from workloads.noop import NoopWorkload
from workloads.protocol import Shard, load

ASSIGNMENT = Assignment("run", 1, "device", "", 0, 0, 8, 32, "fp32", 1.0, 3, 0, 0.0)


def noop(model_bytes: int = 1000, tensors: int = 3) -> NoopWorkload:
    return NoopWorkload({"model_bytes": model_bytes, "tensors": tensors}, None)


def test_the_model_has_exactly_the_bytes_and_tensors_asked_for():
    model = noop().initial(seed=0)

    assert sum(v.nbytes for v in model.values()) == 1000
    assert [v.dtype for v in model.values()] == [np.float32] * 3


def test_the_model_depends_on_the_seed_alone():
    a, b, c = (noop().initial(seed)["tensor0000"] for seed in (1, 1, 2))

    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_update_is_the_model_that_was_received():
    model = noop().initial(seed=0)

    outcome = noop().train(dict(model), Shard(0, 1), ASSIGNMENT, lambda step, loss: None)

    assert all(outcome.update[name] is model[name] for name in model)


def test_every_step_is_reported():
    steps = []

    noop().train(noop().initial(0), Shard(0, 1), ASSIGNMENT, lambda step, loss: steps.append(step))

    assert steps == [1, 2, 3]


def test_too_few_bytes_for_the_tensors_are_refused():
    with pytest.raises(BadExperiment, match=r"workload.options: .*8 bytes are too few for 3 tensors"):
        noop(model_bytes=8)


def test_an_unknown_workload_lists_those_there_are():
    with pytest.raises(BadExperiment, match=r"workload.name = 'nop': known are classifier, diffusion, noop"):
        load("nop", {}, None)


def test_moving_bytes_needs_no_torch():
    code = "import sys, workloads.noop, workloads; assert 'torch' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
