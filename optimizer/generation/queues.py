"""The queues of all servers as arrays (S, Q), so that a request looks at every place of every queue at once.

Places are filled from the left; the keys of empty ones are inf. A queue is in the order of its keys: the deadline
a batch had when it came, where that was its place, else as near to it as the place allows. A batch that is joined
keeps its place.
"""

from dataclasses import dataclass

import numpy as np

from optimizer.generation.serving import Request

CLOSE = 1e-9
"""Seconds."""


@dataclass(frozen=True)
class Entry:
    """A batch: its point, requests, seconds, and when it must have computed."""

    point: int
    requests: tuple[Request, ...]
    seconds: float
    deadline: float


class Queues:
    """`finish` is when a batch has computed; `later` the least that any batch behind it has to spare.

    All (S, Q): point, seconds, deadline, wanted (the best quality that one of its requests demands), images.
    """

    def __init__(self, begin: np.ndarray) -> None:
        self._begin = begin.astype(float)
        servers = begin.size
        self._requests: list[list[tuple[Request, ...]]] = [[] for _ in range(servers)]
        self.point = np.zeros((servers, 0), int)
        self.images = np.zeros((servers, 0), int)
        self.used = np.zeros((servers, 0), bool)
        self.seconds, self.deadline, self.wanted, self._key, self.finish, self._spare, self.later = (
            np.zeros((servers, 0)) for _ in range(7)
        )

    def begin(self, at: int) -> float:
        """When the first batch of a server starts."""
        return float(self._begin[at])

    def of(self, at: int) -> list[Entry]:
        """What is queued on a server, in order."""
        return [
            Entry(int(self.point[at, j]), requests, float(self.seconds[at, j]), float(self.deadline[at, j]))
            for j, requests in enumerate(self._requests[at])
        ]

    def room(self, deadline: np.ndarray, loading: np.ndarray) -> np.ndarray:
        """Seconds (S,) that a new batch due at `deadline` (S,) may take after `loading` (S,); may be < 0."""
        starts, spare = self._places()
        most = np.minimum(deadline[:, None] - starts, spare).max(axis=1)
        return np.asarray(np.where(self._puts_off(loading), -np.inf, most - loading))

    def soonest(self, seconds: np.ndarray, loading: np.ndarray) -> np.ndarray:
        """When a batch of `seconds` (S,) could have computed at the soonest without making anybody late."""
        starts, spare = self._places()
        start = np.where(spare - loading[:, None] >= seconds[:, None], starts, np.inf).min(axis=1)
        return np.asarray(np.where(self._puts_off(loading), np.inf, start + loading + seconds))

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """When each place of a queue begins, and what those behind it have to spare, both (S, Q + 1)."""
        nobody = np.full((self._begin.size, 1), np.inf)
        starts = np.column_stack([self._begin, np.where(self.used, self.finish, np.inf)])
        return starts, np.column_stack([self._spare, nobody])

    def _puts_off(self, loading: np.ndarray) -> np.ndarray:
        """Where `loading` (S,), which puts off everybody, would make somebody late."""
        first = self._spare[:, 0] if self.used.shape[1] else np.inf
        return np.asarray((loading > 0) & (first < loading))

    def delay(self, at: int, seconds: float) -> None:
        """The whole queue of a server begins later."""
        self._begin[at] += seconds
        self._refresh(at)

    def append(
        self, at: int, point: int, requests: tuple[Request, ...], seconds: float, deadline: float, wanted: float
    ) -> None:
        """Puts a batch at the end of a queue."""
        place = len(self._requests[at])
        key = max(deadline, self._key[at, place - 1]) if place else deadline
        self._put(at, place, point, requests, seconds, deadline, wanted, key)

    def insert(self, at: int, point: int, request: Request, seconds: float, deadline: float) -> None:
        """Puts a batch of one request where its deadline belongs; if somebody were late then, at the last place
        where nobody is.
        """
        count = len(self._requests[at])
        place = int((self._key[at, :count] <= deadline).sum())
        starts = np.append(self._begin[at], self.finish[at, :count])
        fits = np.minimum(deadline - starts, np.append(self._spare[at, :count], np.inf)) >= seconds - CLOSE
        if not fits[place] and fits.any():
            place = int(np.flatnonzero(fits)[-1])
        before = self._key[at, place - 1] if place else -np.inf
        after = self._key[at, place] if place < count else np.inf
        self._put(
            at, place, point, (request,), seconds, deadline, request.quality, min(max(deadline, before), after)
        )

    def join(self, at: int, place: int, point: int, request: Request, seconds: float, deadline: float) -> None:
        """Adds a request to a batch, which then takes `seconds` as `point`."""
        self._requests[at][place] = (*self._requests[at][place], request)
        self.point[at, place], self.seconds[at, place] = point, seconds
        self.deadline[at, place] = min(self.deadline[at, place], deadline)
        self.wanted[at, place] = min(self.wanted[at, place], request.quality)
        self.images[at, place] += request.images
        self._refresh(at)

    def _put(
        self,
        at: int,
        place: int,
        point: int,
        requests: tuple[Request, ...],
        seconds: float,
        deadline: float,
        wanted: float,
        key: float,
    ) -> None:
        if len(self._requests[at]) == self.used.shape[1]:
            self._widen()
        self._requests[at].insert(place, requests)
        images = sum(r.images for r in requests)
        for array, value in (
            (self.point, point),
            (self.seconds, seconds),
            (self.deadline, deadline),
            (self.wanted, wanted),
            (self.images, images),
            (self._key, key),
            (self.used, True),
        ):
            array[at, place + 1 :] = array[at, place:-1].copy()
            array[at, place] = value
        self._refresh(at)

    def _refresh(self, at: int) -> None:
        """What follows from the queue of a server."""
        count = len(self._requests[at])
        finish = self._begin[at] + np.cumsum(self.seconds[at, :count])
        spare = np.minimum.accumulate((self.deadline[at, :count] - finish)[::-1])[::-1]
        self.finish[at, :count] = finish
        self._spare[at, :] = np.inf
        self._spare[at, :count] = spare
        self.later[at, :] = np.inf
        self.later[at, : max(count - 1, 0)] = spare[1:]

    def _widen(self) -> None:
        servers, width = self.used.shape
        more = max(4, width // 2)
        for name in ("point", "images", "used", "seconds", "deadline", "wanted", "finish"):
            array = getattr(self, name)
            setattr(self, name, np.column_stack([array, np.zeros((servers, more), array.dtype)]))
        for name in ("_spare", "later", "_key"):
            setattr(self, name, np.column_stack([getattr(self, name), np.full((servers, more), np.inf)]))
