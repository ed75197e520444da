"""What the network sees of a device: for each entry of the menu what it came to so far, and the deadline.

(seen, joules, seconds) by entry     joules relative to the cheapest seen, seconds to the deadline, in
logarithms
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from fleet.domain import Phase
from fleet.errors import BadExperiment
from optimizer.fitting import PHASES, Choice, Setting
from optimizer.fitting.sample import Sample
from optimizer.policies.options import Menu

LARGEST = 48
"""Entries of a menu that a small network can still tell apart."""

CLIP = 4.0
"""Logarithms are cut off here: e^4 is fifty times."""


def entries(menu: Menu, bits_down: int) -> list[Choice]:
    """Every combination of `menu`, in order; BadExperiment for levers, which are not learned, or too many."""
    if menu.frequencies != (1.0,) or menu.power_limits != (1.0,):
        raise BadExperiment('policy "learned": frequencies and power_limits are not learned; leave them out')
    found = [
        Choice(Setting(width, precision), steps, bits, bits_down)
        for width, precision, steps, bits in product(menu.widths, menu.precisions, menu.train_steps, menu.bits_up)
    ]
    if len(found) > LARGEST:
        raise BadExperiment(f'policy "learned": the menu has {len(found)} entries; {LARGEST} are the most')
    return found


class Memory:
    """Seconds and joules by entry (M,), of which the mean of the logarithms is kept."""

    def __init__(self, size: int) -> None:
        self._count, self._sums = np.zeros(size), np.zeros((2, size))

    def add(self, entry: int, seconds: float, joules: float) -> None:
        """An assignment came to this."""
        self._count[entry] += 1
        self._sums[:, entry] += np.log([joules, seconds])

    def seen(self, deadline_s: float) -> np.ndarray:
        """What the network is given: (3 M,), float32; zeros for an entry that was never tried."""
        known = self._count > 0
        if not known.any():
            return np.zeros(3 * known.size, np.float32)
        mean = self._sums / np.maximum(self._count, 1)
        joules = np.where(known, mean[0] - mean[0][known].min(), 0.0)
        seconds = np.where(known, mean[1] - np.log(deadline_s), 0.0)
        return np.concatenate([known, joules, seconds]).clip(-CLIP, CLIP).astype(np.float32)


def remembered(samples: Sequence[Sample], menu: Sequence[Choice], kind: object) -> Memory:
    """What `samples` of one device say about `menu`; `kind` is the energy choice of its joules, None: seconds.

    A device without joules is judged by its seconds: those go as its joules do.
    """
    memory, place = Memory(len(menu)), {choice: at for at, choice in enumerate(menu)}
    for sample in samples:
        if sample.choice not in place:
            continue
        seconds = [sample.seconds(phase) for phase in PHASES]
        joules = seconds if kind is None else [_joules(sample, phase, kind) for phase in PHASES]
        took, spent = (sum(v for v in values if v is not None) for values in (seconds, joules))
        if took > 0 and spent > 0 and None not in seconds and None not in joules:
            memory.add(place[sample.choice], took, spent)
    return memory


def _joules(sample: Sample, phase: Phase, kind: object) -> float | None:
    return sample.joules(phase, kind)  # type: ignore[arg-type]
