"""What secure aggregation and robust rules cost: seconds per device and for the coordinator, and bytes.

No network and no training: one update per device at 8 bits, masked and unmasked as a round does it, and the same
updates put together by mean, trimmed mean and median. The coordinator's part is with one device lost.
"""

import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from provenance import Provenance, parser, publish, table

import quantizer
from coordinator.aggregate import Weighted, aggregate
from coordinator.blobs import BlobStore
from coordinator.events import KeysAgreed, MaskingKey
from coordinator.robust import Rules
from coordinator.secure_aggregation import boxes_for
from coordinator.secure_sum import Masked, fill, opened
from edge_agent.masking import Attempt
from fleet import wire
from fleet.experiment import AggregationSection, FedAvg
from fleet.masking import Masking, Member, RevealWanted, SharesDelivered, SharesWanted
from quantizer import ring

BITS = 8
PLACE = ("bench", 1, "attempt")
SECONDS = {
    "seal_s": "shares sealed",
    "mask_s": "masked",
    "open_s": "secrets put together",
    "unmask_s": "unmasked",
}
BYTES = {
    "exchange_up_bytes": "exchange up",
    "exchange_down_bytes": "exchange down",
    "payload_bytes": "payload",
    "masked_bytes": "masked payload",
}


def measured(count: int, values: int, folder: Path, seed: int) -> dict[str, Any]:
    """Everything about one fleet of `count` devices and a model of `values` values."""
    blobs, names, threshold = BlobStore(folder), [f"d{k:03}" for k in range(count)], count // 2 + 1
    generator = np.random.default_rng(seed)
    update = {"w": (0.1 * generator.standard_normal(values)).astype(np.float32)}
    attempts = {name: Attempt(name, *PLACE) for name in names}
    offers = {name: a.offer() for name, a in attempts.items()}
    members = tuple(Member(n, offers[n].sealing_key, offers[n].masking_key) for n in names)
    wanted = SharesWanted(*PLACE, members)
    began_s = time.perf_counter()
    sealed = {n: a.seal(wanted, threshold) for n, a in attempts.items()}
    seal_s = (time.perf_counter() - began_s) / count
    delivered = {n: SharesDelivered(*PLACE, boxes_for(n, sealed)) for n in names}
    for name, attempt in attempts.items():
        attempt.open(delivered[name])
    up_bytes = wire.envelope(offers[names[0]]).ByteSize() + wire.envelope(sealed[names[0]]).ByteSize()
    down_bytes = wire.envelope(wanted).ByteSize() + wire.envelope(delivered[names[0]]).ByteSize()
    plain = quantizer.encode(update, BITS, seed=1, codec="fixed")
    masking = Masking(1.0, ring.ring_bits(BITS, count))
    form, arrived, mask_s = ring.Ring(BITS, masking.ring_bits, values), names[1:], []
    masked, open_ = [], []
    for name in arrived:
        began_s = time.perf_counter()
        with blobs.create() as sink:
            codes = attempts[name].mask(ring.codes(plain), masking)
            sink.digest = ring.write(sink, form, codes, xxhash.xxh3_128())
        mask_s.append(time.perf_counter() - began_s)
        masked.append(Masked(name, blobs, sink.digest))
        with blobs.create() as sink:
            sink.digest = quantizer.encode_to(sink, update, BITS, seed=len(open_))
        open_.append(Weighted(name, blobs, sink.digest, 1.0))
    keys = KeysAgreed(
        0.0, *PLACE, tuple(MaskingKey(m.device, m.masking_key.hex()) for m in members), (), tuple(names)
    )
    revealed = {n: attempts[n].reveal(RevealWanted(*PLACE, tuple(arrived))) for n in arrived}
    began_s = time.perf_counter()
    secrets = opened(keys, arrived, revealed, threshold)
    open_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    fill(masked, keys, secrets, 1.0, len(arrived), {"w": np.zeros(values, np.float32)}, 1.0)
    unmask_s = time.perf_counter() - began_s
    with blobs.create() as sink:
        sink.digest = quantizer.encode_to(sink, update, 32, seed=0)
    rules = {}
    for section in (
        AggregationSection(rule="mean"),
        AggregationSection(rule="trimmed-mean", trim=0.2),
        AggregationSection(rule="median"),
    ):
        began_s = time.perf_counter()
        aggregate(blobs, sink.digest, open_, FedAvg(optimizer="fedavg", lr=1.0), None, Rules(section))
        rules[section.rule] = time.perf_counter() - began_s
    return {
        "devices": count, "seal_s": seal_s, "mask_s": float(np.median(mask_s)), "open_s": open_s,
        "unmask_s": unmask_s, "exchange_up_bytes": up_bytes, "exchange_down_bytes": down_bytes,
        "payload_bytes": len(plain), "masked_bytes": form.payload_bytes, **rules,
    }  # fmt: skip


def main() -> None:
    """See the head of the file."""
    options = parser(__doc__).parse_args()
    origin = Provenance.now(options.seed, ["numpy", "cryptography", "pycryptodome"])
    values = 1_000_000 if options.quick else 10_000_000
    counts = (3, 10) if options.quick else (3, 10, 30, 100)
    quantizer.encode_to(io.BytesIO(), {"w": np.ones(10, np.float32)}, BITS, seed=0)
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(count, values, Path(folder), options.seed))
    secure = table(
        ["devices", *(f"{what}, s" for what in SECONDS.values()), *(f"{what}, bytes" for what in BYTES.values())],
        [(r["devices"], *(f"{r[k]:.3g}" for k in SECONDS), *(f"{r[k]:,}" for k in BYTES)) for r in rows],
    )
    robust = table(
        ["devices", "mean, s", "trimmed mean, s", "median, s"],
        [(r["devices"], *(f"{r[k]:.3g}" for k in ("mean", "trimmed-mean", "median"))) for r in rows],
    )
    page = f"""# What privacy and robustness cost

A model of {values:,} values, updates at {BITS} bits. Sealing and masking are per device, the rest is the
coordinator's, with one device lost after the keys were agreed on.

{secure}

The same updates put together by each rule, one missing too:

{robust}"""
    publish(options, "privacy", page, rows, origin)


if __name__ == "__main__":
    main()
