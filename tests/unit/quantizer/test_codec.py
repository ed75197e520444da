"""What encode promises, and that decode, add_to and check keep it."""

import hashlib
import io
import mmap
import os
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantizer import PayloadError, add_to, check, chunks, decode, encode, encode_to, encoder, kernels, tiles

DTYPES = [np.float16, np.float32, np.float64]
BITS = st.sampled_from([*range(2, 17), 32])
F32_MAX = float(np.finfo(np.float32).max)


@st.composite
def arrays(draw, dtypes=tuple(DTYPES)):
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    width = min(dtype.itemsize * 8, 32)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    values = st.floats(allow_nan=False, allow_infinity=False, width=width)
    return draw(hnp.arrays(dtype, shape, elements=values))


models = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), arrays(), max_size=4
)


def steps(values: np.ndarray, bits: int, block_size: int) -> np.ndarray:
    """Length of the step at each of `values` (n,), as the promise has it."""
    out = np.empty(values.size)
    for start in range(0, values.size, block_size):
        block = np.abs(values[start : start + block_size].astype(np.float64))
        out[start : start + block_size] = block.max() / (2 ** (bits - 1) - 1)
    return out


def model(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"conv": (64, 3, 3, 3), "big": (300, 1001), "bias": (), "none": (0, 4)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(models, BITS, st.integers(8, 70))
def test_names_shapes_dtypes_and_order_come_back(tensors, bits, block_size):
    decoded = decode(encode(tensors, bits, seed=1, block_size=block_size))
    kept = [(name, t.shape, t.dtype, t.flags.writeable) for name, t in decoded.items()]
    assert kept == [(name, t.shape, t.dtype, True) for name, t in tensors.items()]


@settings(deadline=None, max_examples=150)
@given(arrays(dtypes=(np.float32,)), st.integers(2, 16), st.integers(8, 70), st.integers(0, 2**64 - 1))
def test_the_error_is_less_than_a_step(values, bits, block_size, seed):
    decoded = decode(encode({"x": values}, bits, seed=seed, block_size=block_size))["x"]
    x, q = values.reshape(-1).astype(np.float64), decoded.reshape(-1).astype(np.float64)
    rounding = np.abs(q) * 2.0**-24 + 2.0**-150  # half a unit in the last place of a float32
    step = steps(values.reshape(-1), bits, block_size)
    assert np.all((np.abs(q - x) < step + rounding) | (q == x))


@settings(deadline=None)
@given(arrays())
def test_32_bits_keep_every_value_as_float32(values):
    decoded = decode(encode({"x": values}, 32, seed=0))["x"]
    assert decoded.tobytes() == values.astype(np.float32).astype(values.dtype).tobytes()


@pytest.mark.parametrize("bits", range(2, 17))
def test_the_mean_over_draws_is_the_value(bits):
    draws, top = 400, 2 ** (bits - 1) - 1
    rng = np.random.default_rng(bits)
    # Places between two steps where 400 draws are near enough to a normal distribution.
    values = np.float32((rng.integers(-top, top, 100) + rng.uniform(0.1, 0.9, 100)) / top)
    values[0] = 1
    total = np.zeros(100)
    for seed in range(draws):
        total += decode(encode({"x": values}, bits, seed=seed))["x"]
    place = np.mod(values.astype(np.float64) * top, 1)
    standard_error = np.sqrt(place * (1 - place) / draws) / top
    assert np.all(np.abs(total / draws - values) <= 4 * standard_error + 1e-7)


def test_values_in_one_block_and_in_equal_blocks_are_drawn_independently():
    values = np.full(1 << 16, 0.5, np.float32)
    values[::64] = 1
    up = decode(encode({"x": values, "y": values}, 2, seed=7, block_size=64))
    x, y = (up[name].reshape(-1, 64)[:, 1:] - 0.5 for name in "xy")
    pairs = {"neighbours": x[:, 1:] * x[:, :-1], "blocks": x[1:] * x[:-1], "tensors": x * y}
    assert all(abs(p.mean()) < 4 * 0.25 / np.sqrt(p.size) for p in pairs.values())


def test_another_seed_draws_anew():
    assert encode(model(), 4, seed=1) != encode(model(), 4, seed=2)


@pytest.mark.parametrize("bits", [3, 8, 32])
@pytest.mark.parametrize("block_size", [24, 2048, 5001])
def test_threads_and_the_size_of_pieces_change_nothing(monkeypatch, bits, block_size):
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 1)
    alone = encode(model(), bits, seed=5, block_size=block_size)
    decoded = decode(alone)["big"]
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(chunks, "VALUES", 1 << 13)
    monkeypatch.setattr(encoder, "LONG", 1 << 13)
    several = encode(model(), bits, seed=5, block_size=block_size)
    assert (several, decode(several)["big"].tobytes()) == (alone, decoded.tobytes())


