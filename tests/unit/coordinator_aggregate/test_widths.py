"""Updates of parts of a model: each value is the mean over those who trained it."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import quantizer
from coordinator.aggregate import Weighted, aggregate, prepare
from coordinator.blobs import BlobStore
from coordinator.robust import Rules
from coordinator.widths import parts_by_width
from fleet.errors import BadRequest, CorruptUpdate, PlanFailed
from fleet.experiment import AggregationSection, DifferentialSection, FedAdam, FedAvg, SecureSection
from workloads.narrow import Part, cut

SHAPES = {"conv": (8, 6, 3), "bias": (8,)}
HALF = {"conv": Part((8, 6, 3), (((0, 4),), ((0, 1), (2, 4)), ((0, 3),))), "bias": Part((8,), (((0, 4),),))}
LEAST = {"conv": Part((8, 6, 3), (((0, 2),), ((0, 1),), ((0, 3),))), "bias": Part((8,), (((0, 2),),))}
WIDTHS = {0.5: HALF, 0.25: LEAST}
SECURE = SecureSection(threshold=2, clip_range=1.0, phase_s=1.0)
DIFFERENTIAL = DifferentialSection(clip_norm=1.0, noise_multiplier=1.0, sampling_rate=1.0, delta=1e-5)
FEDAVG = FedAvg(optimizer="fedavg", lr=0.7)

Arrays = dict[str, np.ndarray]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def arrays(seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def put(blobs: BlobStore, tensors: Arrays, bits: int = 32) -> str:
    with blobs.create() as sink:
        sink.digest = quantizer.encode_to(sink, tensors, bits, seed=0, block_size=8)
    return sink.digest


def get(blobs: BlobStore, sha256: str) -> Arrays:
    return quantizer.decode(blobs.path(sha256).read_bytes())


def update(blobs: BlobStore, seed: int, weight: float, width: float, bits: int = 32) -> Weighted:
    held = cut(arrays(seed), WIDTHS.get(width))
    return Weighted(f"device-{seed}", blobs, put(blobs, held, bits), weight, width)


def expected(model: Arrays, of: list[Weighted], blobs: BlobStore, lr: float) -> Arrays:
    """In float64, value by value."""
    found = {}
    for name, shape in SHAPES.items():
        total, weights = np.zeros(shape), np.zeros(shape)
        for u in of:
            held = get(blobs, u.digest)[name].astype(np.float64)
            part = WIDTHS[u.width][name] if u.width in WIDTHS else Part(shape, tuple(((0, n),) for n in shape))
            part.add(u.weight * held, total)
            part.add(np.full(part.kept, u.weight), weights)
        found[name] = model[name] + lr * np.divide(total, weights, out=np.zeros(shape), where=weights > 0)
    return found


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("widths", [(1.0, 0.5, 0.25, 0.5), (0.5, 0.25), (0.25,), (1.0, 1.0, 0.5)])
def test_each_value_is_averaged_over_those_who_trained_it(blobs, widths, bits):
    model = arrays(0)
    of = [update(blobs, 10 + k, 100.0 * (k + 1), width, bits) for k, width in enumerate(widths)]

    new = get(blobs, aggregate(blobs, put(blobs, model), of, FEDAVG, None, widths=WIDTHS).model_sha256)

    for name, values in expected(model, of, blobs, FEDAVG.lr).items():
        np.testing.assert_allclose(new[name], values, rtol=1e-5, atol=1e-6)


def test_what_nobody_trained_stays_as_it_was_to_the_bit(blobs):
    model = arrays(0)
    of = [update(blobs, 1, 5.0, 0.5), update(blobs, 2, 1.0, 0.25)]

    new = get(blobs, aggregate(blobs, put(blobs, model), of, FEDAVG, None, widths=WIDTHS).model_sha256)

    assert np.array_equal(new["conv"][4:], model["conv"][4:])
    assert np.array_equal(new["conv"][:, 4:], model["conv"][:, 4:])
    assert np.array_equal(new["bias"][4:], model["bias"][4:])
    assert (new["bias"][:4] != model["bias"][:4]).all()


def test_the_order_of_arrival_leaves_no_trace(blobs):
    model = put(blobs, arrays(0))
    of = [update(blobs, k, 10.0 + k, width, 4) for k, width in enumerate((0.25, 1.0, 0.5, 0.5))]

    made = {aggregate(blobs, model, list(p), FEDAVG, None, widths=WIDTHS) for p in itertools.permutations(of)}

    assert len(made) == 1


def test_one_width_for_all_is_the_plain_mean_to_the_bit(blobs):
    model = put(blobs, arrays(0))
    of = [update(blobs, k, 3.0 + k, 1.0) for k in range(3)]

    assert aggregate(blobs, model, of, FEDAVG, None, widths=WIDTHS) == aggregate(blobs, model, of, FEDAVG, None)


def test_an_adaptive_server_takes_such_a_mean_too(blobs):
    server = FedAdam(optimizer="fedadam", lr=0.1, beta1=0.9, beta2=0.99, tau=0.01)
    model = arrays(0)

    new = aggregate(blobs, put(blobs, model), [update(blobs, 1, 1.0, 0.5)], server, None, widths=WIDTHS)

    assert np.array_equal(get(blobs, new.model_sha256)["bias"][4:], model["bias"][4:])
    assert (get(blobs, new.model_sha256)["bias"][:4] != model["bias"][:4]).all()


def test_a_whole_update_from_a_narrow_device_is_refused(blobs):
    whole = Weighted("d", blobs, put(blobs, arrays(1)), 1.0, 0.5)

    with pytest.raises(CorruptUpdate, match=r"of d: .*\(8, 6, 3\) instead of \(4, 3, 3\)"):
        aggregate(blobs, put(blobs, arrays(0)), [whole], FEDAVG, None, widths=WIDTHS)


def test_a_median_of_parts_is_refused(blobs):
    rules = Rules(AggregationSection(rule="median"))

    with pytest.raises(BadRequest, match="can only be averaged"):
        aggregate(blobs, put(blobs, arrays(0)), [update(blobs, 1, 1.0, 0.5)], FEDAVG, None, rules, widths=WIDTHS)


def test_a_clipped_update_counts_with_its_share(blobs):
    model, loud, calm = arrays(0), update(blobs, 1, 1.0, 0.5), update(blobs, 2, 1.0, 1.0)
    rules = Rules(AggregationSection(rule="mean", clip_norm=1.0), {"device-1": 4.0, "device-2": 1.0})

    new = get(
        blobs, aggregate(blobs, put(blobs, model), [loud, calm], FEDAVG, None, rules, widths=WIDTHS).model_sha256
    )

    both = (get(blobs, loud.digest)["bias"] / 4 + get(blobs, calm.digest)["bias"][:4]) / 2
    np.testing.assert_allclose(new["bias"][:4], model["bias"][:4] + 0.7 * both, rtol=1e-5, atol=1e-6)


def test_a_narrow_device_downloads_its_part_only(blobs):
    model = arrays(0)

    sha256, size_bytes = prepare(blobs, put(blobs, model), 32, 0, 8, HALF)

    assert all(np.array_equal(x, HALF[name].of(model[name])) for name, x in get(blobs, sha256).items())
    assert size_bytes < 0.6 * blobs.size(put(blobs, model))


def test_a_running_mean_is_kept_and_is_what_the_last_round_ends_with(blobs):
    server = FedAvg(optimizer="fedavg", lr=1.0, ema=0.25)
    model, state, mean = arrays(0), None, None
    for number in range(3):
        made = aggregate(
            blobs, put(blobs, model), [update(blobs, number + 1, 1.0, 1.0)], server, state, last=number == 2
        )
        model = {name: x + arrays(number + 1)[name] for name, x in model.items()}
        mean = model if mean is None else {name: 0.25 * mean[name] + 0.75 * x for name, x in model.items()}
        state = made.optimizer_state
        shown = mean if number == 2 else model
        for name, x in get(blobs, made.model_sha256).items():
            np.testing.assert_allclose(x, shown[name], rtol=1e-5, atol=1e-6)


def asking_for(rules=None, secure=None, differential=None):
    return SimpleNamespace(aggregation=rules, secure=secure, differential=differential)


@pytest.mark.parametrize(
    ("asking", "option"),
    [
        (asking_for(AggregationSection(rule="trimmed-mean", trim=0.1)), "aggregation.rule 'trimmed-mean'"),
        (asking_for(secure=SECURE), "privacy.secure_aggregation"),
        (asking_for(differential=DIFFERENTIAL), "privacy.differential"),
    ],
)
def test_a_plan_that_could_not_be_averaged_is_refused_before_anyone_trains(asking, option):
    class Slimmable:
        def parts(self, width: float):
            return None if width == 1 else HALF

    assert parts_by_width(Slimmable(), {1.0}, asking) == {}
    with pytest.raises(PlanFailed, match=f"{option} takes whole updates only; widths 0.5 send parts"):
        parts_by_width(Slimmable(), {0.5, 1.0}, asking)
