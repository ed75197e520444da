"""What quantising costs: speed beside a plain copy and bitsandbytes, memory, sizes, and how near the entropy.

Speed: the sides take turns in one run of this script, so that what else the machine does hits all of them. Before
each turn there is a rest, because the threads of bitsandbytes' OpenMP go on spinning for a while, and a call that
is not timed, because processors wake up slowly; then come a few calls that are. Ratios are of medians, and of the
fastest calls in parentheses. decode writes into arrays that are there, and leaves out the checksum, which was read
when the payload came: as an agent does from its second model on. bitsandbytes has no checksum, and no such arrays
on a CPU, so its memory is the allocator's: used again below 32 MiB, fresh pages
above. "decode 8, new arrays" takes its memory like that too. What decoding cannot be faster than is a plain write
of its output: NumPy's `fill` on one thread, PyTorch's on all that it has, which are those of bitsandbytes. Memory:
the peak of a process of its own beyond what was there before the call. Entropy: updates of the diffusion workload
trained here.
"""

import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from provenance import ROOT, Provenance, Spread, parser, publish, table

from quantizer import add_many_to, add_to, decode, encode, encode_to, read_header

SIZES = (1_000_000, 4_000_000, 16_000_000)
UPDATES = 8
REST_S, CALLS = 0.02, 4
"""Before a turn; calls that are timed in it."""

WRITE = "write, all threads"
SHARES = {8: 25.1, 4: 12.7, 2: 6.5, 1: 3.3}
DECODERS = ("bitsandbytes decode 8", "bitsandbytes decode 4", "decode 8", "decode 4")
ENTROPY_BITS = (2, 3, 4, 6, 8, 12)
DEMO = ROOT / "experiments" / "demo.toml"


class Nowhere:
    def write(self, data: memoryview, /) -> None:
        pass


@dataclass(frozen=True)
class Speed:
    """Seconds of each side at one size."""

    values: int
    seconds: dict[str, Spread]

    def ratio(self, slow: str, fast: str) -> float:
        """How many times as fast `fast` is."""
        return self.seconds[slow].median / self.seconds[fast].median

    def ratios(self, slow: str, fast: str, parts: int = 1) -> str:
        """The same of medians and of the fastest, divided by `parts`."""
        best = self.seconds[slow].low / self.seconds[fast].low
        return f"{self.ratio(slow, fast) / parts:.2f} ({best / parts:.2f})"


