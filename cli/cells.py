"""How numbers look in a table: with their unit, and an em dash for what was not measured."""

from fleet.domain import EnergyReading, Quality, joules_by_quality

NOT_MEASURED = "—"


def joules(value: float | None) -> str:
    """Joules to four digits."""
    return NOT_MEASURED if value is None else f"{value:,.0f} J" if abs(value) >= 1000 else f"{value:.4g} J"


def seconds(value: float | None) -> str:
    """Seconds to a tenth, or a hundredth below one."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,.1f} s" if value >= 1 else f"{value:.2f} s"


def size(value: int | None) -> str:
    """Bytes in powers of 1000."""
    if value is None:
        return NOT_MEASURED
    number = float(value)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def number(value: float | None) -> str:
    """A bare number to four digits."""
    return NOT_MEASURED if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """A relative error with its sign."""
    return NOT_MEASURED if value is None else f"{100 * value:+.0f} %"


def digest(value: str | None) -> str:
    """The first twelve digits of a sha256."""
    return NOT_MEASURED if value is None else value[:12]


def bits(up: int, down: int) -> str:
    """Bits of the update, and of the model sent down."""
    return f"{up}↑ {down}↓"


def energy(readings: list[EnergyReading]) -> str:
    """Joules of each quality by itself, each with its quality and the sources behind it."""
    sums = joules_by_quality(readings)
    if not sums:
        return NOT_MEASURED
    return ", ".join(f"{joules(sums[q])} ({q}: {_sources(readings, q)})" for q in Quality if q in sums)


def _sources(readings: list[EnergyReading], quality: Quality) -> str:
    return "+".join(sorted({r.source for r in readings if r.quality is quality and r.joules is not None}))
