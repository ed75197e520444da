"""Everything random in a policy: a function of a seed and of words, so a restart draws the same again."""

from collections.abc import Sequence
from hashlib import blake2b
from math import floor
from typing import TypeVar

T = TypeVar("T")


def number(seed: int, *words: object) -> float:
    """In [0, 1), the same for the same words."""
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") / 2**64


def one(of: Sequence[T], seed: int, *words: object) -> T:
    """One entry, each as likely."""
    return of[floor(number(seed, *words) * len(of))]


def some(of: Sequence[str], count: int, seed: int, *words: object) -> list[str]:
    """`count` names, each set as likely, in the order of `of`."""
    picked = set(sorted(of, key=lambda name: number(seed, *words, name))[:count])
    return [name for name in of if name in picked]


def falls_on(share: float, seed: int, round: int) -> bool:
    """Whether `round` is one of the `share` of rounds: evenly spread, beginning where the seed says."""
    phase = number(seed, "phase")
    return floor(round * share + phase) > floor((round - 1) * share + phase)
