"""A round of secure aggregation without a network: devices, a relay, and the coordinator's arithmetic."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import xxhash

import quantizer
from coordinator.blobs import BlobStore
from coordinator.events import KeysAgreed, MaskingKey
from coordinator.secure_aggregation import boxes_for
from coordinator.secure_sum import Masked
from edge_agent.masking import Attempt
from fleet.masking import Masking, Member, RevealWanted, SharesDelivered, SharesWanted
from quantizer import ring

SHAPES = {"b": (300, 257), "a": (7,), "none": (0, 3), "scale": ()}
PLACE = ("x-1", 3, "attempt")


def update(seed, scale=0.3):
    generator = np.random.default_rng(seed)
    return {n: (scale * generator.standard_normal(s)).astype(np.float32) for n, s in SHAPES.items()}


@dataclass
class Fleet:
    """Devices up to the point where they could send masked updates."""

    names: list[str]
    threshold: int
    bits: int
    attempts: dict[str, Attempt] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)

    def agree(self, sharing=None):
        self.attempts = {name: Attempt(name, *PLACE) for name in self.names}
        offers = {name: a.offer() for name, a in self.attempts.items()}
        members = tuple(Member(n, offers[n].sealing_key, offers[n].masking_key) for n in self.names)
        wanted = SharesWanted(*PLACE, members)
        sealed = {n: self.attempts[n].seal(wanted, self.threshold) for n in sharing or self.names}
        for name in sealed:
            self.attempts[name].open(SharesDelivered(*PLACE, boxes_for(name, sealed)))
        keys = tuple(MaskingKey(m.device, m.masking_key.hex()) for m in members)
        self.keys = KeysAgreed(1.0, *PLACE, keys, tuple(sealed), tuple(sealed))
        return self

    def masked(self, blobs, name, tensors, seed):
        """The masked update of a device in `blobs`; its plain payload is kept to compare with."""
        masking = Masking(1.0, ring.ring_bits(self.bits, len(self.names)))
        self.payloads[name] = quantizer.encode(tensors, self.bits, seed=seed, codec="fixed")
        codes = ring.codes(self.payloads[name])
        form = ring.Ring(self.bits, masking.ring_bits, sum(x.size for x in tensors.values()))
        with blobs.create() as sink:
            sink.digest = ring.write(sink, form, self.attempts[name].mask(codes, masking), xxhash.xxh3_128())
        return Masked(name, blobs, sink.digest)

    def reveal(self, arrived, of=None):
        wanted = RevealWanted(*PLACE, tuple(sorted(arrived)))
        return {name: self.attempts[name].reveal(wanted) for name in of or arrived}

    def sum_of(self, names):
        """What the updates of `names` decode to, added up exactly."""
        decoded = [quantizer.decode(self.payloads[name]) for name in names]
        return {n: np.sum([d[n].astype(np.float64) for d in decoded], axis=0) for n in SHAPES}


@pytest.fixture
def fleet():
    return lambda count=5, threshold=3, bits=8: Fleet([f"d{k}" for k in range(count)], threshold, bits)


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def zeros():
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def update_of():
    return update
