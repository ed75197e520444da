"""A device's part in secure aggregation (Bonawitz et al. 2017, semi-honest): its keys, shares and masks.

    y_u = x_u + PRG(b_u) + sum_{v > u} PRG(s_uv) - sum_{v < u} PRG(s_uv)      modulo 2^k

Everything of an attempt is in memory only and gone with the process: a device that restarts in between is one that
is lost, and the others' shares undo its masks. It tells the share of a device's own mask or that of its masking
key, never both, and answers one set of arrived devices only.
"""

import os
from collections.abc import Iterator

import numpy as np
from Crypto.Protocol.SecretSharing import Shamir

from fleet import masks
from fleet.errors import BadRequest
from fleet.masking import (
    KeysOffered,
    Masking,
    Member,
    Revealed,
    RevealWanted,
    Sealed,
    Share,
    SharesDelivered,
    SharesSealed,
    SharesWanted,
)


class Attempt:
    """One agreement of keys by `device`, from the offer of its keys to the end of the round."""

    def __init__(self, device: str, run: str, round: int, attempt: str) -> None:
        self.run, self.round, self.attempt = run, round, attempt
        self._device = device
        self._where = masks.context(run, round, attempt)
        self._self_secret, self._mask_secret = os.urandom(masks.SECRET_BYTES), os.urandom(masks.SECRET_BYTES)
        self._sealing = masks.private_key(os.urandom(masks.SECRET_BYTES), self._where)
        self._masking = masks.private_key(self._mask_secret, self._where)
        self._members: dict[str, Member] = {}
        self._shares: dict[str, tuple[bytes, bytes]] = {}
        self._threshold = 0
        self._revealed: tuple[str, ...] | None = None

    def offer(self) -> KeysOffered:
        """The public keys."""
        sealing, masking = (key.public_key().public_bytes_raw() for key in (self._sealing, self._masking))
        return KeysOffered(self.run, self.round, self.attempt, sealing, masking)

    def seal(self, wanted: SharesWanted, threshold: int) -> SharesSealed:
        """Shares of the secrets for each other member; BadRequest where those cannot be trusted with them."""
        names = [member.device for member in wanted.members]
        keys = {key for member in wanted.members for key in (member.sealing_key, member.masking_key)}
        ours = self.offer()
        mine = Member(self._device, ours.sealing_key, ours.masking_key)
        if self._members:
            raise BadRequest(f"{self._device} shared its secrets of attempt {self.attempt} before")
        if names != sorted(set(names)) or len(keys) < 2 * len(names) or mine not in wanted.members:
            raise BadRequest(f"the members {', '.join(names)} are out of order, share keys or lack {self._device}")
        if len(names) < threshold or 2 * threshold <= len(names):
            raise BadRequest(f"{threshold} of {len(names)} devices cannot be the threshold: more than half can")
        self._members, self._threshold = {m.device: m for m in wanted.members}, threshold
        both = zip(
            *(_split(threshold, len(names), s) for s in (self._self_secret, self._mask_secret)), strict=True
        )
        boxes = []
        for member, (of_self, of_mask) in zip(wanted.members, both, strict=True):
            if member.device == self._device:
                self._shares[self._device] = of_self, of_mask
            else:
                key = self._sealing_key(member.device, f"{self._device}>{member.device}")
                boxes.append(Sealed(member.device, masks.seal(key, of_self + of_mask, self._where)))
        return SharesSealed(self.run, self.round, self.attempt, tuple(boxes))

    def open(self, delivered: SharesDelivered) -> None:
        """Takes the others' shares; BadRequest where one does not open or they are fewer than the threshold."""
        opened: dict[str, tuple[bytes, bytes]] = {self._device: self._shares[self._device]}
        for box in delivered.boxes:
            if box.device not in self._members:
                raise BadRequest(f"{box.device} is no member of attempt {self.attempt}")
            text = masks.unseal(
                self._sealing_key(box.device, f"{box.device}>{self._device}"), box.box, self._where
            )
            opened[box.device] = text[: masks.SECRET_BYTES], text[masks.SECRET_BYTES :]
        if len(opened) < self._threshold:
            raise BadRequest(f"shares of {len(opened)} devices; {self._threshold} are needed")
        self._shares = opened

    def mask(self, blocks: Iterator[np.ndarray], masking: Masking) -> Iterator[np.ndarray]:
        """`blocks` of codes, masked: uint32, to be taken modulo."""
        added = [masks.Mask(masks.self_key(self._self_secret, self._where), masking.ring_bits)]
        taken: list[masks.Mask] = []
        for name in sorted(self._shares):
            if name != self._device:
                key = masks.agreed(self._masking, self._members[name].masking_key, self._where, "pair")
                (added if name > self._device else taken).append(masks.Mask(key, masking.ring_bits))
        for block in blocks:
            total = block.astype(np.uint32)
            for mask in added:
                total += mask.take(block.size)
            for mask in taken:
                total -= mask.take(block.size)
            yield total

    def reveal(self, wanted: RevealWanted) -> Revealed:
        """The shares that undo the masks; BadRequest where they would say more than the sum."""
        arrived = wanted.arrived
        if self._revealed not in (None, arrived):
            raise BadRequest(f"{self._device} revealed shares for other arrivals of attempt {self.attempt} before")
        if not set(arrived) <= self._shares.keys() or len(set(arrived)) < max(self._threshold, 2):
            raise BadRequest(f"{len(arrived)} arrivals, {self._threshold} members are needed to reveal a sum")
        self._revealed = arrived
        shares = (
            Share(device, of_self if device in arrived else of_mask)
            for device, (of_self, of_mask) in sorted(self._shares.items())
        )
        return Revealed(self.run, self.round, self.attempt, tuple(shares))

    def _sealing_key(self, other: str, purpose: str) -> bytes:
        return masks.agreed(self._sealing, self._members[other].sealing_key, self._where, purpose)


def _split(threshold: int, count: int, secret: bytes) -> list[bytes]:
    """A share of `secret` for each of `count` members, in their order."""
    return [bytes(share) for _, share in Shamir.split(threshold, count, secret)]
