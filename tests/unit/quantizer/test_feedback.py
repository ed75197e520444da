"""What quantisation leaves out of a round comes with the next, also after a crash."""

import hashlib
import io
import os

import numpy as np
import pytest

from quantizer import PayloadError, Residuals, decode, encode_with_feedback


def updates(rounds: int):
    rng = np.random.default_rng(11)
    for _ in range(rounds):
        yield {"w": rng.uniform(-1, 1, (20, 300)).astype(np.float32), "b": np.float32(rng.uniform(-1, 1, 7))}


def run(bits: int, rounds: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Sum of the true updates, sum of the decoded ones, last residual; in float64."""
    true = {"w": np.zeros((20, 300)), "b": np.zeros(7)}
    sent = {"w": np.zeros((20, 300)), "b": np.zeros(7)}
    residual = None
    for number, update in enumerate(updates(rounds)):
        sink = io.BytesIO()
        _, residual = encode_with_feedback(update, residual, bits, seed=number, sink=sink)
        for name, tensor in decode(sink.getvalue()).items():
            true[name] += update[name]
            sent[name] += tensor
    return true, sent, residual


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16, 32])
def test_what_was_sent_and_what_is_left_make_the_true_sum(bits):
    true, sent, residual = run(bits, rounds=25)
    assert all(np.allclose(sent[name] + residual[name], true[name], rtol=0, atol=1e-4) for name in true)


@pytest.mark.parametrize(("bits", "bound"), [(2, 1.0), (3, 1 / 2), (4, 1 / 6), (8, 1 / 126)])
def test_the_residual_stays_bounded_over_many_rounds(bits, bound):
    _, _, residual = run(bits, rounds=60)
    assert max(np.abs(tensor).max() for tensor in residual.values()) <= bound * 1.0001


def test_at_32_bits_nothing_is_left_and_an_old_residual_is_sent():
    update = {"w": np.float32([1, 2])}
    sink = io.BytesIO()
    _, left = encode_with_feedback(update, {"w": np.float32([0.5, -4])}, 32, seed=0, sink=sink)
    assert (decode(sink.getvalue())["w"].tolist(), left["w"].tolist()) == ([1.5, -2], [0, 0])


def test_a_repeated_round_gives_the_same_bytes_and_leaves_its_input_alone():
    update, residual = list(updates(2))
    before = {name: tensor.copy() for name, tensor in (*update.items(), *residual.items())}
    sinks = io.BytesIO(), io.BytesIO()
    digests = [encode_with_feedback(update, residual, 4, seed=9, sink=sink)[0] for sink in sinks]
    assert digests == [hashlib.sha256(sink.getvalue()).hexdigest() for sink in sinks]
    assert sinks[0].getvalue() == sinks[1].getvalue()
    assert all(np.array_equal(before[name], residual[name]) for name in before)


@pytest.mark.parametrize(
    ("residual", "message"),
    [
        ({"v": np.zeros(2, np.float32)}, r"another model: tensors \['v', 'w'\]"),
        ({"w": np.zeros((1, 2), np.float32)}, r"tensor 'w': the residual has shape \(1, 2\), the update \(2,\)"),
    ],
)
def test_a_residual_of_another_model_is_refused(residual, message):
    with pytest.raises(ValueError, match=message):
        encode_with_feedback({"w": np.zeros(2, np.float32)}, residual, 4, seed=0, sink=io.BytesIO())


RESIDUAL = {"w": np.float32([[0.25, -1e-30]]), "b": np.float32(3)}


def test_a_saved_residual_comes_back_exactly(tmp_path):
    residuals = Residuals(tmp_path / "state")
    residuals.save("run-1", 7, RESIDUAL)
    assert {name: t.tolist() for name, t in residuals.load("run-1", 7).items()} == {
        n: t.tolist() for n, t in RESIDUAL.items()
    }


@pytest.mark.parametrize("round", [None, 3])
def test_without_a_residual_there_is_none(tmp_path, round):
    assert Residuals(tmp_path).load("run-1", round) is None


@pytest.mark.parametrize("length", [0, 1, 60, -1])
def test_a_damaged_residual_is_an_error_that_names_the_file(tmp_path, length):
    residuals = Residuals(tmp_path)
    residuals.save("run-1", 7, RESIDUAL)
    path = tmp_path / "run-1" / "7.residual"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(PayloadError, match=r"run-1/7\.residual: "):
        residuals.load("run-1", 7)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_residual_and_no_litter(tmp_path, monkeypatch, call):
    residuals = Residuals(tmp_path)
    residuals.save("run-1", 7, RESIDUAL)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space left"):
        residuals.save("run-1", 7, {"w": np.zeros(3, np.float32)})
    assert [path.name for path in tmp_path.rglob("*.*")] == ["7.residual"]
    assert residuals.load("run-1", 7)["b"] == 3


def test_pruning_forgets_older_rounds_and_what_a_crash_left(tmp_path):
    residuals = Residuals(tmp_path)
    for run, round in [("run-1", 4), ("run-1", 9), ("run-1", 10), ("run-2", 4)]:
        residuals.save(run, round, RESIDUAL)
    (tmp_path / "run-1" / "10.residualab12.part").write_bytes(b"half")
    residuals.prune("run-1", before_round=9)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert left == ["run-1/10.residual", "run-1/9.residual", "run-2/4.residual"]


@pytest.mark.parametrize("run", ["", ".", "..", "../other", "/etc", "a/b", "a\\b", "a\n", "x" * 201])
def test_a_run_that_is_no_folder_name_is_refused(tmp_path, run):
    with pytest.raises(ValueError, match="cannot name a folder"):
        Residuals(tmp_path).save(run, 1, RESIDUAL)