def speed(values: int, turns: int, seed: int) -> Speed:
    import torch
    from bitsandbytes import functional as bnb

    x = np.random.default_rng(seed).standard_normal(values).astype(np.float32)
    tensors, there = {"x": x}, torch.from_numpy(x)
    payloads = {bits: encode(tensors, bits, seed=seed) for bits in (8, 4, 2, 1, 32)}
    into = decode(payloads[32])
    out, shown = into["x"], torch.from_numpy(into["x"])
    eight, four = bnb.quantize_blockwise(there), bnb.quantize_4bit(there, quant_type="nf4")
    sides: dict[str, Callable[[], Any]] = {
        "copy": lambda: np.copyto(out, x),
        "write": lambda: out.fill(1),
        WRITE: lambda: shown.fill_(1),
        **{f"encode {bits}": lambda bits=bits: encode(tensors, bits, seed=seed) for bits in (8, 4, 2, 1)},
        "bitsandbytes encode 8": lambda: bnb.quantize_blockwise(there),
        "bitsandbytes encode 4": lambda: bnb.quantize_4bit(there, quant_type="nf4"),
        **{
            f"decode {bits}": lambda bits=bits: decode(payloads[bits], into=into, verify=False)
            for bits in (8, 4, 2, 1)
        },
        "decode 8, new arrays": lambda: decode(payloads[8], verify=False),
        "decode 4, new arrays": lambda: decode(payloads[4], verify=False),
        "decode 8, checksum too": lambda: decode(payloads[8], into=into),
        "decode 4, checksum too": lambda: decode(payloads[4], into=into),
        "bitsandbytes decode 8": lambda: bnb.dequantize_blockwise(*eight),
        "bitsandbytes decode 4": lambda: bnb.dequantize_4bit(*four),
        "add 8 to a sum": lambda: add_to(payloads[8], 0.5, into),
        f"add {UPDATES} at 8 bits, one by one": lambda: [add_to(payloads[8], 0.1, into) for _ in range(UPDATES)],
        f"add {UPDATES} at 8 bits at once": lambda: add_many_to([payloads[8]] * UPDATES, [0.1] * UPDATES, into),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            time.sleep(REST_S)
            side()
            for _ in range(CALLS):
                start = time.perf_counter()
                side()
                seconds[name].append(time.perf_counter() - start)
    return Speed(values, {name: Spread.of(samples) for name, samples in seconds.items()})


def peak(action: str, bits: int, values: int) -> float:
    """Peak memory of `action` beyond input and output, as a share of the input; in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak", action, str(bits), str(values)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _peak(action: str, bits: int, values: int) -> float:
    tensors = {"x": np.random.default_rng(0).standard_normal(values, np.float32)}
    small = {"x": tensors["x"][: 1 << 20]}
    payload = encode(tensors, bits, seed=0)
    actions: dict[str, Callable[[dict[str, np.ndarray], bytes], Any]] = {
        "encode": lambda tensors, _: encode_to(Nowhere(), tensors, bits, seed=0),
        "decode": lambda tensors, payload: decode(payload, into=tensors),
        "add": lambda tensors, payload: add_to(payload, 0.5, tensors),
    }
    actions[action](small, encode(small, bits, seed=0))  # compiles, and starts the threads
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from now
    before = _status("VmRSS")
    actions[action](tensors, payload)
    return max(_status("VmHWM") - before, 0) / tensors["x"].nbytes


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def first_call() -> tuple[float, float]:
    """Seconds to import the package, and of the first encode and decode, in a fresh process with kept code."""
    code = (
        "import time; import numpy as np; a = time.perf_counter(); import quantizer; b = time.perf_counter();"
        "quantizer.decode(quantizer.encode({'x': np.ones(1000, np.float32)}, 4, seed=0));"
        "print(b - a, time.perf_counter() - b)"
    )
    subprocess.run([sys.executable, "-m", "quantizer.warm", "--this"], check=True, capture_output=True, cwd=ROOT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    imported, called = done.stdout.split()
    return float(imported), float(called)


@dataclass(frozen=True)
class Compressed:
    """One update at some bits: entropy of its codes, and bits per value of the codes as sent."""

    update: str
    bits: int
    entropy_bits: float
    sent_bits: float
    off_bits: float


def updates(seed: int, rounds: int) -> dict[str, dict[str, np.ndarray]]:
    """Updates of the demo's diffusion model: of its first and of a later round, and of one at half the width."""
    from dataclasses import replace

    from fleet.domain import Assignment
    from fleet.experiment import read
    from workloads import protocol
    from workloads.protocol import Shard

    experiment = read(DEMO)
    workload = protocol.load(experiment.workload.name, experiment.workload.options, None)
    assignment = Assignment("bench", 1, "d", "", 0, 0, 32, 32, "fp32", 1.0, 15, seed, 0.0)
    model, found = workload.initial(seed), {}
    for round in range(rounds):
        asked = replace(assignment, round=round, seed=seed + round)
        update = workload.train(model, Shard(0, 4), asked, lambda *_: None).update
        found["first round" if round == 0 else "last round"] = update
        model = {name: model[name] + update[name] for name in model}
    narrow = replace(assignment, width=0.5, seed=seed + rounds)
    found["half width"] = workload.train(model, Shard(0, 4), narrow, lambda *_: None).update
    return found


def compressed(name: str, update: dict[str, np.ndarray], bits: int, seed: int) -> Compressed:
    plain, short = (encode(update, bits, seed=seed, entropy=stage) for stage in ("off", "on"))
    codes = _codes(plain)
    counts = np.bincount(codes)
    shares = counts[counts > 0] / codes.size
    header = read_header(plain)
    scales = 4 * sum(section.scales for section in header.sections)
    sent = (len(short) - read_header(short).header_bytes - scales) * 8 / codes.size
    return Compressed(name, bits, float(-(shares * np.log2(shares)).sum()), sent, float(bits))


def _codes(payload: bytes) -> np.ndarray:
    """All codes of a payload of version 1."""
    header, found = read_header(payload), []
    for info, section in zip(header.tensors, header.sections, strict=True):
        raw = np.frombuffer(payload, np.uint8, section.length, section.offset)
        bits = np.unpackbits(raw, bitorder="little")[: info.size * header.bits].reshape(-1, header.bits)
        found.append(bits @ (1 << np.arange(header.bits)))
    return np.concatenate(found)


def main() -> None:
    line = parser(__doc__)
    line.add_argument(
        "--peak", nargs=3, metavar=("ACTION", "BITS", "VALUES"), help="what a process of its own runs"
    )
    options = line.parse_args()
    if options.peak:
        action, bits, values = options.peak
        print(_peak(action, int(bits), int(values)))
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    origin = Provenance.now(options.seed, ["numpy", "numba", "bitsandbytes", "torch", "zstandard", "isal"])
    turns, rounds = (3, 2) if options.quick else (15, 4)
    sizes = SIZES[:2] if options.quick else SIZES
    speeds = [speed(values, turns if values < 10**7 else turns // 2 + 1, options.seed) for values in sizes]
    kinds = [("encode", 8), ("encode", 4), ("decode", 8), ("add", 8)]
    peaks = {f"{action} {bits}": peak(action, bits, sizes[-1]) for action, bits in kinds}
    x = {"x": np.random.default_rng(options.seed).standard_normal(1_000_000, np.float32)}
    shares = {bits: 100 * len(encode(x, bits, seed=0)) / x["x"].nbytes for bits in SHARES}
    trained = updates(options.seed, rounds)
    shorter = [
        compressed(name, update, bits, options.seed) for name, update in trained.items() for bits in ENTROPY_BITS
    ]
    start = first_call()
    page = report(speeds, peaks, shares, shorter, start)
    numbers = {"speeds": speeds, "peaks": peaks, "shares": shares, "entropy": shorter, "first_call_s": start}
    publish(options, "quantizer", page, numbers, origin)


def report(
    speeds: list[Speed],
    peaks: dict[str, float],
    shares: dict[int, float],
    shorter: list[Compressed],
    start: tuple[float, float],
) -> str:
    rows: list[tuple[str, str, list[bool]]] = []

    def times(what: str, slow: str, fast: str, least: float) -> None:
        found = ", ".join(s.ratios(slow, fast) for s in speeds)
        rows.append((f"{what}: at least {least:g} times", found, [s.ratio(slow, fast) >= least for s in speeds]))

    times("encode 8 against bitsandbytes 8", "bitsandbytes encode 8", "encode 8", 5)
    times("encode 4 against bitsandbytes NF4", "bitsandbytes encode 4", "encode 4", 15)
    times("encode 8 against a copy", "copy", "encode 8", 0.25)
    times("encode 4 against a copy", "copy", "encode 4", 0.25)
    times("decode 8 against bitsandbytes 8", "bitsandbytes decode 8", "decode 8", 3)
    times("decode 4 against bitsandbytes NF4", "bitsandbytes decode 4", "decode 4", 3)
    for name, share in peaks.items():
        rows.append((f"peak memory of {name}: below 1 % of the input", f"{100 * share:.2f} %", [share < 0.01]))
    for bits, share in shares.items():
        most = SHARES[bits]
        rows.append(
            (f"{bits} bits, a million values: at most {most} % of fp32", f"{share:.3f} %", [share <= most])
        )
    worst = max(shorter, key=lambda c: c.sent_bits / c.entropy_bits)
    over = worst.sent_bits / worst.entropy_bits - 1
    where = f"{100 * over:+.1f} % ({worst.update}, {worst.bits} bits)"
    rows.append(("entropy stage: within 5 % of the entropy of the codes", f"at worst {where}", [over <= 0.05]))
    rows.append(("import and first call, code kept: below 1 s", f"{sum(start):.2f} s", [sum(start) < 1]))
    return "\n\n".join(
        [
            "# What quantising costs",
            "Milliseconds as median (fastest to slowest, calls); ratios of medians (of the fastest turns). "
            "NF4 and the 8-bit table are bitsandbytes' own, on the same CPU and the same values.",
            table(
                ["", *(f"{s.values:,} values" for s in speeds)],
                [[name, *(_milliseconds(s.seconds[name]) for s in speeds)] for name in speeds[0].seconds],
            ),
            "## Targets",
            f"Ratios at {', '.join(f'{s.values:,}' for s in speeds)} values.",
            table(["target", "measured", "held"], [(what, found, _held(held)) for what, found, held in rows]),
            "## What decoding could be at best",
            "Time of each side in times of a plain write of its output by all threads. To be 3 times as fast as "
            "bitsandbytes is to take a third of its time: at 1 that is no more than writing, and below 1 nothing "
            "that writes the output can. decode writes to arrays that are there, without the checksum; "
            "bitsandbytes returns new ones, "
            "in memory that is used again below 32 MiB, and so does decode where the table says new arrays.",
            table(
                ["", *(f"{s.values:,} values" for s in speeds)],
                [
                    *([name, *(s.ratios(name, WRITE) for s in speeds)] for name in (*DECODERS, "copy", "write")),
                    *(
                        [f"a third of {name}", *(s.ratios(name, WRITE, 3) for s in speeds)]
                        for name in DECODERS[:2]
                    ),
                ],
            ),
            "## Entropy stage",
            "Bits per value of the codes of a real update, block size 2,048: their entropy over the whole "
            "update, and what is sent with the stage on, frame heads included and scales not.",
            table(
                ["update", "bits", "entropy", "sent", "more than entropy", "less than without"],
                [
                    [
                        *(c.update, c.bits, f"{c.entropy_bits:.3f}", f"{c.sent_bits:.3f}"),
                        *(
                            f"{100 * (c.sent_bits / c.entropy_bits - 1):+.1f} %",
                            f"{100 * (1 - c.sent_bits / c.bits):.1f} %",
                        ),
                    ]
                    for c in shorter
                ],
            ),
            f"Import {start[0]:.2f} s, first encode and decode {start[1]:.2f} s, in a fresh process.",
        ]
    )


def _milliseconds(s: Spread) -> str:
    return f"{1e3 * s.median:.3g} ({1e3 * s.low:.3g} to {1e3 * s.high:.3g}, n={s.count})"


def _held(held: list[bool]) -> str:
    return ", ".join("yes" if h else "no" for h in held)


if __name__ == "__main__":
    main()
