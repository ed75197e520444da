"""What a fold of the log knows of requests that are not over, and of the batches they are made in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fleet.generation import Batch, GenerationRequest, ModelRef

AWAY_S = 1.0
"""A device that is away for so long has lost its batches: they are made anew elsewhere."""

PATIENCE_S = 5.0
"""After a start of the coordinator devices are given so long to come back before they count as away."""

MOST_TRIES = 3
"""Devices that may fail or vanish while they serve a request before it is given up."""

LATE_S = 60.0
"""A request that a device was lost with may be served so long after its deadline; late is better than lost."""

STUCK_FACTOR, STUCK_S = 20.0, 120.0
"""A batch that takes STUCK_FACTOR times what was predicted, and STUCK_S at least, is taken from its device."""


@dataclass(frozen=True)
class Asked:
    """A request that is not over. `batch` None: it waits for a place.

    `tries`: devices that failed or were lost while they made it. `interrupted`: so was one that had it, or in
    whose queue it stood: it was admitted, and is rather served late than lost.
    """

    request: GenerationRequest
    model: ModelRef
    at_s: float
    batch: str | None = None
    tries: int = 0
    interrupted: bool = False

    @property
    def deadline_at_s(self) -> float | None:
        """When the images are due; None: whenever."""
        return None if self.request.within_s is None else self.at_s + self.request.within_s

    @property
    def last_at_s(self) -> float | None:
        """Until when it may wait in a queue."""
        due = self.deadline_at_s
        return due if due is None or not self.interrupted else due + LATE_S


@dataclass(frozen=True)
class Placed:
    """A batch in a device's queue. `left` are the requests whose images are not here yet.

    `began_at_s`: since when it has been first in its queue and with its device; None: it can still be changed.
    """

    batch: Batch
    at_s: float
    starts_at_s: float
    ends_at_s: float
    left: tuple[str, ...]
    began_at_s: float | None = None

    @property
    def stuck_at_s(self) -> float:
        """When it is taken from its device; infinite before it has begun."""
        if self.began_at_s is None:
            return float("inf")
        return self.began_at_s + max(STUCK_S, STUCK_FACTOR * (self.batch.expected.seconds or 0.0))


@dataclass(frozen=True)
class Generations:
    """Requests and batches by id, in the order of their events; both only until they are over.

    `decided` counts what the planner decided, so that a plan that is due can be told from the one before. `kept`
    is by device what it was told to keep, `held` what it says it has; `reviewed_at_s` is when that was last
    thought over, and `asked_since` what was asked for since: images by model. `laws` are by model and metric what
    it is worth, as JSON.
    """

    requests: Mapping[str, Asked] = field(default_factory=dict)
    batches: Mapping[str, Placed] = field(default_factory=dict)
    decided: int = 0
    patient_until_s: float = 0.0
    kept: Mapping[str, tuple[ModelRef, ...]] = field(default_factory=dict)
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, ModelRef] = field(default_factory=dict)
    laws: Mapping[tuple[str, str], str] = field(default_factory=dict)
    reviewed_at_s: float = 0.0
    asked_since: Mapping[str, int] = field(default_factory=dict)

    def queue(self, device: str) -> list[Placed]:
        """The batches of a device, the one it is at first."""
        mine = [p for p in self.batches.values() if p.batch.device == device]
        return sorted(mine, key=_turn)

    def heads(self) -> Iterator[Placed]:
        """The first batch of each device's queue."""
        first: dict[str, Placed] = {}
        for placed in self.batches.values():
            known = first.get(placed.batch.device)
            if known is None or _turn(placed) < _turn(known):
                first[placed.batch.device] = placed
        yield from first.values()


def _turn(placed: Placed) -> tuple[float, float]:
    began = placed.began_at_s
    return (0.0, began) if began is not None else (1.0, placed.starts_at_s)