def test_work_that_is_done_does_not_wait_for_threads_that_are_busy_elsewhere(monkeypatch):
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 2)
    chunks._helpers.cache_clear()
    gate, done = threading.Event(), []
    busy = [chunks._Call(lambda: gate.wait(10)) for _ in range(2)]
    for call in busy:
        chunks._helpers().put(call)
    chunks.at_once(done.append, range(8))
    still_busy = all(call._over.empty() for call in busy)
    gate.set()
    assert (sorted(done), still_busy) == (list(range(8)), True)


@pytest.mark.parametrize("fails", [0, 5])
def test_an_error_on_any_thread_ends_the_work_of_all(monkeypatch, fails):
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 2)
    together, running = threading.Barrier(2), []

    def work(number):
        if number in (0, 1):
            together.wait(10)  # so that both threads have some
        running.append(number)
        if number == fails:
            running.pop()
            raise ValueError(number)
        running.pop()

    with pytest.raises(ValueError, match=str(fails)):
        chunks.at_once(work, range(1000))
    assert running == []


def test_a_forked_process_decodes_by_itself(monkeypatch):
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 2)
    payload = encode({"x": np.ones(1 << 22, np.float32)}, 8, seed=0)  # the parent has its threads now
    decode(payload)
    child = os.fork()
    if child == 0:
        os._exit(0 if decode(payload)["x"].all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("form", [tiles.SYMMETRIC, tiles.FIXED])
def test_decoding_in_float32_gives_what_float64_rounded_once_gives(form, bits):
    highest, size = tiles.highest_code(form, bits), 256
    codes = np.resize(np.arange(highest + 1), size)
    packed = np.packbits((codes[:, None] >> np.arange(bits) & 1).astype(np.uint8), axis=None, bitorder="little")
    draw = np.random.default_rng(bits)
    scales = np.exp2(draw.uniform(-140, 120, 1 << 15)).astype(np.float32)
    out = np.empty(scales.size * size, np.float32)
    zero, steps = (
        (highest // 2, scales.astype(np.float64) / (highest // 2))
        if form == tiles.SYMMETRIC
        else ((highest + 1) // 2, np.full(scales.size, 2.0 / (highest + 1)))
    )
    bad = kernels.dequantise(
        *(chunks.frozen(np.tile(packed, scales.size)), form, bits, size, 0, chunks.frozen(scales)),
        *(False, 0.0, out),
    )
    due = ((codes - zero)[None, :] * steps[:, None]).astype(np.float32)
    assert bad == -1
    assert np.array_equal(out.view(np.uint32), due.reshape(-1).view(np.uint32))


@pytest.mark.parametrize("shape", [(), (7,), (1 << 18, 3)])
def test_decoded_tensors_begin_on_the_edge_of_a_cache_line(shape):
    found = decode(encode({"x": np.ones(shape, np.float32)}, 8, seed=0))["x"]
    assert (found.shape, found.ctypes.data % 64, found.flags.writeable) == (shape, 0, True)


@pytest.mark.parametrize("bits", [5, 32])
def test_encode_to_writes_the_same_bytes_and_hashes_them(bits):
    sink = io.BytesIO()
    digest = encode_to(sink, model(), bits, seed=2)
    payload = encode(model(), bits, seed=2)
    assert (sink.getvalue(), digest) == (payload, hashlib.sha256(payload).hexdigest())


def test_memory_order_and_byte_order_change_nothing():
    values = model()["conv"]
    as_it_is = encode({"x": values}, 6, seed=1)
    strided = np.zeros((64, 3, 3, 6), np.float32)[..., ::2]
    strided[:] = values
    others = [np.asfortranarray(values), strided, values.astype(">f4")]
    assert [encode({"x": other}, 6, seed=1) == as_it_is for other in others] == [True] * 3


@pytest.mark.parametrize("bits", [2, 8, 16])
@pytest.mark.parametrize("scale", [1e-45, 1e-38, F32_MAX])
def test_the_smallest_and_largest_magnitudes_come_back_exactly(bits, scale):
    values = np.array([scale, -scale, 0.0, scale], np.float32)
    assert decode(encode({"x": values}, bits, seed=0))["x"].tolist() == values.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [4, 32])
def test_a_value_that_is_not_finite_is_refused_by_tensor_and_place(bits, dtype, bad):
    values = np.ones(200_000, dtype)
    values[150_000] = bad
    with pytest.raises(ValueError, match=r"tensor 'layer.1': value 150,000 of 200,000 is -?(nan|inf)"):
        encode({"good": np.ones(3), "layer.1": values}, bits, seed=0)


def test_a_float64_beyond_float32_is_refused():
    with pytest.raises(ValueError, match=r"tensor 'x': value 1 of 2 is 1e\+300, beyond float32"):
        encode({"x": np.array([1.0, 1e300])}, 32, seed=0)


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ({"x": np.ones(3, np.int64)}, {}, "tensor 'x': its dtype is int64"),
        ({"x" * 1025: np.ones(3)}, {}, "name is 1,025 bytes long"),
        ({"": np.ones(3)}, {}, "name is 0 bytes long"),
        ({"x": np.ones((1,) * 33)}, {}, "tensor 'x': it has 33 dimensions"),
        ({}, {"bits": 0}, "0 bits; codec 'uniform' has 2 to 16"),
        ({}, {"bits": 17}, "17 bits"),
        ({}, {"block_size": 7}, "block size 7; codec 'uniform' takes 8 to 1,048,576"),
        ({}, {"seed": -1}, "seed -1"),
        ({}, {"seed": 2**64}, "seed 18446744073709551616"),
        ({}, {"keep": 0.0}, "keep 0.0"),
        ({}, {"keep": 1.5}, "keep 1.5"),
        ({}, {"entropy": "yes"}, "entropy 'yes'"),
        ({}, {"codec": "best"}, "unknown codec 'best'; known are 0 float32, 1 uniform"),
        ({}, {"codec": 10}, "unknown codec 10"),
        ({}, {"codec": "sign"}, "4 bits; codec 'sign' has 1"),
        ({}, {"codec": "nf4", "block_size": 100}, "block size 100; codec 'nf4' takes 64, 128"),
    ],
)
def test_an_argument_out_of_range_is_refused(tensors, options, message):
    with pytest.raises(ValueError, match=message):
        encode(tensors, **{"bits": 4, "seed": 0, **options})


