"""What devices and the coordinator say to each other so that the coordinator learns a sum and no part of it.

The four exchanges of Bonawitz et al. 2017 ("Practical secure aggregation for privacy-preserving machine
learning"), relayed by the coordinator. Each belongs to one `attempt`: fresh keys, for one round. All are X25519.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Masking:
    """What a task says of it: values are coded from -`clip_range` to `clip_range`, added modulo 2^`ring_bits`."""

    clip_range: float
    ring_bits: int


@dataclass(frozen=True)
class KeysWanted:
    """Asks for fresh keys; or, once `agreed`, says that updates masked with those of `attempt` are taken.

    `threshold` devices together can undo the masks of one that is lost.
    """

    run: str
    round: int
    attempt: str
    threshold: int
    agreed: bool = False


@dataclass(frozen=True)
class KeysOffered:
    """A device's public keys: one to seal shares to it with, one to mask updates with."""

    run: str
    round: int
    attempt: str
    sealing_key: bytes
    masking_key: bytes


@dataclass(frozen=True)
class Member:
    """A device that takes part, and its public keys."""

    device: str
    sealing_key: bytes
    masking_key: bytes


@dataclass(frozen=True)
class SharesWanted:
    """Asks for shares of a device's secrets, sealed to each other member. `members` are ordered by name."""

    run: str
    round: int
    attempt: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Sealed:
    """Shares that only one device can open: for `device` on the way up, from `device` on the way down."""

    device: str
    box: bytes


@dataclass(frozen=True)
class SharesSealed:
    """A device's shares for all others."""

    run: str
    round: int
    attempt: str
    boxes: tuple[Sealed, ...]


@dataclass(frozen=True)
class SharesDelivered:
    """The others' shares for a device; who is among them masks its update for it."""

    run: str
    round: int
    attempt: str
    boxes: tuple[Sealed, ...]


@dataclass(frozen=True)
class MasksReady:
    """The shares are here and whole: this device can mask."""

    run: str
    round: int
    attempt: str


@dataclass(frozen=True)
class RevealWanted:
    """Asks for what undoes the masks, now that the updates of `arrived` are in and no other will be taken."""

    run: str
    round: int
    attempt: str
    arrived: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """A share of a secret of `device`: of its own mask if its update is in, else of its masking key."""

    device: str
    value: bytes


@dataclass(frozen=True)
class Revealed:
    """One share of each member's secret, never of both secrets of one."""

    run: str
    round: int
    attempt: str
    shares: tuple[Share, ...]
