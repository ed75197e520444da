"""The learned policy and its rivals on the same drawn devices: joules and missed deadlines, as rows of a table.

All see the same: nothing in the first round, then what the device's own assignments came to. `greedy` is the
solver's way: it prices entries by the fitted constants of the log, scaled to what this device was seen to take,
and takes the cheapest in time. `random` and `dearest` need to know nothing; `best` knows everything and is a
bound.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from optimizer.learned.memory import Memory
from optimizer.learned.network import Network
from optimizer.learned.simulator import Drawn, Simulator

Tried = list[tuple[int, float, float]]
Way = Callable[[Drawn, Tried], int]
"""The entry to take next, from the entries tried so far with their seconds and joules."""


@dataclass(frozen=True)
class Outcome:
    """Over all devices and rounds: joules relative to the best entry in time, and the part that was late."""

    joules: float
    late: float


def compared(
    trained: Network, simulator: Simulator, *, devices: int, rounds: int, seed: int
) -> dict[str, Outcome]:
    """Every way on the same `devices` drawn devices for `rounds` rounds each."""
    size = simulator.seconds.shape[1]
    drawing = np.random.default_rng(seed)

    def learned(drawn: Drawn, tried: Tried) -> int:
        memory = Memory(size)
        for entry in tried:
            memory.add(*entry)
        return int(np.argmax(trained.preferences(memory.seen(drawn.deadline_s))))

    ways: Mapping[str, Way] = {
        "learned": learned,
        "greedy": lambda drawn, tried: greedy(simulator, drawn.deadline_s, tried),
        "random": lambda drawn, tried: int(drawing.integers(size)),
        "dearest": lambda drawn, tried: int(np.argmax(drawn.joules)),
        "best": lambda drawn, tried: drawn.best,
    }
    return {name: _played(way, simulator, devices, rounds, seed) for name, way in ways.items()}


def greedy(simulator: Simulator, deadline_s: float, tried: Tried) -> int:
    """The cheapest entry in time by the log's constants, scaled to what was seen; if none is, the quickest."""
    seconds, joules = (np.exp(np.log(x).mean(axis=0)) for x in (simulator.seconds, simulator.joules))
    if tried:
        at = [entry for entry, _, _ in tried]
        took, spent = (np.array([t[k] for t in tried]) for k in (1, 2))
        seconds, joules = (
            law * np.exp(np.median(np.log(seen / law[at]))) for law, seen in ((seconds, took), (joules, spent))
        )
        for entry in set(at):
            own = [k for k, other in enumerate(at) if other == entry]
            seconds[entry], joules[entry] = np.median(took[own]), np.median(spent[own])
    in_time = seconds <= deadline_s
    return int(np.argmin(np.where(in_time, joules, np.inf)) if in_time.any() else np.argmin(seconds))


def _played(way: Way, simulator: Simulator, devices: int, rounds: int, seed: int) -> Outcome:
    relative, late = [], 0
    for number in range(devices):
        random = np.random.default_rng((seed, number))
        drawn = simulator.draw(random)
        tried: Tried = []
        for _ in range(rounds):
            entry = way(drawn, tried)
            seconds, joules = drawn.takes(entry, random)
            tried.append((entry, seconds, joules))
            relative.append(joules / drawn.joules[drawn.best])
            late += seconds > drawn.deadline_s
    return Outcome(float(np.mean(relative)), late / (devices * rounds))
