"""Payloads damaged at random, with their checksums made right: refused or read, never anything else.

bench/fuzz_wire.py does the same a million times.
"""

import struct
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizer import PayloadError, add_to, decode, encode

SHAPES = {"w": (5, 9), "v": (200,), "none": (0,)}
KINDS = [
    {"bits": 5},
    {"bits": 32},
    {"bits": 1},
    {"bits": 3, "codec": "minmax", "entropy": "on"},
    {"bits": 4, "keep": 0.2},
    {"bits": 11, "keep": 0.5, "entropy": "on"},
    {"bits": 16, "codec": "bfloat16"},
]
NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)


def payload_of(kind: dict) -> bytes:
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(shape).astype(np.float32) ** 3 for name, shape in SHAPES.items()}
    return encode(values, seed=1, **({"block_size": 16} | kind))


PAYLOADS = [payload_of(kind) for kind in KINDS]


def sealed(payload: bytearray) -> bytes:
    """`payload` with both checksums made right, as far as it has them."""
    if len(payload) >= 52:
        end = int.from_bytes(payload[24:32], "little") - 4
        if 48 <= end <= len(payload) - 4:
            struct.pack_into("<I", payload, end, zlib.crc32(payload[:end]))
        struct.pack_into("<I", payload, len(payload) - 4, zlib.crc32(payload[:-4]))
    return bytes(payload)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_payload_is_read_or_refused(data):
    payload = bytearray(data.draw(st.sampled_from(PAYLOADS)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(payload) - 1, 0)))
        match data.draw(st.sampled_from(["byte", "number", "cut", "grow", "repeat"])):
            case "byte":
                payload[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "number":
                layout = data.draw(st.sampled_from("BHIQ"))
                size = struct.calcsize(layout)
                number = data.draw(NUMBERS) % 256**size
                payload[at : at + size] = struct.pack("<" + layout, number)
            case "cut":
                del payload[at : at + data.draw(st.integers(1, 64))]
            case "grow":
                payload[at:at] = data.draw(st.binary(max_size=64))
            case "repeat":
                payload[at:at] = payload[at : at + 32]
    forged = sealed(payload)
    tracemalloc.start()
    try:
        with suppress(PayloadError):
            decoded = decode(forged, limit_bytes=1 << 20)
            assert all(np.isfinite(t).all() for t in decoded.values())
        with suppress(PayloadError):
            add_to(forged, 1.0, {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_the_undamaged_payload_is_read(kind):
    decoded = decode(sealed(bytearray(PAYLOADS[kind])))
    assert {name: tensor.shape for name, tensor in decoded.items()} == SHAPES
