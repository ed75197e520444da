"""Placing one request after the other where it adds the fewest joules and nobody is late.

A request may be a batch of its own, at the place in a server's queue that its deadline gives it; join a batch that
is good enough for it; or join one that is made good enough, for the joules of all its images. Everything is
tried on all servers at once: arrays (S, C) over servers and points, (S, Q) over servers and places in the queue.
[R]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.errors import BadRequest
from optimizer.generation.pricing import Prices
from optimizer.generation.quality import QualityLaws
from optimizer.generation.queues import Queues
from optimizer.generation.serving import Batch, Placement, Plan, Refusal, Request, Server
from optimizer.generation.speeds import clocks

SOONER = 1e-9
"""Joules per second of waiting: of two equal choices the sooner one is taken."""


def place_all(
    requests: Sequence[Request],
    servers: Sequence[Server],
    laws: Mapping[str, QualityLaws],
    now_s: float,
    steps: tuple[int, ...],
    queued: Sequence[Batch],
    batching: bool,
) -> Plan:
    """See `serving.plan`."""
    lost = [r for b in queued if b.server not in {s.name for s in servers} for r in b.requests]
    kept = [b for b in queued if b.server in {s.name for s in servers}]
    waiting = sorted([*lost, *requests], key=lambda r: (-r.priority, r.arrived_at_s, r.name))
    _check(waiting, servers, laws, kept, steps)
    offered = {o.model for s in servers for o in s.offers}
    models = sorted(offered & {r.model for r in waiting} | {b.model for b in kept})
    if not models:
        return Plan((), tuple(_unknown(r) for r in waiting), ())
    fleet = _Fleet(servers, Prices(servers, laws, models, steps, kept), now_s, kept, batching)
    demanded = _demanded(fleet.prices, waiting, models)
    unmet = [r for r in waiting if r.model not in offered or not fleet.place(r, demanded[r.name])]
    # Only now, when all that is placed is placed: what is possible instead is what is left.
    return fleet.plan(
        [_unknown(r) if r.model not in offered else fleet.refuse(r, demanded[r.name]) for r in unmet]
    )


def _check(
    requests: Sequence[Request],
    servers: Sequence[Server],
    laws: Mapping[str, QualityLaws],
    kept: Sequence[Batch],
    steps: Sequence[int],
) -> None:
    names = [r.name for r in requests] + [r.name for b in kept for r in b.requests]
    if not servers or not steps:
        raise BadRequest("a plan needs at least one server and one number of steps")
    for kind, given in (("request", names), ("server", [s.name for s in servers])):
        if len(set(given)) < len(given):
            twice = next(n for n in given if given.count(n) > 1)
            raise BadRequest(f"{kind} {twice} is there twice")
    for model in {r.model for r in requests} | {b.model for b in kept}:
        if model not in laws and any(o.model == model for s in servers for o in s.offers):
            raise BadRequest(f"no quality laws for the model {model}: measure them first")


def _demanded(prices: Prices, requests: Sequence[Request], models: Sequence[str]) -> dict[str, np.ndarray]:
    """By request the points (C,) that meet its quality; empty if none does."""
    found: dict[str, np.ndarray] = {}
    for model in models:
        asked = [r for r in requests if r.model == model]
        if asked:
            points = prices.demanded(model, np.array([r.quality for r in asked]))
            found |= {r.name: row[row >= 0] for r, row in zip(asked, points, strict=True)}
    return found


def _unknown(request: Request) -> Refusal:
    return Refusal(request.name, "model", f"no server offers the model {request.model}", None, None)


@dataclass(frozen=True)
class _Terms:
    """Of one request: seconds and joules (S, C); deadline of computing, loading, room, if allowed (S,)."""

    model: int
    seconds: np.ndarray
    joules: np.ndarray
    deadline: np.ndarray
    loading: np.ndarray
    room: np.ndarray
    allowed: np.ndarray


class _Fleet:
    """Servers with what is queued on them so far."""

    def __init__(
        self, servers: Sequence[Server], prices: Prices, now_s: float, kept: Sequence[Batch], batching: bool
    ) -> None:
        self.prices, self._servers, self._batching = prices, servers, batching
        self._index = {s.name: at for at, s in enumerate(servers)}
        self._max_batch = np.array([s.max_batch for s in servers])
        self._send_s = np.array([s.send_s for s in servers])
        self._send_joules = np.array([s.send_joules for s in servers])
        self._left_joules = np.array([s.energy_joules for s in servers])
        self._loaded = prices.load_s + prices.load_joules == 0
        self.queues = Queues(np.maximum([s.free_at_s for s in servers], now_s))
        for batch in sorted(kept, key=lambda b: b.start_at_s):
            self._keep(batch)

    def _keep(self, batch: Batch) -> None:
        at, point = self._index[batch.server], self.prices.column(batch)
        model = int(self.prices.model_of[point])
        if not self._loaded[at, model]:
            self._left_joules[at] -= self.prices.load_joules[at, model]
        self._load(at, model)
        deadline = min(r.deadline_at_s - self._send_s[at] * r.images for r in batch.requests)
        wanted = min(r.quality for r in batch.requests)
        seconds, joules = self._cost(at, point, batch.images)
        self._left_joules[at] -= joules + self._send_joules[at] * batch.images
        self.queues.append(at, point, batch.requests, seconds, deadline, wanted)

    def _cost(self, at: int, point: int, images: int) -> tuple[float, float]:
        p, turns = self.prices, -(-images // self._max_batch[at])
        seconds = turns * p.fixed_s[at, point] + p.each_s[at, point] * images
        return float(seconds), float(turns * p.fixed_joules[at, point] + p.each_joules[at, point] * images)

    def _load(self, at: int, model: int) -> None:
        if not self._loaded[at, model]:
            self._loaded[at, model] = True
            self.queues.delay(at, float(self.prices.load_s[at, model]))

    def _terms(self, request: Request, points: np.ndarray) -> "_Terms":
        """What `points` (C,) would cost on each server as a batch of their own, and the room there is."""
        p, n, model = self.prices, request.images, self.prices.models[request.model]
        cold = ~self._loaded[:, model]
        turns = -(-n // self._max_batch)[:, None]
        once = self._send_joules * n + np.where(cold, p.load_joules[:, model], 0.0)
        deadline = request.deadline_at_s - self._send_s * n
        loading = np.where(cold, p.load_s[:, model], 0.0)
        allowed = np.array([s.name not in request.not_on for s in self._servers])
        return _Terms(
            model,
            turns * p.fixed_s[:, points] + p.each_s[:, points] * n,
            turns * p.fixed_joules[:, points] + p.each_joules[:, points] * n + once[:, None],
            deadline,
            loading,
            np.where(allowed, self.queues.room(deadline, loading), -np.inf),
            allowed,
        )

    def place(self, request: Request, points: np.ndarray) -> bool:
        """Puts `request` into a queue, as one of `points` (C,) or better; whether there is a place."""
        if not points.size:
            return False
        q, terms = self.queues, self._terms(request, points)
        fits = (terms.seconds <= terms.room[:, None]) & (terms.joules <= self._left_joules[:, None])
        value = np.where(fits & np.isfinite(terms.joules), terms.joules + SOONER * terms.seconds, np.inf)
        at, column = np.unravel_index(np.argmin(value), value.shape)
        best, where, move = float(value[at, column]), (int(at), int(points[column])), "new"
        own = points[np.argmin(terms.joules, axis=1)]  # (S,): what it would take by itself
        if self._batching:
            best, where, move = self._joined(request, terms, own, (best, where, move))
        if not np.isfinite(best):
            return False
        self._left_joules[where[0]] -= best
        if move == "new":
            took, _ = self._cost(where[0], where[1], request.images)
            self._load(where[0], terms.model)
            q.insert(where[0], where[1], request, took, float(terms.deadline[where[0]]))
        else:
            self._join(request, where, int(own[where[0]]) if move == "better" else None, terms.deadline)
        return True

    def _joined(
        self,
        request: Request,
        terms: "_Terms",
        own: np.ndarray,
        found: tuple[float, tuple[int, int], str],
    ) -> tuple[float, tuple[int, int], str]:
        """`found`, or a batch to join for fewer joules: where is then (server, place in its queue)."""
        p, q, n = self.prices, self.queues, request.images
        there = np.flatnonzero(q.used & (q.images <= (self._max_batch - n)[:, None]) & terms.allowed[:, None])
        if not there.size:
            return found
        at, place = np.divmod(there, q.used.shape[1])
        old, images, took = q.point[at, place], q.images[at, place], q.seconds[at, place]
        wanted, spent = q.wanted[at, place], self._left_joules[at]
        before = p.fixed_joules[at, old] + p.each_joules[at, old] * images
        latest = np.minimum(q.deadline[at, place], terms.deadline[at]) - q.finish[at, place]
        latest = np.minimum(latest, q.later[at, place])
        of_model = p.model_of[old] == terms.model
        for move, point in (("as it is", old), ("better", own[at])):
            longer = p.fixed_s[at, point] + p.each_s[at, point] * (images + n) - took
            dearer = p.fixed_joules[at, point] + p.each_joules[at, point] * (images + n) - before
            dearer = dearer + self._send_joules[at] * n
            enough = p.qualities[point] <= np.minimum(wanted, request.quality) * (1 + 1e-9)
            fits = of_model & enough & (longer <= latest) & (dearer <= spent)
            value = np.where(fits, dearer + SOONER * longer, np.inf)
            best = int(np.argmin(value))
            if value[best] < found[0]:
                found = float(value[best]), (int(at[best]), int(place[best])), move
        return found

    def _join(self, request: Request, where: tuple[int, int], better: int | None, deadline: np.ndarray) -> None:
        at, place = where
        point = int(self.queues.point[at, place]) if better is None else better
        seconds, _ = self._cost(at, point, int(self.queues.images[at, place]) + request.images)
        self.queues.join(at, place, point, request, seconds, float(deadline[at]))

    def refuse(self, request: Request, points: np.ndarray) -> Refusal:
        """Why none of `points` (C,) is possible any more, and what is."""
        p, n, name = self.prices, request.images, request.name
        wanted = f"{n} images of quality {request.quality:.4g}"
        some = p.sample(request.model)
        sample = self._terms(request, some)
        possible = (sample.seconds <= sample.room[:, None]) & (sample.joules <= self._left_joules[:, None])
        possible = (possible & np.isfinite(sample.seconds)).any(axis=0)
        best = float(p.qualities[some][possible].min()) if possible.any() else None
        if not sample.allowed.any():
            return Refusal(
                name, "model", f"request {name}: every server of {request.model} is ruled out", None, None
            )
        if not points.size:
            reach = float(p.qualities[p.model_of == sample.model].min())
            reason = f"request {name}: {wanted} are out of reach; the best quality is {reach:.4g}"
            return Refusal(name, "quality", reason, best, None)
        terms = self._terms(request, points)
        affordable = (terms.joules <= self._left_joules[:, None]) & terms.allowed[:, None]
        if not (affordable & np.isfinite(terms.joules)).any():
            return Refusal(name, "energy", f"request {name}: no server has the joules for {wanted}", best, None)
        seconds = np.where(affordable, terms.seconds, np.inf).min(axis=1)
        ready = self.queues.soonest(seconds, terms.loading) + self._send_s * n
        at = int(np.argmin(ready))
        reason = f"request {name}: {wanted} are not ready by the deadline"
        if not np.isfinite(ready[at]):
            return Refusal(name, "deadline", reason, best, None)
        late = f"at the soonest {ready[at] - request.deadline_at_s:.3g} s later, on {self._servers[at].name}"
        return Refusal(name, "deadline", f"{reason}, {late}", best, float(ready[at]))

    def plan(self, refusals: Sequence[Refusal]) -> Plan:
        """All that was placed."""
        placements: list[Placement] = []
        batches: list[Batch] = []
        for at, server in enumerate(self._servers):
            queue = self.queues.of(at)
            if not queue:
                continue
            begin = self.queues.begin(at)
            parts = clocks(server, begin, [b.seconds for b in queue], [b.deadline for b in queue])
            loads = {m: float(self.prices.load_joules[at, m]) for m in range(len(self.prices.models))}
            for entry, clock in zip(queue, parts, strict=True):
                point = self.prices.points[entry.point]
                images = sum(r.images for r in entry.requests)
                _, joules = self._cost(at, entry.point, images)
                joules, seconds = joules * clock**2, entry.seconds / clock
                loading = loads.pop(self.prices.models[point.model], 0.0)
                widths = point.widths()
                batches.append(
                    Batch(
                        *(server.name, point.model, point.bits, widths, entry.requests),
                        *(begin, seconds, joules, point.quality, clock),
                    )
                )
                for r in entry.requests:
                    ready = begin + seconds + server.send_s * r.images
                    share = (joules + loading) * r.images / images + server.send_joules * r.images
                    placements.append(
                        Placement(
                            *(
                                r.name,
                                server.name,
                                server.place,
                                len(batches) - 1,
                                point.bits,
                                len(widths),
                                widths,
                            ),
                            *(begin, ready, ready - begin, share, point.quality, server.energy_law),
                        )
                    )
                begin += seconds
        return Plan(tuple(placements), tuple(refusals), tuple(batches))
