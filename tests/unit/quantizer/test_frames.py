"""Version 2: only the largest values, compressed codes, several updates into one sum, and payloads that lie."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizer import (
    NAMES,
    PayloadError,
    add_many_to,
    add_to,
    check,
    codec,
    decode,
    encode,
    encode_to,
    encode_with_feedback,
    largest,
    read_header,
)

pytestmark = pytest.mark.slow

DOC = Path(__file__).parents[3] / "docs" / "wire.md"
EVERY = [(name, bits) for name in NAMES for bits in codec(name).bits if bits in (1, 2, 3, 4, 7, 8, 12, 16, 32)]


def update(seed: int = 0) -> dict[str, np.ndarray]:
    """Values as updates have them: many small ones, few large."""
    rng = np.random.default_rng(seed)
    shapes = {"conv": (16, 3, 3, 3), "big": (300, 901), "bias": (), "none": (0, 4)}
    return {name: (0.02 * rng.standard_normal(shape) ** 3).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(("name", "bits"), EVERY)
def test_compressed_codes_are_the_same_codes(name, bits):
    plain = decode(encode(update(), bits, seed=1, codec=name))
    payload = encode(update(), bits, seed=1, codec=name, entropy="on")
    assert read_header(payload).entropy == 1
    assert all(np.array_equal(t, plain[n]) for n, t in decode(payload).items())


@pytest.mark.parametrize(("name", "bits"), EVERY)
def test_the_largest_values_come_back_as_the_codec_promises_and_the_others_as_zero(name, bits):
    values = update()["big"].reshape(-1)
    decoded = decode(encode({"x": values}, bits, seed=1, codec=name, keep=0.05, entropy="on"))["x"]
    order = np.argsort(-np.abs(values), kind="stable")[: -(-values.size // 20)]
    kept, dropped = np.sort(order), np.delete(decoded, order)
    scale = np.abs(values).max()
    bound = 2 * scale if name == "sign" or bits <= 4 else np.maximum(scale / 4, np.abs(values[kept]))
    assert not dropped.any()
    assert np.all(np.abs(decoded[kept] - values[kept]) <= np.maximum(bound, 2 * (name == "fixed")))
    if name == "float32":
        assert np.array_equal(decoded[kept], values[kept])


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"entropy": "on"}, {"codec": "minmax"}, {"codec": "nf4"}])
@pytest.mark.parametrize(
    "tensors", [{}, {"x": np.empty((0, 3), np.float32)}, {"x": np.float32(2), "y": np.empty(0)}]
)
def test_payloads_without_values_come_back(options, tensors):
    decoded = decode(encode(tensors, 4, seed=0, **options))
    assert [(n, t.shape, t.dtype) for n, t in decoded.items()] == [
        (n, np.shape(t), np.asarray(t).dtype) for n, t in tensors.items()
    ]


def test_of_equal_magnitudes_the_first_are_kept():
    values = np.full(300_000, 0.5, np.float32)
    values[::2] = -0.5
    decoded = decode(encode({"x": values}, 32, seed=0, keep=0.4))["x"]
    assert np.array_equal(decoded, np.where(np.arange(values.size) < 120_000, values, 0))


@pytest.mark.parametrize("keep", [1e-9, 0.999999])
def test_at_least_one_value_is_kept_and_empty_tensors_stay_empty(keep):
    tensors = {"one": np.float32([3.0]), "none": np.empty((0, 2), np.float32), "two": np.float32([1, -2])}
    decoded = decode(encode(tensors, 32, seed=0, keep=keep))
    assert [decoded[n].shape for n in tensors] == [(1,), (0, 2), (2,)]
    assert decoded["one"].tolist() == [3.0]
    assert decoded["two"].tolist() == ([0, -2] if keep < 0.5 else [1, -2])


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(0, 5000), max_size=300))
def test_places_come_back_from_their_code(places):
    where = np.array(sorted(places), np.uint32)
    where.flags.writeable = False
    code = np.frombuffer(largest.places(where), np.uint8)
    assert largest.read_places(code, where.size, 5001).tolist() == where.tolist()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.4])
def test_places_take_hardly_more_than_their_entropy(share):
    where = np.flatnonzero(np.random.default_rng(0).random(1 << 17) < share).astype(np.uint32)
    where.flags.writeable = False
    entropy_bits = (1 << 17) * -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert 8 * len(largest.places(where)) <= 1.06 * entropy_bits + 16


def test_entropy_is_used_when_it_pays_and_not_when_it_does_not():
    rng = np.random.default_rng(0)
    heavy = {"x": (rng.standard_normal(300_000) ** 5).astype(np.float32)}
    even = {"x": rng.uniform(-1, 1, 300_000).astype(np.float32)}
    sizes = {stage: len(encode(heavy, 4, seed=0, entropy=stage)) for stage in ("off", "auto", "on")}
    assert sizes["auto"] == sizes["on"] < 0.8 * sizes["off"]
    assert encode(even, 4, seed=0, entropy="auto") == encode(even, 4, seed=0)
    assert encode({}, 4, seed=0, entropy="auto") == encode({}, 4, seed=0)


@pytest.mark.parametrize("options", [{"entropy": "on"}, {"keep": 0.1}, {"codec": "minmax"}])
def test_sinks_and_threads_get_the_same_bytes(monkeypatch, options):
    from quantizer import chunks

    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 2)
    several = encode(update(), 5, seed=5, **options)
    monkeypatch.setattr(chunks.config, "NUMBA_NUM_THREADS", 1)
    sink = io.BytesIO()
    encode_to(sink, update(), 5, seed=5, **options)
    assert sink.getvalue() == several


MANY = [
    {"bits": 8},
    {"bits": 3, "block_size": 24},
    {"bits": 32},
    {"bits": 4, "codec": "nf4"},
    {"bits": 5, "keep": 0.1},
    {"bits": 6, "codec": "minmax", "entropy": "on"},
    {"bits": 16, "codec": "float16"},
]


@pytest.mark.parametrize("mixed", [False, True])
def test_adding_many_at_once_equals_adding_one_after_the_other(mixed):
    kinds = MANY if mixed else [{"bits": 4}] * 5
    payloads = [encode(update(i), seed=i, **options) for i, options in enumerate(kinds)]
    weights = [0.3 / (i + 1) for i in range(len(kinds))]
    one, many = ({n: np.full(t.shape, 0.1, np.float32) for n, t in update().items()} for _ in range(2))
    for payload, weight in zip(payloads, weights, strict=True):
        add_to(payload, weight, one)
    add_many_to(payloads, weights, many)
    assert all(one[n].tobytes() == many[n].tobytes() for n in one)


@pytest.mark.parametrize("options", MANY)
def test_adding_equals_adding_what_it_decodes_to(options):
    payload = encode(update(), seed=1, **options)
    sums = {n: np.full(t.shape, 0.25, np.float32) for n, t in update().items()}
    expected = {
        n: (np.float64(0.7) * t.astype(np.float64) + np.float32(0.25)).astype(np.float32)
        for n, t in decode(payload).items()
    }
    add_to(payload, 0.7, sums)
    assert all(np.array_equal(sums[n], expected[n]) for n in sums)


@pytest.mark.parametrize("options", [{}, {"keep": 0.2}, {"entropy": "on"}])
@pytest.mark.parametrize(("name", "bits"), [(n, b) for n, b in EVERY if codec(n).feedback(b)])
def test_what_was_sent_and_what_is_left_make_the_true_sum(name, bits, options):
    """Error feedback of every codec, also where it is biased."""
    rng = np.random.default_rng(1)
    true = sent = np.zeros(3000)
    residual = None
    for round in range(12):
        fresh = {"w": (0.1 * rng.uniform(-1, 1, 3000)).astype(np.float32)}
        sink = io.BytesIO()
        _, residual = encode_with_feedback(fresh, residual, bits, seed=round, sink=sink, codec=name, **options)
        true = true + fresh["w"]
        sent = sent + decode(sink.getvalue())["w"]
    assert np.allclose(sent + residual["w"], true, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("bits", "options"),
    [(1, {}), (2, {"codec": "minmax"}), (1, {"codec": "fixed"}), (4, {"keep": 0.1}), (4, {"codec": "nf4"})],
)
def test_the_residual_stays_bounded_over_many_rounds(bits, options):
    rng = np.random.default_rng(3)
    residual, norms = None, []
    for round in range(300):
        fresh = {"w": rng.uniform(-1, 1, 500).astype(np.float32)}
        sink = io.BytesIO()
        _, residual = encode_with_feedback(fresh, residual, bits, seed=round, sink=sink, **options)
        norms.append(float(np.linalg.norm(residual["w"])))
    assert max(norms[150:]) <= 2 * max(norms[:150])


def test_two_ends_of_a_block_have_no_feedback():
    with pytest.raises(ValueError, match="no error feedback at 1 bits"):
        encode_with_feedback({"w": np.ones(2, np.float32)}, None, 1, seed=0, sink=io.BytesIO(), codec="minmax")


def test_the_worked_examples_of_the_document_are_what_the_code_makes():
    text = DOC.read_text(encoding="utf-8")
    listing = re.search(r"```hex version 2\n(.*?)```", text, re.DOTALL)
    documented = bytearray()
    for line in listing.group(1).splitlines():
        offset, data = re.match(r" *(\d+)  ((?:[0-9a-f]{2} )+)", line).groups()
        documented += bytes(int(offset) - len(documented)) + bytes.fromhex(data)
    example = {"w": np.array([7, -7, 0, 3, 1, 0, 0.25, 0], np.float32)}
    assert encode(example, 4, seed=99, block_size=8, keep=0.5) == bytes(documented)


SHAPES = {"w": (40,), "v": (2, 3)}


def small(**options) -> bytes:
    rng = np.random.default_rng(2)
    values = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in SHAPES.items()}
    return encode(values, **({"bits": 4, "codec": "minmax", "seed": 3, "block_size": 16} | options))


def patched(payload: bytes, offset: int, layout: str, *values: int | float) -> bytes:
    """`payload` with a field overwritten and both checksums made right again."""
    forged = bytearray(payload)
    struct.pack_into(layout, forged, offset, *values)
    end = min(int.from_bytes(payload[24:32], "little"), len(payload)) - 4
    struct.pack_into("<I", forged, end, zlib.crc32(forged[:end]))
    struct.pack_into("<I", forged, len(forged) - 4, zlib.crc32(forged[:-4]))
    return bytes(forged)


KINDS = {
    "minmax": {},
    "kept": {"keep": 0.3},
    "zstd": {"entropy": "on", "bits": 2},
    "both": {"entropy": "on", "keep": 0.5, "bits": 9},
    "bfloat16": {"codec": "bfloat16", "bits": 16},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_cut_anywhere_or_damaged_in_one_byte_is_refused(kind):
    payload = small(**KINDS[kind])
    for length in range(len(payload)):
        with pytest.raises(PayloadError):
            decode(payload[:length])
        damaged = bytearray(payload)
        damaged[length] ^= 0x81
        with pytest.raises(PayloadError):
            decode(bytes(damaged))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_that_the_checksums_hide_is_never_another_error_and_never_a_nan(kind):
    payload = small(**KINDS[kind])
    for place in range(len(payload)):
        for value in (0x00, 0x7F, 0xFF):
            forged = patched(payload, place, "<B", value)
            sums = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
            try:
                decoded = decode(forged, limit_bytes=1 << 20)
                add_to(forged, 1.0, sums)
            except PayloadError:
                continue
            assert all(np.isfinite(t).all() for t in (*decoded.values(), *sums.values()))


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (10, "<H", 2, r"flags 0x2"),
        (10, "<H", 1, r"share 1\.0 of the values kept does not go with flags 0x1"),
        (12, "<B", 10, r"unknown codec 10; known are"),
        (12, "<B", 1, r"codec 1 with every value and no entropy stage belongs into version 1"),
        (13, "<B", 17, r"17 bits; codec 'minmax' has 1 to 16"),
        (14, "<B", 2, r"unknown entropy stage 2"),
        (15, "<B", 1, r"reserved field 0x1"),
        (16, "<I", 4, r"block size 4"),
        (20, "<I", 3, r"tensor 2 of 3: the directory of \d+ bytes ends before it"),
        (32, "<Q", 47, r"claims 47 values; its tensors have 46"),
        (40, "<d", 0.5, r"share 0\.5 of the values kept does not go with flags 0x0"),
        (40, "<d", float("nan"), r"share nan"),
        (53, "<Q", 41, r"claims 46 values; its tensors have 47"),
        (88, "<I", 2**32 - 1, r"tensor 'w': the frame of values 0 to 39 claims 4,294,967,295 bytes"),
        (88, "<I", 43, r"the frame of values 0 to 39 claims 43 bytes; its values need 44"),
        (92, "<B", 1, r"is of kind 1, which its header does not allow"),
        (92, "<B", 2, r"is of kind 2"),
        (96, "<f", float("nan"), r"tensor 'w': value 0 of 40 is out of range"),
        (96, "<f", 1e30, r"tensor 'w': value 0 of 40 is out of range"),
    ],
)
def test_a_field_that_lies_is_refused_by_name_and_number(offset, layout, value, message):
    payload = small()
    assert payload[88:92] == (44).to_bytes(4, "little")  # the first frame's head
    with pytest.raises(PayloadError, match=message):
        decode(patched(payload, offset, layout, value))


def test_a_frame_that_expands_beyond_its_values_is_refused():
    import zstandard

    payload = encode({"w": np.ones(40, np.float32)}, 2, seed=0, block_size=16, entropy="on")
    assert payload[72:80] == (22).to_bytes(8, "little")  # the only frame's head; its codes stayed as they were
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    body = struct.pack("<3f", 1, 1, 1) + bomb
    frame = struct.pack("<IB3x", len(body), 1) + body
    forged = payload[:72] + frame + bytes(-len(frame) % 8 + 4)
    with pytest.raises(PayloadError, match=r"a zstd frame of 67,108,864 bytes where 10 are due"):
        check(patched(forged, 0, "<8s", b"WATTBEDQ"), {"w": (40,)}, verify=True)


def test_bytes_behind_the_last_frame_are_refused():
    payload = small()
    with pytest.raises(PayloadError, match=r"8 bytes lie behind the last frame"):
        decode(patched(payload[:-4] + bytes(12), 0, "<8s", b"WATTBEDQ"))
