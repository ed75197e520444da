"""How many agents of which kind: the grammar of `--agents` and of `scale`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from fleet.errors import BadRequest


def of_kinds(words: Sequence[str], option: str) -> dict[str, int]:
    """KIND=N words as counts; BadRequest for a kind that is said twice, and for any other word.

    `option` begins that message.
    """
    counts: dict[str, int] = {}
    for word in words:
        kind, equals, number = word.partition("=")
        if not (kind and equals and number.isdecimal()):
            raise BadRequest(f"{option}, for example raspberry-pi-5=3, not {word!r}")
        if kind in counts:
            raise BadRequest(f"{kind} is asked for twice: {counts[kind]} and {int(number)}")
        counts[kind] = int(number)
    return counts


def asked(words: Sequence[str], kinds: Sequence[str], present: Mapping[str, int]) -> dict[str, int]:
    """Agents per kind as `--agents` asks: N, which lets `kinds` take turns, or KIND=N, the others as `present`."""
    if len(words) == 1 and words[0].isdecimal():
        turns = Counter(islice(cycle(kinds), int(words[0])))
        return {kind: turns[kind] for kind in {**dict.fromkeys(kinds), **present}}
    if any(word.isdecimal() for word in words):
        raise BadRequest(f"--agents takes one number, or KIND=N as often as needed, not {', '.join(words)}")
    return {**present, **of_kinds(words, "--agents takes N or KIND=N")}


def in_turn(counts: Mapping[str, int]) -> list[str]:
    """The kind of each agent when these counts take turns: a, b, c, a, b, a."""
    left = dict(counts)
    order: list[str] = []
    while any(left.values()):
        for kind in [k for k, n in left.items() if n]:
            order.append(kind)
            left[kind] -= 1
    return order
