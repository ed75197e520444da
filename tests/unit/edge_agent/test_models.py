"""The model of a round takes the memory of the one before where that can be."""

from pathlib import Path

import numpy as np
import pytest

import quantizer
from edge_agent.worker import Worker


@pytest.mark.parametrize(("bits", "same"), [(8, True), (32, False)])
def test_a_quantised_model_is_decoded_into_the_memory_of_the_one_before(tmp_path: Path, bits: int, same: bool):
    worker, path = Worker(tmp_path / "state", None), tmp_path / "model"
    found = []
    for value in (1, 2):
        path.unlink(missing_ok=True)  # as a new model is a new file
        path.write_bytes(quantizer.encode({"w": np.full((32, 32), value, np.float32)}, bits, seed=0))
        found.append(worker.decode(path)["w"])
    assert (np.shares_memory(*found), found[1].mean()) == (same, 2)


def test_a_model_of_another_shape_takes_new_memory(tmp_path: Path):
    worker, path = Worker(tmp_path / "state", None), tmp_path / "model"
    found = []
    for width in (8, 4):
        path.unlink(missing_ok=True)
        path.write_bytes(quantizer.encode({"w": np.ones((width, 2), np.float32)}, 8, seed=0))
        found.append(worker.decode(path)["w"])
    assert [x.shape for x in found] == [(8, 2), (4, 2)]
    assert not np.shares_memory(*found)
