import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import BadExperiment
from workloads import partition

labels = st.lists(st.integers(0, 4), min_size=30, max_size=120).map(lambda x: np.array(x, np.int64))
seeds = st.integers(0, 2**32)
ways = st.one_of(
    st.builds(lambda s: partition.Iid(scheme="iid", seed=s), seeds),
    st.builds(
        lambda a, s: partition.Dirichlet(scheme="dirichlet", alpha=a, seed=s),
        st.sampled_from([0.01, 0.5, 100.0]),
        seeds,
    ),
)


def fifty_of_each(classes: int) -> np.ndarray:
    return np.arange(50 * classes) % classes


@settings(max_examples=30)
@given(labels=labels, shards=st.integers(1, 12), how=ways)
def test_every_sample_is_in_exactly_one_shard_and_no_shard_is_empty(labels, shards, how):
    parts = partition.cut(labels, shards, how)

    assert len(parts) == shards
    assert min(len(p) for p in parts) > 0
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))


@settings(max_examples=30)
@given(shards=st.integers(3, 12), classes=st.integers(2, 6), seed=seeds)
def test_by_class_every_shard_holds_its_number_of_classes_and_every_sample_is_used(shards, classes, seed):
    labels = fifty_of_each(6)

    parts = partition.by_class(labels, shards, classes, seed)

    assert [len(np.unique(labels[p])) for p in parts] == [classes] * shards
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))


@settings(max_examples=30)
@given(labels=labels, how=ways)
def test_the_same_seed_gives_the_same_cut(labels, how):
    first, second = partition.cut(labels, 4, how), partition.cut(labels, 4, how)

    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_small_alpha_gives_shards_that_are_less_alike():
    labels = fifty_of_each(10)

    def unlikeness(alpha: float) -> float:
        parts = partition.dirichlet(labels, 5, alpha, seed=3)
        return float(np.mean([np.bincount(labels[p], minlength=10).std() / len(p) for p in parts]))

    assert unlikeness(0.1) > 2 * unlikeness(10.0)


def test_more_shards_than_samples_are_refused_with_both_numbers():
    with pytest.raises(BadExperiment, match="9 shards of 8 samples"):
        partition.iid(np.zeros(8, np.int64), 9, seed=0)


def test_shards_that_would_leave_a_class_unused_are_refused():
    with pytest.raises(BadExperiment, match="2 shards of 2 classes hold 4 of 6 classes"):
        partition.by_class(fifty_of_each(6), 2, 2, seed=0)


def test_more_classes_per_shard_than_there_are_is_refused():
    with pytest.raises(BadExperiment, match="7 classes per shard, but the data has 6"):
        partition.by_class(fifty_of_each(6), 2, 7, seed=0)
