"""The sum under the masks: what the coordinator learns of a round with secure aggregation.

    sum_{u in U3} x_u = sum_{u in U3} (y_u - PRG(b_u)) - sum_{u in U3, v lost} (+-) PRG(s_uv)        mod 2^k

U3 are the devices whose updates are in. b_u and the masking keys of the lost are put together from the shares that
the survivors reveal. Block by block: what is held is one block and a keystream per mask, however large the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from Crypto.Protocol.SecretSharing import Shamir

from coordinator.blobs import BlobStore, forget_pages, mapped_together
from coordinator.events import KeysAgreed
from fleet import masks
from fleet.errors import BadRequest, CorruptUpdate
from fleet.masking import Revealed
from quantizer import PayloadError, ring

FORGOTTEN_BLOCKS = 64
"""Blocks read before the pages under them are given back."""


@dataclass(frozen=True)
class Masked:
    """A masked update that is in."""

    device: str
    blobs: BlobStore
    digest: str


@dataclass(frozen=True)
class Opened:
    """What the survivors revealed: the secret of each own mask, and the masking secret of each lost device."""

    own: Mapping[str, bytes]
    lost: Mapping[str, bytes]


def opened(keys: KeysAgreed, arrived: Sequence[str], revealed: Mapping[str, Revealed], threshold: int) -> Opened:
    """Puts the secrets together from the shares of `threshold` devices; BadRequest where they do not fit."""
    index = {member.device: number for number, member in enumerate(keys.members, 1)}
    from_ = sorted(revealed)[:threshold]
    if len(from_) < threshold:
        raise BadRequest(f"shares of {len(from_)} devices; {threshold} are needed to undo the masks")
    secrets: dict[str, bytes] = {}
    for device in keys.sharing:
        shares = [
            (index[name], share.value)
            for name in from_
            for share in revealed[name].shares
            if share.device == device
        ]
        if len(shares) < threshold or any(len(value) != masks.SECRET_BYTES for _, value in shares):
            raise BadRequest(f"{len(shares)} of {threshold} shares of {device} are whole")
        secrets[device] = bytes(Shamir.combine(shares))
    where = masks.context(keys.run, keys.round, keys.attempt)
    lost = {d: s for d, s in secrets.items() if d not in arrived}
    published = {member.device: member.key for member in keys.members}
    for device, secret in lost.items():
        if masks.private_key(secret, where).public_key().public_bytes_raw().hex() != published[device]:
            raise BadRequest(
                f"the shares of {device} do not make its key: one of {', '.join(from_)} altered its share"
            )
    return Opened({d: s for d, s in secrets.items() if d in arrived}, lost)


def unmasked(updates: Sequence[Masked], keys: KeysAgreed, secrets: Opened) -> Iterator[tuple[int, np.ndarray]]:
    """(first value, sums of codes uint32) block by block. CorruptUpdate where what comes out is no such sum."""
    with mapped_together([(u.blobs, u.digest) for u in updates]) as payloads:
        try:
            rings = {ring.read_ring(payload, verify=False) for payload in payloads}
        except PayloadError as error:
            raise CorruptUpdate(f"a masked update: {error}") from error
        if len(rings) != 1:
            raise CorruptUpdate(f"masked updates of {len(rings)} forms cannot be added up")
        (form,) = rings
        highest = len(updates) * ((1 << form.bits) - 1)
        modulo = np.uint32((1 << form.ring_bits) - 1)
        taken, added = _streams([u.device for u in updates], keys, secrets, form.ring_bits)
        for number, start in enumerate(range(0, form.values, ring.BLOCK)):
            total = np.zeros(min(ring.BLOCK, form.values - start), np.uint32)
            for payload in payloads:
                total += form.block(payload, start)
            for mask in taken:
                total -= mask.take(total.size)
            for mask in added:
                total += mask.take(total.size)
            total &= modulo
            if total.max(initial=0) > highest:
                raise CorruptUpdate(
                    f"what is under the masks is no sum of {len(updates)} updates: one of them was masked wrongly"
                )
            if number % FORGOTTEN_BLOCKS == FORGOTTEN_BLOCKS - 1:
                forget_pages(payloads)
            yield start, total


def _streams(
    arrived: Sequence[str], keys: KeysAgreed, secrets: Opened, ring_bits: int
) -> tuple[list[masks.Mask], list[masks.Mask]]:
    """The masks to take away, and those to add."""
    where = masks.context(keys.run, keys.round, keys.attempt)
    published = {member.device: bytes.fromhex(member.key) for member in keys.members}
    taken = [masks.Mask(masks.self_key(secrets.own[u], where), ring_bits) for u in arrived]
    added: list[masks.Mask] = []
    for lost, secret in secrets.lost.items():
        private = masks.private_key(secret, where)
        for u in arrived:
            mask = masks.Mask(masks.agreed(private, published[u], where, "pair"), ring_bits)
            (taken if lost > u else added).append(mask)  # u had added it where the other's name comes later
    return taken, added


def fill(
    updates: Sequence[Masked],
    keys: KeysAgreed,
    secrets: Opened,
    clip_range: float,
    divisor: float,
    out: Mapping[str, np.ndarray],
    scale: float,
) -> None:
    """`scale` / `divisor` times the sum of the updates into `out`, arrays of the model's shapes."""
    with mapped_together([(updates[0].blobs, updates[0].digest)]) as (payload,):
        bits = ring.read_ring(payload, verify=False).bits
    factor = clip_range * scale / divisor
    for start, sums in unmasked(updates, keys, secrets):
        ring.spread(ring.value_of(sums, bits, len(updates)) * factor, start, out)
