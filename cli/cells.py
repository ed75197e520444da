"""How numbers look in a table: with their unit, and an em dash for what was not measured."""

from collections.abc import Iterable

from fleet.energy import Total

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


def energy(totals: Iterable[Total]) -> str:
    """Each total by itself, with its quality, scope and sources; "+" where windows are missing from it."""
    return ", ".join(_total(t) for t in totals if t.joules is not None) or NOT_MEASURED


def _total(t: Total) -> str:
    more = "+" if t.missing else ""
    return f"{joules(t.joules)}{more} ({named(t)})"


def named(t: Total) -> str:
    """What a total is made of, e.g. "measured, package: nvml_energy+rapl"."""
    return f"{t.quality}, {t.scope}: {'+'.join(t.techniques)}"


def rate(bps: float) -> str:
    """Bits per second in powers of 1000."""
    for unit, size_ in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bps >= size_:
            return f"{bps / size_:.3g} {unit}"
    return f"{bps:.3g} bit/s"


def milliseconds(value_s: float) -> str:
    """A delay."""
    return f"{1000 * value_s:.3g} ms"
