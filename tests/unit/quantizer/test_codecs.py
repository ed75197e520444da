"""What each codec promises: the error, the mean and the variance, for whatever values there are."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantizer import NAMES, PayloadError, codec, decode, encode

pytestmark = pytest.mark.slow

F32_MAX = float(np.finfo(np.float32).max)
SETTINGS = [(name, bits) for name in NAMES for bits in codec(name).bits if bits in (1, 2, 3, 4, 5, 8, 11, 16, 32)]
LIMITS = {"float16": 65504.0, "bfloat16": 3.38e38}
UNBIASED = [(name, bits) for name, bits in SETTINGS if not codec(name).biased(bits)]

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def blocks_of(name: str) -> int:
    """A block size that makes blocks of a short tensor."""
    sizes = codec(name).block_sizes
    return 0 if sizes == (0,) else 16 if 16 in sizes else sizes[0]


def there_and_back(values: np.ndarray, name: str, bits: int, seed: int = 0, **options) -> np.ndarray:
    return decode(encode({"x": values}, bits, seed=seed, codec=name, block_size=blocks_of(name), **options))["x"]


def of(dtype: type) -> st.SearchStrategy:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)
    widths = {np.float16: 16, np.float32: 32, np.float64: 32}
    anything = st.floats(allow_nan=False, allow_infinity=False, width=widths[dtype])
    near_one = st.floats(-1.25, 1.25, width=widths[dtype])
    return hnp.arrays(dtype, shapes, elements=st.one_of(anything, near_one))


@pytest.mark.parametrize(("name", "bits"), SETTINGS)
@settings(SLOW, max_examples=5)
@given(values=of(np.float32), seed=st.integers(0, 2**64 - 1))
@example(values=np.zeros((0, 4), np.float32), seed=1)
@example(values=np.zeros(40, np.float32), seed=1)
@example(values=np.full(40, -0.3, np.float32), seed=1)
@example(values=np.full(40, 1e-45, np.float32), seed=1)
@example(values=np.array([1e-45, -1e-45, 3e-42, 1e-38, 0], np.float32), seed=1)
@example(values=np.array([6e4, -6e4, 1.0, 1e-30], np.float32), seed=1)
@example(values=np.array([F32_MAX, -F32_MAX, 1.0, -1e-30, 3e38], np.float32), seed=1)
def test_the_error_is_below_the_promised_bound(name, bits, values, seed):
    how, limit = codec(name), LIMITS.get(name, F32_MAX)
    values = np.clip(values, -limit, limit).astype(np.float32)
    decoded = there_and_back(values, name, bits, seed)
    bound = how.error_bound(values.reshape(-1), bits, blocks_of(name))
    error = np.abs(decoded.reshape(-1).astype(np.float64) - values.reshape(-1))
    assert (decoded.shape, decoded.dtype) == (values.shape, values.dtype)
    assert np.all(error <= bound)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize(("name", "bits"), [(n, max(b for m, b in SETTINGS if m == n)) for n in NAMES])
@settings(SLOW, max_examples=5)
@given(data=st.data())
def test_names_shapes_dtypes_and_order_come_back(name, bits, dtype, data):
    limit = min(LIMITS.get(name, F32_MAX), 60000 if dtype == np.float16 else F32_MAX)
    tensors = data.draw(st.dictionaries(st.text("ab/.é", min_size=1, max_size=6), of(dtype), max_size=3))
    tensors = {key: np.clip(tensor, -limit, limit).astype(dtype) for key, tensor in tensors.items()}
    decoded = decode(encode(tensors, bits, seed=1, codec=name))
    assert [(key, t.shape, t.dtype) for key, t in decoded.items()] == [
        (key, t.shape, t.dtype) for key, t in tensors.items()
    ]


@pytest.mark.parametrize(("name", "bits"), UNBIASED)
def test_the_mean_over_draws_is_the_value_and_the_variance_below_the_formula(name, bits):
    draws, size, block = 300, 96, 16
    rng = np.random.default_rng(bits)
    values = np.float32(rng.uniform(-0.98, 0.45, size))
    values[::block], values[1::block] = -0.98, 0.45
    sent = np.stack([there_and_back(values, name, bits, seed) for seed in range(draws)]).astype(np.float64)
    how = codec(name)
    # A draw between two ends a step apart spreads by half a step at most.
    standard_error = how.error_bound(values, bits, block) / 2 / np.sqrt(draws)
    off = sent.mean(axis=0) - values
    assert np.all(np.abs(off) <= 4 * standard_error)
    assert abs(off.sum()) <= 4 * np.sqrt(np.square(standard_error).sum())
    squares = ((sent - values) ** 2).sum(axis=1)
    assert squares.mean() <= how.variance_bound(values, bits, block)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_the_variance_of_minmax_is_below_that_of_the_published_formula(bits):
    """J(q) = d (max - min)^2 / (4 (2^q - 1)^2), over the range of the whole tensor."""
    values = np.random.default_rng(1).standard_normal(4000).astype(np.float32)
    published = values.size * float(np.ptp(values)) ** 2 / (4 * (2**bits - 1) ** 2)
    squares = [
        ((decode(encode({"x": values}, bits, seed=s, codec="minmax"))["x"] - values) ** 2).sum() for s in range(20)
    ]
    assert np.mean(squares) <= codec("minmax").variance_bound(values, bits, 2048) <= published * 1.001


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_variance_of_fixed_point_is_below_that_of_the_published_formula(bits):
    """d / 2^(2n), for values in [-1, 1]."""
    values = np.random.default_rng(1).uniform(-1, 1 - 2.0 ** (1 - bits), 4000).astype(np.float32)
    squares = [
        ((decode(encode({"x": values}, bits, seed=s, codec="fixed"))["x"] - values) ** 2).sum() for s in range(20)
    ]
    assert np.mean(squares) <= values.size / 4**bits


def test_fixed_point_clips_to_its_range_and_one_bit_is_the_sign():
    values = np.float32([-7, -1, -0.5, 0, 0.5, 1, 7])
    assert there_and_back(values, "fixed", 3).tolist() == [-1, -1, -0.5, 0, 0.5, 0.75, 0.75]
    assert there_and_back(values, "fixed", 1).tolist() == [-1, -1, -1, 1, 1, 1, 1]


def test_signs_come_back_with_the_mean_magnitude_of_their_block():
    values = np.float32([1, -3, 2, 0] * 4 + [10, -20])
    decoded = there_and_back(values, "sign", 1)
    assert decoded.tolist() == [1.5, -1.5, 1.5, 1.5] * 4 + [15, -15]


@pytest.mark.parametrize("bits", range(1, 17))
def test_the_ends_of_a_block_come_back_exactly_from_minmax(bits):
    values = np.float32(np.random.default_rng(bits).uniform(-5, -2, 64))
    decoded = there_and_back(values, "minmax", bits)
    ends = [(b.min(), b.max()) for b in values.reshape(-1, 16)]
    sent = [
        (d[b.argmin()], d[b.argmax()])
        for d, b in zip(decoded.reshape(-1, 16), values.reshape(-1, 16), strict=True)
    ]
    assert sent == ends


def test_bitsandbytes_gives_the_same_values_itself():
    import torch
    from bitsandbytes import functional as bnb

    values = torch.randn(5000, generator=torch.Generator().manual_seed(3))
    for name, bits in [("int8", 8), ("nf4", 4), ("fp4", 4)]:
        if name == "int8":
            expected = bnb.dequantize_blockwise(*bnb.quantize_blockwise(values, blocksize=256))
        else:
            expected = bnb.dequantize_4bit(*bnb.quantize_4bit(values, blocksize=256, quant_type=name)).view(-1)
        decoded = decode(encode({"x": values}, bits, seed=0, codec=name, block_size=256))["x"]
        assert decoded.tolist() == expected.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("keep", [1.0, 0.1])
@pytest.mark.parametrize(("name", "bits"), [(n, max(b for m, b in SETTINGS if m == n)) for n in NAMES])
def test_a_value_that_is_not_finite_is_refused_by_tensor_and_place(name, bits, keep, bad):
    values = np.zeros(150_000, np.float32)
    values[140_000] = bad
    with pytest.raises(ValueError, match=r"tensor 'layer.1': value 140,000 of 150,000 is -?(nan|inf)"):
        encode({"good": np.ones(3), "layer.1": values}, bits, seed=0, codec=name, keep=keep)


@pytest.mark.parametrize(
    ("name", "dtype", "value"),
    [("float16", np.float32, 65521), ("bfloat16", np.float32, F32_MAX), ("bfloat16", np.float16, 65504)],
)
def test_a_value_beyond_a_short_float_is_refused(name, dtype, value):
    with pytest.raises(ValueError, match=r"tensor 'x': value 1 of 2 is .*, beyond .*float16"):
        encode({"x": np.array([1, value], dtype)}, 16, seed=0, codec=name)


@pytest.mark.parametrize(
    ("bits", "share"), [(8, 0.251), (4, 0.127), (2, 0.065), (1, 0.033)], ids=["8", "4", "2", "1"]
)
def test_the_payload_is_as_small_as_its_bits(bits, share):
    values = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    assert len(encode({"x": values}, bits, seed=0)) <= share * values.nbytes


@pytest.mark.parametrize("name", ["minmax", "fixed", "sign", "float16", "bfloat16"])
def test_threads_and_sinks_change_nothing(monkeypatch, name):
    from quantizer import chunks, encode_to

    class Sink(bytearray):
        write = bytearray.extend

    values = np.random.default_rng(2).uniform(-1, 1, 500_001).astype(np.float32)
    bits = max(codec(name).bits)
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 2)
    several, sink = encode({"x": values}, bits, seed=5, codec=name), Sink()
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 1)
    encode_to(sink, {"x": values}, bits, seed=5, codec=name)
    assert bytes(sink) == several


def test_torch_tensors_give_the_same_bytes_as_arrays():
    import torch

    arrays = {
        "a": np.random.default_rng(1).standard_normal((30, 7)).astype(np.float32),
        "b": np.ones(3, np.float16),
    }
    tensors = {"a": torch.nn.Parameter(torch.from_numpy(arrays["a"])), "b": torch.ones(3, dtype=torch.float16)}
    assert encode(tensors, 5, seed=2) == encode(arrays, 5, seed=2)
    halves = {"x": torch.from_numpy(arrays["a"]).bfloat16()}
    assert np.array_equal(decode(encode(halves, 32, seed=0))["x"], halves["x"].float().numpy())


@pytest.mark.parametrize(("name", "bits"), SETTINGS)
def test_tensors_on_a_device_give_the_same_bytes(monkeypatch, name, bits):
    """The code of a GPU's tensors, run on the CPU."""
    import torch

    from quantizer import sources

    values = np.random.default_rng(bits).uniform(-1.1, 1.1, 140_001).astype(np.float32)
    on_host = encode({"a": values, "b": values[:1]}, bits, seed=3, codec=name)
    monkeypatch.setattr(sources, "on_device", lambda tensor: True)
    tensors = {"a": torch.from_numpy(values), "b": torch.from_numpy(values[:1])}
    if name == "sign":  # its mean is summed in another order there
        there = decode(encode(tensors, bits, seed=3, codec=name))
        assert np.allclose(there["a"], decode(on_host)["a"], rtol=1e-6)
    else:
        assert encode(tensors, bits, seed=3, codec=name) == on_host


def test_a_value_that_is_not_finite_on_a_device_is_refused_by_place(monkeypatch):
    import torch

    from quantizer import sources

    monkeypatch.setattr(sources, "on_device", lambda tensor: True)
    with pytest.raises(ValueError, match=r"tensor 'x': value 2 of 3 is nan"):
        encode({"x": torch.tensor([1, 2, float("nan")])}, 4, seed=0)


def test_arrays_are_decoded_into_the_memory_of_the_caller():
    values = np.random.default_rng(2).standard_normal((3, 50)).astype(np.float32)
    payload, kept = encode({"x": values, "y": values}, 8, seed=0), {"x": np.empty((3, 50), np.float32)}
    decoded = decode(payload, into=kept)
    assert decoded["x"] is kept["x"]
    assert np.array_equal(decoded["x"], decode(payload)["x"])


def test_a_payload_that_claims_more_than_the_limit_is_refused():
    payload = encode({"x": np.ones(1000, np.float32)}, 4, seed=0)
    with pytest.raises(PayloadError, match=r"tensors of 4,000 bytes; at most 3,999 are allowed"):
        decode(payload, limit_bytes=3999)
