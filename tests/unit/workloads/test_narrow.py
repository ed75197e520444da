import numpy as np
import pytest

from fleet.errors import BadRequest
from workloads.narrow import Part, cut, parts_of
from workloads.noop import NoopWorkload

TWO_HALVES = Part((4, 10), (((0, 2),), ((0, 1), (5, 8))))


def test_a_part_is_the_blocks_of_its_ranges_in_memory_of_its_own():
    whole = np.arange(40, dtype=np.float32).reshape(4, 10)

    part = TWO_HALVES.of(whole)

    assert part.tolist() == [[0, 5, 6, 7], [10, 15, 16, 17]]
    assert part.shape == TWO_HALVES.kept
    assert not np.shares_memory(part, whole)


def test_what_is_added_to_nothing_and_cut_out_again_is_the_same():
    part = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    whole = np.zeros((4, 10), np.float32)

    TWO_HALVES.add(part, whole)

    assert np.array_equal(TWO_HALVES.of(whole), part)
    assert np.count_nonzero(whole) == 8


def test_a_workload_without_widths_has_its_devices_hold_all():
    workload = NoopWorkload({"model_bytes": 40, "tensors": 2}, None)
    params = workload.initial(0)

    assert parts_of(workload, 0.5) is None
    assert cut(params, None) == params


def test_a_width_that_is_none_is_refused(flexible):
    with pytest.raises(BadRequest, match=r"width 0.0 is not in \(0, 1\]"):
        parts_of(flexible, 0.0)
