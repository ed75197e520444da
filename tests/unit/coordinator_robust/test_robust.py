"""A few bad updates cannot ruin a median or a trimmed mean, in the memory of a few tiles."""

import itertools
import tracemalloc

import numpy as np
import pytest

import quantizer
from coordinator.aggregate import Weighted, aggregate
from coordinator.blobs import BlobStore
from coordinator.robust import Rules, network
from fleet.errors import BadRequest, CorruptUpdate
from fleet.experiment import AggregationSection, FedAdam, FedAvg

pytestmark = pytest.mark.slow

SHAPES = {"conv.weight": (40, 33, 3, 3), "conv.bias": (4,), "scale": (), "none": (0, 5)}
FEDAVG = FedAvg(optimizer="fedavg", lr=1.0)
MEDIAN = AggregationSection(rule="median")
TRIMMED = AggregationSection(rule="trimmed-mean", trim=0.2)
MEAN = AggregationSection(rule="mean")


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


def arrays(seed, shapes=SHAPES):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def put(blobs, tensors, bits=32, **how):
    with blobs.create() as sink:
        sink.digest = quantizer.encode_to(sink, tensors, bits, seed=1, block_size=64, **how)
    return sink.digest


def get(blobs, sha256):
    return quantizer.decode(blobs.path(sha256).read_bytes())


def norm(tensors):
    return float(np.sqrt(sum(np.square(x.astype(np.float64)).sum() for x in tensors.values())))


def update(blobs, device, tensors, weight=1.0, **how):
    return Weighted(device, blobs, put(blobs, tensors, **how), weight)


