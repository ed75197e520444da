"""Joules as they were read, and the one rule by which they become a total.

What the figures of one host cover lies inside each other: wall > board > module > package. Adding two of
these counts the inner one twice, so **a total is of one quality and one scope on each device**:

- At package scope the components lie side by side: cpu + dram + gpu is a sum. At every wider scope one
  component already covers the whole. Memory and a graphics card are parts of their host even where their meter
  covers the module or the card: that is a scope of their own, and inside it is nothing else of the host.
- One component read by two techniques (`nvml_energy` and `nvml_power`) counts once; several sources of one
  technique (two GPUs, two sockets) are added.
- The component "rail" overlaps the others and never counts; nor does "radio", which is modelled from bytes and
  no part of what anybody measures, nor "arithmetic", which is modelled for a chip that nobody has here.
- Of the scopes a device offers, the one is taken that gave joules in the most windows, and of those the
  widest: what a device costs is what the wall sees, but a total with holes is worth less than a narrower
  one without.

Every reading stays a row of its own; only totals choose, and each says what it chose. Sums over devices keep
quality and scope apart too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum


class Quality(StrEnum):
    """How a joule came to be known. The three are never added up or relabelled."""

    MEASURED = "measured"
    DERIVED = "derived"
    ESTIMATED = "estimated"


@dataclass(frozen=True)
class EnergyReading:
    """What one source says about one window. `joules` None: the source could not say."""

    source: str
    component: str
    scope: str
    quality: Quality
    joules: float | None
    low_joules: float | None = None
    high_joules: float | None = None
    flags: tuple[str, ...] = ()


RAIL = "rail"
RADIO = "radio"
ARITHMETIC = "arithmetic"
APART = (RAIL, RADIO, ARITHMETIC)
"""Components that are part of no total: a rail overlaps the others, a radio is modelled on top of them, and n-bit
arithmetic is that of a chip which is not here.
"""

PACKAGE = "package"
SCOPES = ("wall", "board", "module", PACKAGE)
"""Each lies inside the ones before it. A scope that is not listed is taken last."""

PARTS = ("dram", "gpu")
"""Components that never cover anything else of their host."""

TECHNIQUES = ("rapl", "nvml", "nvml_energy", "ina3221", "ina238", "plug", "battery", "nvml_power", "model")
"""Which of two techniques of one component counts, where both gave as many windows."""

Part = tuple[str, str]
"""A component, and the technique that counts for it."""


def technique(source: str) -> str:
    """The technique of a source: "rapl" of "rapl:package-0", "nvml" of "nvml:GPU-1a2b"."""
    return source.partition(":")[0]


def scope_in_host(reading: EnergyReading) -> str:
    """What of its host a reading covers: its scope, but that a part is at package scope."""
    return PACKAGE if reading.component in PARTS else reading.scope


@dataclass(frozen=True)
class Choice:
    """Which readings of one device make its totals of one quality."""

    quality: Quality
    scope: str
    parts: frozenset[Part]
    sources: frozenset[tuple[str, str]]

    def counts(self, reading: EnergyReading) -> bool:
        """Whether `reading` is part of the total."""
        part = (reading.component, technique(reading.source))
        return reading.quality is self.quality and scope_in_host(reading) == self.scope and part in self.parts

    def has_all(self, window: Iterable[EnergyReading]) -> bool:
        """Whether every source of this choice gave joules in `window`."""
        known = {(r.component, r.source) for r in window if self.counts(r) and r.joules is not None}
        return self.sources <= known


Choices = Mapping[Quality, Choice]


@dataclass(frozen=True)
class Total:
    """Joules of one quality and scope, by the sources named.

    `missing` windows lack joules of some source, so the true total is above `joules`; None: no window had any.
    The bounds are None unless every reading has them.
    """

    quality: Quality
    scope: str
    sources: tuple[str, ...]
    joules: float | None
    low_joules: float | None
    high_joules: float | None
    missing: int

    @property
    def techniques(self) -> tuple[str, ...]:
        """What the sources are, without which of them."""
        return tuple(sorted({technique(s) for s in self.sources}))


def choose(windows: Sequence[Sequence[EnergyReading]]) -> dict[Quality, Choice]:
    """What makes the totals of one device over `windows`, by quality; a quality nobody reads is absent."""
    found: dict[Quality, Choice] = {}
    for quality in Quality:
        offers = [o for scope in _scopes(windows, quality) for o in _offers(windows, quality, scope)]
        complete = [sum(offer.has_all(w) for w in windows) for offer in offers]
        if offers:
            found[quality] = offers[complete.index(max(complete))]
    return found


def _scopes(windows: Sequence[Sequence[EnergyReading]], quality: Quality) -> list[str]:
    """The scopes of one quality, the widest first."""
    scopes = {scope_in_host(r) for w in windows for r in w if r.quality is quality and r.component not in APART}
    return sorted(scopes, key=_width)


def _width(scope: str) -> tuple[int, str]:
    """Sorts the widest scope first."""
    return SCOPES.index(scope) if scope in SCOPES else len(SCOPES), scope


def _offers(windows: Sequence[Sequence[EnergyReading]], quality: Quality, scope: str) -> Iterator[Choice]:
    """The choices that a scope allows: all components together at package scope, else one at a time."""
    all_of = [r for w in windows for r in w if r.quality is quality and r.component not in APART]
    readings = [r for r in all_of if scope_in_host(r) == scope]
    parts: dict[str, list[Part]] = {}
    for part in sorted({(r.component, technique(r.source)) for r in readings}, key=_preference):
        parts.setdefault(part[0], []).append(part)

    def choice(*chosen: Part) -> Choice:
        mine = {(r.component, r.source) for r in readings if (r.component, technique(r.source)) in chosen}
        return Choice(quality, scope, frozenset(chosen), frozenset(mine))

    each = {component: [choice(part) for part in of] for component, of in sorted(parts.items())}
    if scope == PACKAGE:
        best = [max(of, key=lambda c: sum(c.has_all(w) for w in windows)) for of in each.values()]
        yield choice(*(part for c in best for part in c.parts))
    else:
        for of in each.values():
            yield from of


def _preference(part: Part) -> tuple[int, str, str]:
    known = TECHNIQUES.index(part[1]) if part[1] in TECHNIQUES else len(TECHNIQUES)
    return known, part[1], part[0]


def total(windows: Iterable[Sequence[EnergyReading]], choice: Choice) -> Total:
    """The total of one device's `windows` by `choice`."""
    windows = tuple(windows)
    counted = [r for w in windows for r in w if choice.counts(r) and r.joules is not None]
    return Total(
        choice.quality,
        choice.scope,
        tuple(sorted({source for _, source in choice.sources})),
        joules=_sum([r.joules for r in counted]),
        low_joules=_sum([r.low_joules for r in counted]),
        high_joules=_sum([r.high_joules for r in counted]),
        missing=sum(not choice.has_all(w) for w in windows),
    )


def over_devices(totals: Iterable[Total]) -> tuple[Total, ...]:
    """Totals of several devices, added within one quality and scope: the best quality first, the widest scope."""
    groups: dict[tuple[Quality, str], list[Total]] = {}
    for t in totals:
        groups.setdefault((t.quality, t.scope), []).append(t)
    order = list(Quality)
    return tuple(
        _added(*key, groups[key]) for key in sorted(groups, key=lambda k: (order.index(k[0]), _width(k[1])))
    )


def _added(quality: Quality, scope: str, group: list[Total]) -> Total:
    known = [t for t in group if t.joules is not None]
    return Total(
        quality,
        scope,
        tuple(sorted({s for t in group for s in t.sources})),
        joules=_sum([t.joules for t in known]),
        low_joules=_sum([t.low_joules for t in known]),
        high_joules=_sum([t.high_joules for t in known]),
        missing=sum(t.missing for t in group),
    )


def _sum(values: list[float | None]) -> float | None:
    """The sum; None when there is nothing to add or a summand is not known."""
    known = [v for v in values if v is not None]
    return fsum(known) if known and len(known) == len(values) else None
