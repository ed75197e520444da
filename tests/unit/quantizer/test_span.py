import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantizer
from quantizer import chunks
from quantizer.feedback import encode_with_feedback
from quantizer.span import live_range


def by_hand(tensors: list[np.ndarray], block_size: int) -> float:
    largest = [np.abs(t.ravel()[i : i + block_size]).max() for t in tensors for i in range(0, t.size, block_size)]
    return 2 * float(np.sqrt(np.mean(np.square(np.array(largest, np.float64)))))


@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    block_size=st.sampled_from([8, 24, 64, 256, 2048]),
    seed=st.integers(0, 99),
    with_residual=st.booleans(),
)
def test_it_is_what_a_loop_over_the_blocks_finds(sizes, block_size, seed, with_residual):
    random = np.random.default_rng(seed)
    update, residual = (
        {str(i): random.standard_normal(n).astype(np.float32) for i, n in enumerate(sizes)} for _ in range(2)
    )
    tensors = [update[n] + residual[n] if with_residual else update[n] for n in update]

    assert live_range(update, residual if with_residual else None, block_size) == pytest.approx(
        by_hand(tensors, block_size), rel=1e-6
    )


def test_a_tensor_longer_than_a_piece_is_looked_at_to_its_end():
    values = np.zeros(3 * chunks.VALUES + 5, np.float32)
    values[-1] = 4.0
    blocks = -(-values.size // 256)

    assert live_range({"a": values}, None, 256) == pytest.approx(2 * np.sqrt(16 / blocks))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_and_strides_span_as_much(dtype):
    values = np.linspace(-1, 3, 6000).astype(dtype).reshape(60, 100)

    assert live_range({"a": values.T}, {"a": values.T}, 256) == pytest.approx(
        live_range({"a": np.float32(2) * values.T.astype(np.float32)}, None, 256), rel=1e-3
    )


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("with_residual", [False, True])
def test_what_is_not_finite_is_not_hidden(value, with_residual):
    update, residual = {"a": np.ones(600, np.float32)}, {"a": np.ones(600, np.float32)}
    update["a"][300] = value

    assert not np.isfinite(live_range(update, residual if with_residual else None, 256))


def test_nothing_spans_nothing():
    assert live_range({}, None, 256) == 0.0
    assert live_range({"a": np.zeros((4, 4), np.float32)}, None, 256) == 0.0


def test_it_is_read_only():
    values = np.array([-3.0, 1.0], np.float32)
    values.setflags(write=False)
    live_range({"a": values}, {"a": values}, 8)

    assert values.tolist() == [-3.0, 1.0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_error_of_a_payload_is_within_what_its_range_promises(bits):
    random = np.random.default_rng(1)
    update = {"a": random.standard_normal(4096).astype(np.float32) * np.float32(0.01), "b": np.ones(9, np.float32)}
    decoded = quantizer.decode(quantizer.encode(update, bits, seed=3, block_size=64))
    error = np.concatenate([(decoded[n] - update[n]).ravel() for n in update])
    promised = live_range(update, None, 64) / (2 * (2**bits - 2))

    assert np.sqrt(np.mean(error**2)) <= promised


def test_of_error_feedback_it_is_the_sum_that_is_encoded(tmp_path):
    update, residual = {"a": np.full(8, 0.5, np.float32)}, {"a": np.full(8, 1.5, np.float32)}
    with (tmp_path / "sink").open("wb") as sink:
        encode_with_feedback(update, residual, 8, seed=1, sink=sink, block_size=8)

    assert live_range(update, residual, 8) == pytest.approx(4.0)
    assert quantizer.decode((tmp_path / "sink").read_bytes())["a"].max() == pytest.approx(2.0)
