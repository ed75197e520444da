"""Every point of the menus on every server: seconds and joules of a batch, as fixed + each n. Matrices (S, P)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.errors import BadRequest
from optimizer.generation.menu import Row, meets, rows
from optimizer.generation.quality import QualityLaws
from optimizer.generation.schedule import StepPrices
from optimizer.generation.serving import Batch, Offer, Server

Widths = tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """One choice of the menus: `row` and its index there, or a schedule that is in no menu any more."""

    model: str
    bits: int
    quality: float
    row: Row | None
    at: int
    schedule: Widths = ()

    def widths(self) -> Widths:
        """One per step."""
        if self.row is None:
            return self.schedule
        return tuple(self.row.widths[int(i)] for i in self.row.picks[self.at])


class Prices:
    """What all points cost on all servers; inf where a server does not offer them."""

    def __init__(
        self,
        servers: Sequence[Server],
        laws: Mapping[str, QualityLaws],
        models: Sequence[str],
        steps: Sequence[int],
        queued: Sequence[Batch],
    ) -> None:
        self._servers, self._laws = servers, laws
        self.models = {model: at for at, model in enumerate(models)}
        self.points: list[Point] = []
        self._columns: list[tuple[np.ndarray, ...]] = []
        self._rows: dict[str, list[tuple[Row, int]]] = {}
        for model in models:
            self._rows[model] = []
            for row in rows(laws[model], steps, _step_prices(servers, model)):
                self._rows[model].append((row, len(self.points)))
                found = [Point(model, row.bits, float(q), row, at) for at, q in enumerate(row.qualities)]
                self._add(found, row.counts(), row.widths)
        self._known = {(b.model, b.bits, b.widths): -1 for b in queued}
        for model, bits, widths in self._known:
            self._known[model, bits, widths] = len(self.points)
            quality = next(b.quality for b in queued if (b.model, b.bits, b.widths) == (model, bits, widths))
            menu = tuple(sorted(set(widths)))
            counts = np.array([[widths.count(w) for w in menu]])
            self._add([Point(model, bits, quality, None, 0, widths)], counts, menu)
        joined = [np.asfortranarray(np.concatenate(part, axis=1)) for part in zip(*self._columns, strict=True)]
        self.fixed_s, self.each_s, self.fixed_joules, self.each_joules = joined
        self.qualities = np.array([p.quality for p in self.points])
        self.model_of = np.array([self.models[p.model] for p in self.points])
        self.load_s, self.load_joules = (
            np.array([[_loading(s, model, what) for model in models] for s in servers])
            for what in ("load_s", "load_joules")
        )

    def column(self, batch: Batch) -> int:
        """The point of a queued batch."""
        return self._known[batch.model, batch.bits, batch.widths]

    def demanded(self, model: str, qualities: np.ndarray) -> np.ndarray:
        """For each quality (R,) the cheapest point of each row of the menu that meets it: (R, C); -1 none."""
        found = [(meets(self._laws[model], row, qualities), first) for row, first in self._rows[model]]
        return np.stack([np.where(at < 0, -1, at + first) for at, first in found], axis=1)

    def sample(self, model: str) -> np.ndarray:
        """Some twenty points of each row of a model, its ends among them."""
        return np.concatenate(
            [
                first + np.unique(np.linspace(0, row.errors.size - 1, 20).astype(int))
                for row, first in self._rows[model]
            ]
        )

    def _add(self, points: Sequence[Point], counts: np.ndarray, widths: Widths) -> None:
        """Costs of points (F,) of one model and bits with `counts` (F, W) of `widths`."""
        self.points += points
        made = [_costs(_offer(s, points[0].model, points[0].bits), counts, widths) for s in self._servers]
        self._columns.append(tuple(np.stack(part) for part in zip(*made, strict=True)))


def _costs(offer: Offer | None, counts: np.ndarray, widths: Widths) -> tuple[np.ndarray, ...]:
    """fixed_s, each_s, fixed_joules, each_joules of points (F,)."""
    if offer is None:
        return (np.full(len(counts), np.inf),) * 4
    known = [offer.widths.index(w) if w in offer.widths else -1 for w in widths]
    missing = (counts[:, [k < 0 for k in known]] > 0).any(axis=1)
    parts = []
    for column, once in (
        (offer.fixed_s, offer.start_s),
        (offer.each_s, 0.0),
        (offer.fixed_joules, offer.start_joules),
        (offer.each_joules, 0.0),
    ):
        by_width = np.array([column[k] if k >= 0 else 0.0 for k in known])
        parts.append(np.where(missing, np.inf, counts @ by_width + once))
    return tuple(parts)


def _offer(server: Server, model: str, bits: int) -> Offer | None:
    return next((o for o in server.offers if (o.model, o.bits) == (model, bits)), None)


def _loading(server: Server, model: str, what: str) -> float:
    """The dearest of its bits: which of them comes first is not known yet."""
    return max((getattr(o, what) for o in server.offers if o.model == model), default=np.inf)


def _step_prices(servers: Sequence[Server], model: str) -> dict[int, StepPrices]:
    """By bits: joules of a step by width relative to the widest, the mean of all servers that have the same
    widths.

    Rounded to a thousandth, so that a refit that changes nothing of note finds the menu ready.
    """
    found: dict[int, StepPrices] = {}
    offers = [o for s in servers for o in s.offers if o.model == model]
    for bits in sorted({o.bits for o in offers}):
        widths = sorted({w for o in offers if o.bits == bits for w in o.widths})
        by_width: dict[float, list[float]] = {w: [] for w in widths}
        for offer in (o for o in offers if o.bits == bits):
            joules = np.asarray(offer.fixed_joules) + np.asarray(offer.each_joules)
            # A server without the widest is put on the scale by the law of squares.
            top = joules[-1] / (offer.widths[-1] / widths[-1]) ** 2
            for width, spent in zip(offer.widths, joules, strict=True):
                by_width[width].append(float(spent / top))
        costs = [max(round(float(np.mean(by_width[w])), 3), 0.001) for w in widths]
        found[bits] = StepPrices(tuple(widths), tuple(costs))
    if not found:
        raise BadRequest(f"no server offers the model {model}")
    return found
