"""The load of bench/service.py: requests in an open loop, the same for every scheme, and what became of them."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from uuid import uuid4

import numpy as np

from cli import request_view, requests
from cli.client import Operator
from fleet.errors import WattbedError
from fleet.generation import Demand, GenerationRequest, Recipe, RequestReport
from fleet.images import unpack

WIDTHS = (0.25, 0.5, 0.75, 1.0)
IMAGES = (4, 8, 16)
WITHIN_S = (3.0, 6.0, 12.0)
WARM_UP = (
    *((w, n, 1) for n in (1, 16) for w in (1.0, 0.25, 0.5)),
    *((w, 8, 2) for w in (1.0, 0.75, 0.5, 0.25)),
    *((w, 32, 1) for w in (0.75, 0.5)),
)
"""Width, images, and by what the number of steps is divided, of the batches that cost fits begin with."""


@dataclass(frozen=True)
class Arrival:
    """One request before a scheme says how and where: from `origin`, `at_s` after the start."""

    at_s: float
    origin: str
    images: int
    within_s: float
    seed: int


@dataclass(frozen=True)
class Load:
    """Poisson arrivals of `per_s` for `poisson_s`, then a burst of `burst` at once every `every_s`, `bursts`
    times.
    """

    per_s: float
    poisson_s: float
    burst: int
    every_s: float
    bursts: int

    def arrivals(self, origins: Sequence[str], seed: int) -> list[Arrival]:
        """In the order of their times."""
        draw, at_s, times = random.Random(seed), 0.0, list[float]()
        while (at_s := at_s + draw.expovariate(self.per_s)) < self.poisson_s:
            times.append(at_s)
        for n in range(self.bursts):
            times += [self.poisson_s + (n + 1) * self.every_s] * self.burst
        return [
            Arrival(t, draw.choice(origins), draw.choice(IMAGES), draw.choice(WITHIN_S), draw.randrange(1 << 31))
            for t in times
        ]


Choice = Callable[[GenerationRequest, random.Random], GenerationRequest]


@dataclass(frozen=True)
class Scheme:
    """How a request is asked for: `choose` fixes its recipe or its place, or leaves both to wattbed."""

    name: str
    how: str
    choose: Choice


def schemes(full: Recipe, fewer_steps: int, demand: Demand) -> list[Scheme]:
    """All that are compared; `fewer_steps` is the least number that meets the demand at full width."""
    from dataclasses import replace

    def fixed(recipe: Recipe, where: str = "any") -> Choice:
        def choose(request: GenerationRequest, draw: random.Random) -> GenerationRequest:
            origin = request.origin if where == "local" else ""
            return replace(request, recipe=recipe, where=where, origin=origin)

        return choose

    def at(width: float) -> Recipe:
        return replace(full, widths=(width,) * full.steps)

    def any_width(request: GenerationRequest, draw: random.Random) -> GenerationRequest:
        return replace(request, recipe=at(draw.choice(WIDTHS)), origin="")

    def any_place(request: GenerationRequest, draw: random.Random) -> GenerationRequest:
        return fixed(full, draw.choice(("local", "edge")))(request, draw)

    def greedy(request: GenerationRequest, draw: random.Random) -> GenerationRequest:
        return replace(request, recipe=full)

    def ours(request: GenerationRequest, draw: random.Random) -> GenerationRequest:
        return replace(request, quality=demand, origin="")

    def ours_offloading(request: GenerationRequest, draw: random.Random) -> GenerationRequest:
        return replace(request, quality=demand)

    few = replace(full, widths=(1.0,) * fewer_steps)
    return [
        Scheme("full width", "any device, as cheap as it gets", fixed(full)),
        *(Scheme(f"width {w:g}", "any device", fixed(at(w))) for w in (0.75, 0.5, 0.25)),
        Scheme("step reduction only", f"{fewer_steps} steps at full width, any device", fixed(few)),
        Scheme("random width", "any device", any_width),
        Scheme("all local", "full width on its own device", fixed(full, "local")),
        Scheme("all edge", "full width at the edge server", fixed(full, "edge")),
        Scheme("random offloading", "full width, its own device or the edge server by a coin", any_place),
        Scheme("greedy offloading", "full width, the cheaper of both that is in time", greedy),
        Scheme("wattbed, own device or edge", "planned", ours_offloading),
        Scheme("wattbed", "planned, any device", ours),
    ]


@dataclass(frozen=True)
class Outcome:
    """What one scheme came to. `joules` are of all phases of all requests, by quality and scope."""

    scheme: str
    how: str
    requests: int
    served: int
    refused: int
    misses: int
    other: int
    images: int
    joules: dict[str, float]
    sources: list[str]
    unmeasured: int
    p50_s: float | None
    p99_s: float | None
    fid: float | None
    fid_images: int
    mean_square_width: float
    steps: float
    requests_per_batch: float
    predicted_joules: float

    @property
    def total_joules(self) -> float:
        """Of the one quality and scope that all devices have; joules of several are never added up."""
        if len(self.joules) > 1:
            raise ValueError(f"{self.scheme}: joules of {', '.join(self.joules)} make no total")
        return sum(self.joules.values())

    @property
    def per_image(self) -> float:
        """Joules per image that was delivered."""
        return self.total_joules / self.images if self.images else float("inf")


async def ask_all(
    address: str, run: str, scheme: Scheme, arrivals: Sequence[Arrival], seed: int
) -> tuple[list[RequestReport], list[np.ndarray]]:
    """Asks for all of them, each at its time whatever came of those before; the reports, and what was served."""
    draw = random.Random(seed)
    label = "".join(c for c in scheme.name if c.isalnum())
    wanted = [
        scheme.choose(
            GenerationRequest(
                f"{label}-{uuid4().hex}",
                run,
                a.images,
                a.seed,
                within_s=a.within_s,
                origin=a.origin,
            ),
            draw,
        )
        for a in arrivals
    ]
    clock = asyncio.get_running_loop().time
    async with Operator(address) as operator:
        began_s = clock()

        async def one(arrival: Arrival, request: GenerationRequest) -> RequestReport:
            await asyncio.sleep(max(0.0, began_s + arrival.at_s - clock()))
            reports = [n async for n in requests.follow(operator, request) if isinstance(n, RequestReport)]
            return reports[-1]

        pairs = zip(arrivals, wanted, strict=True)
        reports = list(await asyncio.gather(*(one(a, r) for a, r in pairs)))
        served = [r for r in reports if r.status == "served"]
        images = [unpack(await requests.images_of(operator, r)) for r in served]
    return reports, images


async def warm_up(address: str, run: str, devices: Sequence[str], steps: int, sampler: str) -> None:
    """A few batches on every device, one after the other, so that no scheme pays for what is not known."""
    async with Operator(address) as operator:
        for device in devices:
            for width, images, of in WARM_UP:
                request = GenerationRequest(
                    f"warm-{device}-{width:g}-{images}-{of}-{random.randrange(1 << 30):x}",
                    run,
                    images,
                    1,
                    where="device",
                    device=device,
                    recipe=Recipe((width,) * (steps // of), sampler),
                )
                last = [n async for n in requests.follow(operator, request) if isinstance(n, RequestReport)][-1]
                if last.status != "served":
                    raise WattbedError(f"{device} made no images: {last.status}, {last.reason}")


def summed_up(scheme: Scheme, reports: Sequence[RequestReport], fid: float | None, fid_images: int) -> Outcome:
    """The row of one scheme."""
    served = [r for r in reports if r.status == "served"]
    latencies = sorted(r.latency_s for r in served if r.latency_s is not None)
    joules: dict[str, float] = {}
    sources: set[str] = set()
    unmeasured = 0
    for report in reports:
        found = request_view.totals(report)
        unmeasured += bool(report.phases) and not found
        for total in found:
            key = f"{total.quality.value}, {total.scope}"
            joules[key] = joules.get(key, 0.0) + (total.joules or 0.0)
            sources.update(total.sources)
    placed = [r.placement for r in served if r.placement]
    statuses = [r.status for r in reports]
    return Outcome(
        scheme=scheme.name,
        how=scheme.how,
        requests=len(reports),
        served=len(served),
        refused=statuses.count("refused"),
        misses=sum(r.late for r in served) + statuses.count("expired"),
        other=statuses.count("failed") + statuses.count("cancelled"),
        images=sum(r.request.images for r in served),
        joules=joules,
        sources=sorted(sources),
        unmeasured=unmeasured,
        p50_s=quantile(latencies, 0.5),
        p99_s=quantile(latencies, 0.99),
        fid=fid,
        fid_images=fid_images,
        mean_square_width=fmean([p.recipe.mean_square_width for p in placed]) if placed else 0.0,
        steps=fmean([p.recipe.steps for p in placed]) if placed else 0.0,
        requests_per_batch=fmean([p.shared_with + 1 for p in placed]) if placed else 0.0,
        predicted_joules=sum(p.expected.joules or 0.0 for p in placed),
    )


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """The least value that a share `q` of `ordered` does not exceed."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