@pytest.mark.parametrize(("bits", "share"), [(8, 0.251), (4, 0.127), (2, 0.065)])
def test_the_payload_is_as_small_as_its_bits(bits, share):
    values = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    assert len(encode({"x": values}, bits, seed=0)) <= share * values.nbytes


@pytest.mark.parametrize("bits", [4, 11, 32])
def test_adding_payloads_equals_adding_what_they_decode_to(bits):
    payloads = [encode(model(seed), bits, seed=seed) for seed in range(3)]
    weights = [0.25, 0.1, 0.65]
    sums = {name: np.zeros_like(tensor) for name, tensor in model().items()}
    expected = {name: np.zeros_like(tensor) for name, tensor in model().items()}
    for payload, weight in zip(payloads, weights, strict=True):
        add_to(payload, weight, sums)
        for name, tensor in decode(payload).items():
            expected[name] = (expected[name] + np.float64(weight) * tensor).astype(np.float32)
    assert all(np.array_equal(sums[name], expected[name]) for name in sums)


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        ({"a": (2, 3), "c": (1,)}, r"tensor 'c' of shape \(1,\) is missing; the payload has 2 tensors"),
        ({"a": (3, 2), "b": (4,)}, r"tensor 'a' has shape \(2, 3\) instead of \(3, 2\)"),
        ({"a": (2, 3)}, r"tensor 'b' of shape \(4,\) is not one of the 1 expected"),
    ],
)
def test_a_payload_of_another_model_is_refused_and_nothing_is_added(sums, message):
    payload = encode({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)}, 8, seed=0)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in sums.items()}
    with pytest.raises(PayloadError, match=message):
        check(payload, sums, verify=True)
    with pytest.raises(PayloadError, match=message):
        add_to(payload, 1.0, arrays)
    assert not any(array.any() for array in arrays.values())


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        add_to(encode(model(), 4, seed=0), weight, model())


def test_a_good_payload_passes_the_check():
    shapes = {name: tensor.shape for name, tensor in reversed(model().items())}
    assert check(encode(model(), 3, seed=0), shapes, verify=True).bits == 3


@pytest.mark.parametrize("bits", [7, 32])
def test_bytes_memoryviews_at_odd_addresses_and_mapped_files_decode_alike(tmp_path, bits):
    payload = encode(model(), bits, seed=4)
    (tmp_path / "payload").write_bytes(payload)
    with (tmp_path / "payload").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        forms = [payload, memoryview(b"x" + payload)[1:], bytearray(payload), mapped]
        decoded = [decode(form) for form in forms]
    assert all(d[name].tobytes() == t.tobytes() for d in decoded for name, t in decoded[0].items())


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("action", ["encode_to", "add_to", "check"])
def test_nothing_of_a_tensors_size_is_allocated(bits, action):
    tensors = {"x": np.ones((1 << 12, 1 << 11), np.float32)}
    payload = encode(tensors, bits, seed=0)
    actions = {
        "encode_to": lambda: encode_to(Nowhere(), tensors, bits, seed=0),
        "add_to": lambda: add_to(payload, 0.5, tensors),
        "check": lambda: check(payload, {"x": (1 << 12, 1 << 11)}, verify=True),
    }
    actions[action]()  # compiles
    tracemalloc.start()
    actions[action]()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < tensors["x"].nbytes / 4


class Nowhere:
    def write(self, data: memoryview, /) -> None:
        pass


def test_views_are_the_values_in_the_payloads_own_memory_and_read_only():
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float16)}
    payload = encode(tensors, 32, seed=0)
    seen = decode(payload, views=True)
    assert all(np.array_equal(seen[n], tensors[n]) for n in tensors)
    assert np.shares_memory(seen["a"], np.frombuffer(payload, np.uint8))
    assert not seen["a"].flags.writeable


def test_quantised_values_have_no_views_and_are_copies():
    payload = encode({"a": np.ones(600, np.float32)}, 4, seed=0)
    assert decode(payload, views=True)["a"].flags.writeable