def step(blobs, updates, section, norms=None, server=FEDAVG):
    """What is added to a model of zeros."""
    model = put(blobs, {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
    rules = Rules(section, norms or {})
    return get(blobs, aggregate(blobs, model, updates, server, None, rules).model_sha256)


def stacked(tensors, name):
    return np.stack([t[name] for t in tensors])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_the_median_is_the_median(blobs, count):
    tensors = [arrays(k) for k in range(count)]
    found = step(blobs, [update(blobs, f"d{k:02}", t) for k, t in enumerate(tensors)], MEDIAN)
    for name in SHAPES:
        np.testing.assert_array_equal(found[name], np.median(stacked(tensors, name), axis=0).astype(np.float32))


@pytest.mark.parametrize(("count", "cut"), [(4, 0), (5, 1), (9, 1), (10, 2)])
def test_the_trimmed_mean_leaves_the_extremes_out(blobs, count, cut):
    tensors = [arrays(k) for k in range(count)]
    found = step(blobs, [update(blobs, f"d{k:02}", t) for k, t in enumerate(tensors)], TRIMMED)
    for name in SHAPES:
        ordered = np.sort(stacked(tensors, name), axis=0)[cut : count - cut]
        np.testing.assert_allclose(found[name], ordered.astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-9)


def test_one_device_of_five_ruins_the_mean_and_neither_the_median_nor_the_trimmed_mean(blobs):
    truth = arrays(0)
    honest = [
        {n: x + 0.1 * y for (n, x), y in zip(truth.items(), arrays(k).values(), strict=True)} for k in (1, 2, 3, 4)
    ]
    hostile = {name: 1000 * x for name, x in arrays(5).items()}
    updates = [update(blobs, f"d{k}", t) for k, t in enumerate([*honest, hostile])]

    def away(section):
        return norm({n: x - truth[n] for n, x in step(blobs, updates, section).items()}) / norm(truth)

    assert away(MEAN) > 100
    assert away(MEDIAN) < 0.1
    assert away(TRIMMED) < 0.1


def test_a_clipped_norm_bounds_how_far_an_update_pulls(blobs):
    honest, hostile = arrays(1), {name: 1000 * x for name, x in arrays(2).items()}
    section = AggregationSection(rule="mean", clip_norm=norm(honest))
    updates = [update(blobs, "a", honest), update(blobs, "b", hostile)]
    found = step(blobs, updates, section, {"a": norm(honest), "b": norm(hostile)})
    for name in SHAPES:
        clipped = hostile[name] * (norm(honest) / norm(hostile))
        np.testing.assert_allclose(found[name], (honest[name] + clipped) / 2, rtol=1e-5, atol=1e-7)


def test_a_norm_that_is_not_known_cannot_be_clipped(blobs):
    with pytest.raises(BadRequest, match="the norm of the update of a is not known"):
        step(blobs, [update(blobs, "a", arrays(1))], AggregationSection(rule="mean", clip_norm=1.0))


def test_weights_mean_nothing_to_a_median(blobs):
    tensors = [arrays(k) for k in range(3)]
    heavy = [
        update(blobs, f"d{k}", t, weight) for k, (t, weight) in enumerate(zip(tensors, (1e9, 1, 1), strict=True))
    ]
    light = [update(blobs, f"d{k}", t) for k, t in enumerate(tensors)]
    for name, found in step(blobs, heavy, MEDIAN).items():
        np.testing.assert_array_equal(found, step(blobs, light, MEDIAN)[name])


@pytest.mark.parametrize("section", [MEDIAN, TRIMMED])
def test_the_model_has_the_same_bytes_whatever_the_order_of_arrival(blobs, section):
    model = put(blobs, arrays(9))
    how = [{"bits": 32}, {"bits": 8}, {"bits": 4, "entropy": "on"}, {"bits": 8, "keep": 0.3}]
    updates = [update(blobs, f"d{k}", arrays(k), **h) for k, h in enumerate(how)]
    made = {
        aggregate(blobs, model, list(order), FEDAVG, None, Rules(section)).model_sha256
        for order in itertools.permutations(updates)
    }
    assert len(made) == 1


def test_a_median_is_taken_for_the_mean_by_the_servers_optimiser(blobs):
    fedadam = FedAdam(optimizer="fedadam", lr=0.1, beta1=0.9, beta2=0.99, tau=0.01)
    tensors = [arrays(k) for k in range(3)]
    updates = [update(blobs, f"d{k}", t) for k, t in enumerate(tensors)]
    median = {name: np.median(stacked(tensors, name), axis=0).astype(np.float32) for name in SHAPES}
    found = step(blobs, updates, MEDIAN, server=fedadam)
    alone = step(blobs, [update(blobs, "d", median)], MEAN, server=fedadam)
    for name in SHAPES:
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-5)


def test_an_update_of_another_model_is_named_and_nothing_is_made_of_none(blobs):
    other = update(blobs, "b", {"scale": np.float32(1)})
    with pytest.raises(CorruptUpdate, match=r"the update of one of a, b: tensor 'conv.weight' .* is missing"):
        step(blobs, [update(blobs, "a", arrays(1)), other], MEDIAN)
    with pytest.raises(BadRequest, match="a median of no updates"):
        step(blobs, [], MEDIAN)


@pytest.mark.parametrize("rows", range(1, 18))
def test_the_network_sorts_every_column(rows):
    """By the 0-1 principle a network that sorts zeros and ones sorts everything."""
    columns = np.array(list(itertools.product([0, 1], repeat=rows))[:4096]).T if rows <= 12 else None
    if columns is None:
        columns = np.random.default_rng(1).integers(0, 2, (rows, 4096))
    values = columns.copy()
    for low, high in network(rows):
        values[low], values[high] = np.minimum(values[low], values[high]), np.maximum(values[low], values[high])
    np.testing.assert_array_equal(values, np.sort(columns, axis=0))


def test_memory_does_not_grow_with_devices_times_the_model(blobs):
    """Of numpy's memory, which tracemalloc counts: the sums and one tile of all updates."""
    shapes = {"w": (1_000_000,)}
    model = put(blobs, {"w": np.zeros(1_000_000, np.float32)})
    updates = [update(blobs, f"d{k:02}", arrays(k, shapes)) for k in range(32)]

    def peak_bytes(count):
        tracemalloc.start()
        aggregate(blobs, model, updates[:count], FEDAVG, None, Rules(MEDIAN))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(2)
    assert peak_bytes(32) - peak_bytes(4) < (1 << 25) + (4 << 20)
    assert peak_bytes(32) < 32 * 4_000_000 / 2
