"""From measured windows to the rows of a calibration: medians, spreads, checks, what is left without idling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, quantiles

from edge_agent.energy.meter import Window
from fleet.calibration import CalibrationRow, UnitJoules, Work
from fleet.domain import EnergyReading

Source = tuple[str, str, str, str]


@dataclass(frozen=True)
class Measured:
    """One window: its units, and what the meter saw."""

    units: float
    window: Window

    @property
    def seconds(self) -> float:
        """Per unit."""
        return self.window.seconds / self.units


def summed_up(row: CalibrationRow, windows: Sequence[Measured], check: Measured | None) -> CalibrationRow:
    """`row` with the medians of `windows`, and how far `check` lies from them."""
    seconds = [m.seconds for m in windows]
    return replace(
        row,
        repeats=len(windows),
        units=median(m.units for m in windows),
        seconds=median(seconds),
        iqr_seconds=spread(seconds),
        residual=None if check is None else off(check.seconds, median(seconds)),
        joules=tuple(_joules(source, windows, check) for source in _sources(windows)),
    )


def _sources(windows: Sequence[Measured]) -> list[Source]:
    """Every source that appears in any window, in the order of the meter."""
    return list(dict.fromkeys(_source(r) for m in windows for r in m.window.readings))


def _source(reading: EnergyReading | UnitJoules) -> Source:
    return reading.source, reading.component, reading.scope, reading.quality


def _joules(source: Source, windows: Sequence[Measured], check: Measured | None) -> UnitJoules:
    found = [_of(source, m) for m in windows]
    flags = tuple(dict.fromkeys(f for reading in found if reading for f in reading.flags))
    known = [
        reading.joules / m.units
        for reading, m in zip(found, windows, strict=True)
        if reading is not None and reading.joules is not None
    ]
    name, component, scope, _ = source
    quality = next(reading.quality for reading in found if reading)
    if len(known) < len(windows):
        return UnitJoules(name, component, scope, quality, None, flags=flags)
    checked = None if check is None else _of(source, check)
    residual = None
    if check is not None and checked is not None and checked.joules is not None:
        residual = off(checked.joules / check.units, median(known))
    return UnitJoules(name, component, scope, quality, median(known), spread(known), None, residual, flags)


def _of(source: Source, measured: Measured) -> EnergyReading | None:
    return next((r for r in measured.window.readings if _source(r) == source), None)


def spread(values: Sequence[float]) -> float:
    """The interquartile range; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return high - low


def off(actual: float, expected: float) -> float | None:
    """How far, relative to what was expected; None where nothing was."""
    return (actual - expected) / expected if expected else None


def without_idle(rows: Sequence[CalibrationRow]) -> tuple[CalibrationRow, ...]:
    """`rows` with what each cost above idling, and with the drift of idle power in the row of after.

    Idle power is the mean of before and after; where a source lacks one of them, its dynamic joules are None.
    """
    before = {_source(u): u.joules for r in rows if r.work is Work.IDLE_BEFORE for u in r.joules}
    after = {_source(u): u.joules for r in rows if r.work is Work.IDLE_AFTER for u in r.joules}

    def dynamic(row: CalibrationRow, unit: UnitJoules) -> UnitJoules:
        first, last = before.get(_source(unit)), after.get(_source(unit))
        if first is None or last is None or unit.joules is None or row.seconds is None:
            return unit
        if row.work is Work.IDLE_BEFORE:
            return unit
        if row.work is Work.IDLE_AFTER:
            return replace(unit, residual=off(last, first))
        return replace(unit, dynamic_joules=unit.joules - fmean((first, last)) * row.seconds)

    return tuple(replace(r, joules=tuple(dynamic(r, u) for u in r.joules)) for r in rows)
