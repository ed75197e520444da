"""The next model is the published formula, to the last bit the same whatever the order of arrival."""

import hashlib
import itertools
import zlib
from pathlib import Path

import numpy as np
import pytest

import quantizer
from coordinator.aggregate import Aggregated, Weighted, aggregate, check_update, prepare, shapes
from coordinator.blobs import BlobStore
from fleet.errors import BadRequest, CorruptUpdate, UnknownBlob
from fleet.experiment import FedAdam, FedAvg, FedAvgM

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "scale": (), "none": (0, 5)}
FEDAVG = FedAvg(optimizer="fedavg", lr=1.0)
FEDAVGM = FedAvgM(optimizer="fedavgm", lr=0.5, momentum=0.9)
FEDADAM = FedAdam(optimizer="fedadam", lr=0.1, beta1=0.9, beta2=0.99, tau=0.01)

Arrays = dict[str, np.ndarray]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def arrays(seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def put(blobs: BlobStore, tensors: Arrays, bits: int = 32, seed: int = 0) -> str:
    with blobs.create() as sink:
        sink.digest = quantizer.encode_to(sink, tensors, bits, seed=seed, block_size=64)
    return sink.digest


def get(blobs: BlobStore, sha256: str) -> Arrays:
    return quantizer.decode(blobs.path(sha256).read_bytes())


def updates(blobs: BlobStore, weights: tuple[float, ...], bits: int = 32, seed: int = 100) -> list[Weighted]:
    return [
        Weighted(f"device-{k}", blobs, put(blobs, arrays(seed + k), bits, seed=k), weight)
        for k, weight in enumerate(weights)
    ]


def exact_mean(blobs: BlobStore, of: list[Weighted]) -> Arrays:
    """In float64, from what the payloads decode to."""
    decoded = [get(blobs, u.digest) for u in of]
    return {
        name: np.average([d[name].astype(np.float64) for d in decoded], axis=0, weights=[u.weight for u in of])
        for name in SHAPES
    }


def assert_close(found: Arrays, expected: Arrays) -> None:
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("bits", [2, 8, 32])
def test_fedavg_adds_the_weighted_mean(blobs: BlobStore, bits: int) -> None:
    model = arrays(0)
    ours = updates(blobs, (600.0, 250.0, 1.0), bits)
    new = aggregate(blobs, put(blobs, model), ours, FEDAVG, None)
    mean = exact_mean(blobs, ours)
    assert_close(get(blobs, new.model_sha256), {name: model[name] + mean[name] for name in SHAPES})


@pytest.mark.parametrize("weight", [1e-9, 1.0, 3.0, 1e12])
def test_with_one_device_its_weight_does_not_matter(blobs: BlobStore, weight: float) -> None:
    model, update = arrays(0), arrays(100)
    half = FedAvg(optimizer="fedavg", lr=0.5)
    new = get(blobs, aggregate(blobs, put(blobs, model), updates(blobs, (weight,)), half, None).model_sha256)
    for name in SHAPES:
        assert np.array_equal(new[name], model[name] + np.float32(0.5) * update[name])


def test_fedavgm_gives_a_heavy_ball_over_three_rounds(blobs: BlobStore) -> None:
    x = {name: a.astype(np.float64) for name, a in arrays(0).items()}
    velocity = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    model, state = put(blobs, arrays(0)), None
    for number in range(3):
        ours = updates(blobs, (1.0, 2.0), seed=100 * number)
        new = aggregate(blobs, model, ours, FEDAVGM, state)
        model, state = new.model_sha256, new.optimizer_state
        for name, mean in exact_mean(blobs, ours).items():
            velocity[name] = 0.9 * velocity[name] + mean
            x[name] = x[name] + 0.5 * velocity[name]
    assert_close(get(blobs, model), x)


def test_fedadam_is_algorithm_2_of_reddi_over_three_rounds(blobs: BlobStore) -> None:
    x = {name: a.astype(np.float64) for name, a in arrays(0).items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.full(shape, 0.01**2) for name, shape in SHAPES.items()}
    model, state = put(blobs, arrays(0)), None
    for number in range(3):
        ours = updates(blobs, (1.0, 2.0), seed=100 * number)
        new = aggregate(blobs, model, ours, FEDADAM, state)
        model, state = new.model_sha256, new.optimizer_state
        for name, delta in exact_mean(blobs, ours).items():
            m[name] = 0.9 * m[name] + (1 - 0.9) * delta
            v[name] = 0.99 * v[name] + (1 - 0.99) * delta**2
            x[name] = x[name] + 0.1 * m[name] / (np.sqrt(v[name]) + 0.01)
    assert_close(get(blobs, model), x)


@pytest.mark.parametrize("server", [FEDAVG, FEDAVGM, FEDADAM], ids=lambda s: s.optimizer)
def test_every_order_of_arrival_gives_the_same_bytes(blobs: BlobStore, server: FedAvg | FedAvgM | FedAdam) -> None:
    model = put(blobs, arrays(0))
    arrived = updates(blobs, (3.0, 1.0, 7.0, 0.1), bits=4)
    outcomes = {aggregate(blobs, model, order, server, None) for order in itertools.permutations(arrived)}
    assert len(outcomes) == 1


def test_a_device_may_count_twice_in_a_buffer_and_in_any_order(blobs: BlobStore) -> None:
    model = put(blobs, arrays(0))
    first, second, third = (Weighted("device-0", blobs, put(blobs, arrays(k)), 0.3 + k) for k in range(3))
    outcomes = {
        aggregate(blobs, model, order, FEDAVG, None) for order in itertools.permutations([first, second, third])
    }
    assert len(outcomes) == 1


def test_updates_may_lie_in_a_store_per_device(blobs: BlobStore, tmp_path: Path) -> None:
    model = put(blobs, arrays(0))
    together = updates(blobs, (2.0, 5.0))
    apart = []
    for update in together:
        own = BlobStore(tmp_path / update.device)
        apart.append(Weighted(update.device, own, put(own, get(blobs, update.digest)), update.weight))
    expected = aggregate(blobs, model, together, FEDAVG, None)
    for update in together:
        blobs.drop(update.digest)
    assert aggregate(blobs, model, apart, FEDAVG, None) == expected


def test_the_new_model_is_a_blob_of_the_size_that_is_said(blobs: BlobStore) -> None:
    new = aggregate(blobs, put(blobs, arrays(0)), updates(blobs, (1.0,)), FEDAVG, None)
    assert new == Aggregated(new.model_sha256, blobs.size(new.model_sha256), None)


@pytest.mark.parametrize("weights", [(), (0.0,), (1.0, -1.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_weights_that_make_no_mean_are_refused(blobs: BlobStore, weights: tuple[float, ...]) -> None:
    with pytest.raises(BadRequest, match="positive and finite"):
        aggregate(blobs, put(blobs, arrays(0)), updates(blobs, weights), FEDAVG, None)


def test_an_update_of_another_model_is_named_with_its_device(blobs: BlobStore) -> None:
    alien = Weighted("device-9", blobs, put(blobs, {"else": np.ones(3, np.float32)}), 1.0)
    with pytest.raises(CorruptUpdate, match=f"update {alien.digest} of device-9"):
        aggregate(blobs, put(blobs, arrays(0)), [*updates(blobs, (1.0,)), alien], FEDAVG, None)


def test_an_update_that_is_not_there_is_unknown(blobs: BlobStore) -> None:
    with pytest.raises(UnknownBlob, match="0" * 64):
        aggregate(blobs, put(blobs, arrays(0)), [Weighted("device-0", blobs, "0" * 64, 1.0)], FEDAVG, None)


def test_a_model_that_overflows_is_refused_and_leaves_no_file(blobs: BlobStore) -> None:
    huge = {name: np.full(shape, 3e38, np.float32) for name, shape in SHAPES.items()}
    sha256 = put(blobs, huge)
    with pytest.raises(CorruptUpdate, match=r"the new model cannot be kept.*conv\.weight"):
        aggregate(blobs, sha256, [Weighted("device-0", blobs, sha256, 1.0)], FEDAVG, None)
    assert [f.name for f in blobs.folder.rglob("*") if f.is_file()] == [sha256]


def test_at_32_bits_devices_download_the_model_itself(blobs: BlobStore) -> None:
    model = put(blobs, arrays(0))
    assert prepare(blobs, model, 32, seed=1, block_size=64) == (model, blobs.size(model))


def test_a_model_to_download_is_quantised_with_the_seed_and_blocks_it_is_asked_for(blobs: BlobStore) -> None:
    model = put(blobs, arrays(0))
    sha256, size_bytes = prepare(blobs, model, 8, seed=5, block_size=16)
    expected = quantizer.encode(arrays(0), 8, seed=5, block_size=16)
    assert (blobs.path(sha256).read_bytes(), size_bytes) == (expected, len(expected))


def test_the_shapes_of_a_model_are_read_from_its_payload(blobs: BlobStore) -> None:
    assert shapes(blobs, put(blobs, arrays(0))) == SHAPES


@pytest.mark.parametrize("bits", [4, 32])
def test_an_update_of_this_model_passes(blobs: BlobStore, bits: int) -> None:
    check_update(blobs, put(blobs, arrays(1), bits), SHAPES)


def store(blobs: BlobStore, body: bytes) -> str:
    with blobs.create() as sink:
        sink.write(body)
        sink.digest = hashlib.sha256(body).hexdigest()
    return sink.digest


def test_an_altered_byte_is_a_corrupt_update(blobs: BlobStore) -> None:
    payload = bytearray(quantizer.encode(arrays(1), 8, seed=1))
    payload[-9] ^= 1
    with pytest.raises(CorruptUpdate, match="the payload is damaged: its CRC-32 is"):
        check_update(blobs, store(blobs, bytes(payload)), SHAPES)


def test_bytes_that_are_no_payload_are_a_corrupt_update(blobs: BlobStore) -> None:
    sha256 = store(blobs, b"not a payload")
    with pytest.raises(CorruptUpdate, match=f"update {sha256}: "):
        check_update(blobs, sha256, SHAPES)


def test_an_empty_update_is_a_corrupt_update(blobs: BlobStore) -> None:
    sha256 = store(blobs, b"")
    with pytest.raises(CorruptUpdate, match=f"update {sha256}: "):
        check_update(blobs, sha256, SHAPES)


def test_an_update_with_another_shape_is_corrupt(blobs: BlobStore) -> None:
    with pytest.raises(CorruptUpdate, match=r"conv\.bias"):
        check_update(blobs, put(blobs, arrays(1) | {"conv.bias": np.ones(5, np.float32)}), SHAPES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_update_with_nan_or_inf_is_corrupt(blobs: BlobStore, value: float) -> None:
    payload = bytearray(quantizer.encode(arrays(1), 32, seed=0))
    needle = arrays(1)["conv.bias"].tobytes()
    at = payload.index(needle)
    payload[at : at + 4] = np.float32(value).tobytes()
    payload[-4:] = zlib.crc32(payload[:-4]).to_bytes(4, "little")
    with pytest.raises(CorruptUpdate, match=r"conv\.bias"):
        check_update(blobs, store(blobs, bytes(payload)), SHAPES)
