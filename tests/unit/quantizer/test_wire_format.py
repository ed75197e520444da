"""docs/wire.md against the code, and payloads that lie."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from quantizer import PayloadError, add_to, check, decode, encode, read_header

DOC = Path(__file__).parents[3] / "docs" / "wire.md"
EXAMPLE = {"w": np.array([7, -7, 0, 3, 1], np.float32)}


def small(bits: int = 5) -> bytes:
    values = np.linspace(-1, 2, 45, dtype=np.float32)
    return encode({"a.b": values.reshape(5, 9), "c": values[:3].astype(np.float16)}, bits, seed=3, block_size=16)


def patched(payload: bytes, offset: int, layout: str, *values: int | float) -> bytes:
    """`payload` with a field overwritten and both checksums made right again."""
    forged = bytearray(payload)
    struct.pack_into(layout, forged, offset, *values)
    end = int.from_bytes(payload[24:32], "little") - 4
    struct.pack_into("<I", forged, end, zlib.crc32(forged[:end]))
    struct.pack_into("<I", forged, len(forged) - 4, zlib.crc32(forged[:-4]))
    return bytes(forged)


def test_the_worked_example_of_the_document_is_what_the_code_makes():
    listing = re.search(r"```hex\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    documented = bytearray(200)
    for line in listing.group(1).splitlines():
        offset, data = re.match(r" *(\d+)  ((?:[0-9a-f]{2} )+)", line).groups()
        documented[int(offset) : int(offset) + len(bytes.fromhex(data))] = bytes.fromhex(data)
    assert encode(EXAMPLE, 4, seed=99, block_size=8) == bytes(documented)


@pytest.mark.parametrize("bits", range(2, 17))
def test_codes_are_one_string_of_bits_lowest_first(bits):
    top = 2 ** (bits - 1) - 1
    codes = np.random.default_rng(bits).integers(-top, top + 1, 100)
    codes[0] = top
    payload = encode({"w": codes.astype(np.float32)}, bits, seed=0, block_size=128)
    stored = int.from_bytes(payload[128 : 128 + -(-100 * bits // 8)], "little")
    assert [(stored >> i * bits) % 2**bits - top for i in range(100)] == codes.tolist()


@pytest.mark.parametrize("bits", [5, 32])
def test_a_payload_cut_anywhere_is_refused(bits):
    payload = small(bits)
    for length in range(len(payload)):
        with pytest.raises(PayloadError):
            decode(payload[:length])


@pytest.mark.parametrize("bits", [5, 32])
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_payload_with_one_damaged_byte_is_refused(bits, flip):
    payload = small(bits)
    for place in range(len(payload)):
        damaged = bytearray(payload)
        damaged[place] ^= flip
        with pytest.raises(PayloadError):
            decode(bytes(damaged))


@pytest.mark.parametrize("bits", [5, 32])
def test_damage_that_the_checksums_hide_is_never_another_error_and_never_a_nan(bits):
    payload = small(bits)
    for place in range(len(payload)):
        for value in (0x00, 0x7F, 0xFF):
            try:
                tensors = decode(patched(payload, place, "<B", value))
            except PayloadError:
                continue
            assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_bytes_behind_the_end_are_refused():
    with pytest.raises(PayloadError, match=r"should have 200 bytes and has 201"):
        decode(encode(EXAMPLE, 4, seed=0, block_size=8) + b"\0")


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (8, "<H", 3, r"version 3; known are \(1, 2\)"),
        (10, "<H", 1, r"flags 0x1"),
        (12, "<B", 7, r"unknown codec 7"),
        (12, "<B", 0, r"codec 0 does not go with 4 bits"),
        (13, "<B", 1, r"1 bits; codec 'uniform' has 2 to 16"),
        (13, "<B", 32, r"codec 1 does not go with 32 bits"),
        (14, "<H", 1, r"reserved field 0x1"),
        (16, "<I", 7, r"block size 7"),
        (16, "<I", 2**31, r"block size 2,147,483,648"),
        (20, "<I", 2, r"tensor 1 of 2: the directory of 21 bytes ends before it"),
        (20, "<I", 0, r"the directory has 21 bytes; its 0 tensors need 0"),
        (20, "<I", 2**32 - 1, r"claims 4,294,967,295 tensors; at most 65,536"),
        (32, "<Q", 2**63, r"claims scales at 9,223,372,036,854,775,808; by its tensors they are at 192"),
        (40, "<Q", 2**63, r"claims 9,223,372,036,854,775,808 bytes; its tensors need 200"),
        (48, "<H", 65535, r"tensor 0 of 1: it needs 65,551 bytes of the directory, 17 are left"),
        (48, "<H", 0, r"needs 16 bytes|is 0 bytes long"),
        (50, "<B", 9, r"unknown dtype code 9"),
        (51, "<B", 255, r"tensor 0 of 1: it needs 2,049 bytes of the directory"),
        (52, "<B", 0xFF, r"its name is not UTF-8"),
        (53, "<Q", 2**64 - 1, r"at most 1,099,511,627,776 values"),
        (53, "<Q", 2**40, r"claims scales at 192; by its tensors they are at"),
        (61, "<Q", 2**64 - 1, r"tensor 'w' claims offset 18,446,744,073,709,551,615; by its place it is 128"),
    ],
)
def test_a_field_that_lies_is_refused_by_name_and_number(offset, layout, value, message):
    forged = patched(encode(EXAMPLE, 4, seed=0, block_size=8), offset, layout, value)
    with pytest.raises(PayloadError, match=message):
        decode(forged)


@pytest.mark.parametrize("claim", [0, 51, 197, 201, 2**64 - 1])
def test_a_header_length_that_lies_is_refused(claim):
    forged = bytearray(encode(EXAMPLE, 4, seed=0, block_size=8))
    struct.pack_into("<Q", forged, 24, claim)
    with pytest.raises(PayloadError, match=f"header claims {claim:,} bytes|header is damaged"):
        read_header(bytes(forged))


def test_two_tensors_of_one_name_are_refused():
    payload = encode({"a": np.zeros(2), "b": np.zeros(2)}, 4, seed=0)
    with pytest.raises(PayloadError, match="a second tensor called 'a'"):
        decode(patched(payload, payload.index(b"b"), "<B", ord("a")))


READERS = {
    "decode": decode,
    "add_to": lambda payload: add_to(payload, 1.0, {"w": np.zeros(5, np.float32)}),
    "check": lambda payload: check(payload, {"w": (5,)}, verify=True),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_refused(reader, scale):
    forged = patched(encode(EXAMPLE, 4, seed=0, block_size=8), 192, "<f", scale)
    with pytest.raises(PayloadError, match="tensor 'w': value 0 of 5 is out of range"):
        reader(forged)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_a_code_out_of_range_is_refused(reader):
    forged = patched(encode(EXAMPLE, 4, seed=0, block_size=8), 129, "<B", 0xF7)
    with pytest.raises(PayloadError, match="tensor 'w': value 3 of 5 is out of range"):
        reader(forged)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_raw_value_that_is_not_finite_is_refused(reader, value):
    forged = patched(encode(EXAMPLE, 32, seed=0), 128 + 4 * 2, "<f", value)
    with pytest.raises(PayloadError, match="tensor 'w': value 2 of 5 is (nan|-inf), not finite"):
        reader(forged)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_a_value_beyond_its_own_dtype_is_refused_where_the_dtype_matters(reader):
    forged = patched(encode({"w": EXAMPLE["w"].astype(np.float16)}, 4, seed=0, block_size=8), 192, "<f", 7e30)
    if reader is READERS["add_to"]:
        assert reader(forged) is None
    else:
        with pytest.raises(PayloadError, match="beyond its float16"):
            reader(forged)


def test_the_header_says_what_is_inside():
    header = read_header(small())
    assert (
        header.bits,
        header.block_size,
        header.payload_bytes,
        [(t.name, t.shape, t.dtype.name) for t in header.tensors],
    ) == (
        5,
        16,
        len(small()),
        [("a.b", (5, 9), "float32"), ("c", (3,), "float16")],
    )
