"""Damages payloads a million times and reads each: refused by name, or read; nothing else may happen.

Valid payloads of every codec are cut, spliced and overwritten at random, with bytes and with numbers that lengths
choke on, and most get their checksums made right again, so that the damage reaches the parser and the kernels.
For each, decode and add_to must return or raise PayloadError within a second, give finite values, and take no
memory beyond a limit that the process sets for itself. The same seed damages in the same way; a finding prints
the payload.

    python bench/fuzz_wire.py                        a million cases on all cores, about a minute
    python bench/fuzz_wire.py --cases 20000 --seed 7
"""

import argparse
import multiprocessing
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ["NUMBA_NUM_THREADS"] = "1"  # small payloads; and one process per core

import aside  # noqa: F401
import numpy as np

from quantizer import PayloadError, add_to, decode, encode

SHAPES = {"w": (5, 9), "v": (200,), "none": (0,), "layer.0.weight": (3, 1, 2)}
KINDS: list[dict[str, object]] = [
    {"bits": 5},
    {"bits": 8, "block_size": 24},
    {"bits": 32},
    {"bits": 1},
    {"bits": 12, "codec": "minmax"},
    {"bits": 3, "codec": "minmax", "entropy": "on"},
    {"bits": 4, "codec": "fixed"},
    {"bits": 4, "keep": 0.2},
    {"bits": 11, "keep": 0.5, "entropy": "on"},
    {"bits": 32, "keep": 0.1},
    {"bits": 32, "entropy": "on"},
    {"bits": 16, "codec": "float16"},
    {"bits": 16, "codec": "bfloat16", "entropy": "on"},
]
NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    127,
    255,
    256,
    2**16 - 1,
    2**16,
    2**20,
    2**31 - 1,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
)
WIDTHS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
DECODED_BYTES = 1 << 22
MEMORY_BYTES = 256 << 20
"""How far the address space may grow: what decode may take, many times over, and far less than a length can
claim.
"""


@dataclass(frozen=True)
class Outcome:
    """How many cases were read, and how many refused with which words, numbers left out."""

    read: int
    refused: Counter[str]


def payloads() -> list[bytes]:
    """One valid payload of each kind."""
    rng = np.random.default_rng(0)
    values = {n: (rng.standard_normal(s) ** 3).clip(-1, 1).astype(np.float32) for n, s in SHAPES.items()}
    values["w"] = values["w"].astype(np.float16)  # type: ignore[assignment]
    return [encode(values, seed=1, **({"block_size": 16} | kind)) for kind in KINDS]  # type: ignore[arg-type]


def damaged(rng: random.Random, valid: list[bytes]) -> bytes:
    """One payload with one to four damages."""
    payload = bytearray(rng.choice(valid))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        at = rng.randrange(len(payload)) if payload else 0
        how = rng.random()
        if how < 0.4:
            payload[at : at + 1] = rng.randbytes(1)
        elif how < 0.8:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) if rng.random() < 0.7 else rng.getrandbits(64)
            payload[at : at + width] = struct.pack(WIDTHS[width], number % 256**width)
        elif how < 0.85:
            del payload[at : at + rng.choice((1, 2, 4, 8, 64))]
        elif how < 0.9:
            payload[at:at] = payload[at : at + rng.choice((1, 4, 8, 64))]
        elif how < 0.95:
            other = rng.choice(valid)
            payload[at:] = other[rng.randrange(len(other)) :]
        else:
            del payload[at:]
    if rng.random() < 0.95:
        seal(payload)
    return bytes(payload)


def seal(payload: bytearray) -> None:
    """Makes both checksums right, as far as the payload has them."""
    if len(payload) >= 52:
        end = int.from_bytes(payload[24:32], "little") - 4
        if 48 <= end <= len(payload) - 4:
            struct.pack_into("<I", payload, end, zlib.crc32(memoryview(payload)[:end]))
        struct.pack_into("<I", payload, len(payload) - 4, zlib.crc32(memoryview(payload)[:-4]))


def run(job: tuple[int, int]) -> Outcome:
    """Tries (seed, cases); RuntimeError names the case that did something else."""
    seed, cases = job
    rng, valid = random.Random(seed), payloads()
    sums = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for payload in valid:  # loads every kernel before the memory is bounded
        decode(payload)
        add_to(payload, 1.0, sums)
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, _hung)
    read, refused = 0, Counter[str]()
    for case in range(cases):
        payload = damaged(rng, valid)
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        try:
            decoded = decode(payload, limit_bytes=DECODED_BYTES)
            if not all(np.isfinite(tensor).all() for tensor in decoded.values()):
                raise AssertionError("a decoded value is not finite")
            add_to(payload, 1.0, sums)
            read += 1
        except PayloadError as error:
            words = str(error)
            if not words:
                raise AssertionError("refused without a word") from error
            refused["".join("#" if c.isdigit() else c for c in words[:60])] += 1
        except BaseException:
            traceback.print_exc()
            raise RuntimeError(f"seed {seed}, case {case}: {payload.hex()}") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return Outcome(read, refused)


def _hung(*_: object) -> None:
    raise TimeoutError("a payload took a second")


def main() -> None:
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--cases", type=int, default=1_000_000)
    line.add_argument("--seed", type=int, default=0)
    line.add_argument("--quick", action="store_true", help="a hundredth of the cases")
    options = line.parse_args()
    cores = len(os.sched_getaffinity(0))
    cases = options.cases // 100 if options.quick else options.cases
    jobs = [(options.seed * 1000 + i, -(-cases // cores)) for i in range(cores)]
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        done = pool.map(run, jobs)
    refused = sum((outcome.refused for outcome in done), Counter[str]())
    tried = sum(count for _, count in jobs)
    print(
        f"{tried:,} cases in {time.perf_counter() - start:.0f} s: {sum(o.read for o in done):,} read, "
        f"{refused.total():,} refused in {len(refused):,} ways, nothing else; seed {options.seed}"
    )


if __name__ == "__main__":
    sys.exit(main())
