"""Channels of the power monitors INA3221 and INA238, as the kernel's hwmon and iio drivers show them.

A channel is known by the I2C address of its chip and its label; hwmonN moves between boots. Power is signed:
a shunt at rest has an offset, and clamping it would lift the mean. One reading costs about a millisecond on the
I2C bus, so a channel keeps its last one for as long as the chip takes to make another.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.energy.counter import Raw, Rejected
from edge_agent.energy.reading import Clock, SourceFailed, number, number_or_none, reason_of, text_or_none

UNUSED = "NC"
DISABLED = "ENODATA"
"""What the kernel says of a channel that is switched off."""

_ADDRESS = re.compile(r"\d+-00[0-9a-f]{2}")
_HOLD_NS = 20_000_000


class Channel:
    """Power of one rail. `chip` is ina3221 or ina238, `address` its place on the bus (1-0040)."""

    def __init__(
        self, chip: str, address: str, label: str, ask: Callable[[], float], clock: Clock, hold_ns: int = _HOLD_NS
    ) -> None:
        self.chip = chip
        self.address = address
        self.label = label
        self._ask_watts = ask
        self._clock = clock
        self._hold_ns = hold_ns
        self._last: Raw | None = None

    @property
    def id(self) -> str:
        """`ina3221:1-0040/VDD_IN`."""
        return f"{self.chip}:{self.address}/{self.label}"

    def read(self) -> Raw:
        """Watts, at most as old as the chip's own conversion; OSError or SourceFailed when it cannot be read."""
        now_ns = self._clock()
        if self._last is None or now_ns - self._last.at_ns >= self._hold_ns:
            self._last = None
            self._last = Raw(self._ask_watts(), now_ns)
        return self._last


def channels(host_sys: Path, clock: Clock) -> tuple[list[Channel], list[Rejected]]:
    """Every channel below `host_sys` that is wired and enabled, by address and number; and those that fail."""
    found: list[Channel] = []
    rejected: list[Rejected] = []
    seen: set[Path] = set()
    for directory in _chips(host_sys):
        if (real := directory.resolve()) not in seen:
            seen.add(real)
            layout = _iio if directory.name.startswith("iio:") else _hwmon
            for channel in layout(directory, clock):
                reason = _fails(channel)
                if reason is None:
                    found.append(channel)
                elif reason != DISABLED:
                    rejected.append(Rejected(channel.id, f"{channel.label} cannot be read: {reason}"))
    return sorted(found, key=lambda channel: channel.address), rejected


def _chips(host_sys: Path) -> Iterator[Path]:
    """Directories of chips: by class, and by driver where all of /sys is there."""
    yield from sorted(host_sys.glob("class/hwmon/hwmon*"))
    for driver in ("ina3221", "ina238"):
        yield from sorted(host_sys.glob(f"bus/i2c/drivers/{driver}/*/hwmon/hwmon*"))
    for buses in (
        "bus/i2c/drivers/ina3221x/*",
        "class/i2c-adapter/i2c-*/*-00*",
        "class/i2c-dev/i2c-*/device/*-00*",
    ):
        yield from sorted(host_sys.glob(f"{buses}/iio:device*"))


def _hwmon(directory: Path, clock: Clock) -> Iterator[Channel]:
    """The in/curr pairs of an INA3221 (mV, mA), or the power of an INA238 (uW)."""
    chip, address = text_or_none(directory / "name"), _address(directory)
    hold_ns = max(_HOLD_NS, (number_or_none(directory / "update_interval") or 0) * 1_000_000)
    if chip == "ina238":
        label = text_or_none(directory / "power1_label") or text_or_none(directory / "label") or "VIN"
        yield Channel(chip, address, label, lambda: number(directory / "power1_input") * 1e-6, clock, hold_ns)
    if chip != "ina3221":
        return
    for n in (1, 2, 3):  # in4 to in6 are shunt voltages, in7 and curr4 sums of the others
        label = text_or_none(directory / f"in{n}_label") or f"channel{n}"
        if label != UNUSED and number_or_none(directory / f"in{n}_enable") != 0:
            millivolts, milliamperes = directory / f"in{n}_input", directory / f"curr{n}_input"
            yield Channel(chip, address, label, _product(millivolts, milliamperes), clock, hold_ns)


def _iio(directory: Path, clock: Clock) -> Iterator[Channel]:
    """The channels of JetPack 4's driver, in mW."""
    for path in sorted(directory.glob("rail_name_*")):
        label, n = text_or_none(path) or path.name, path.name.rpartition("_")[2]
        if label != UNUSED:
            milliwatts = directory / f"in_power{n}_input"
            yield Channel("ina3221", _address(directory), label, _thousandth(milliwatts), clock)


def _product(millivolts: Path, milliamperes: Path) -> Callable[[], float]:
    return lambda: number(millivolts) * number(milliamperes) * 1e-6


def _thousandth(milliwatts: Path) -> Callable[[], float]:
    return lambda: number(milliwatts) * 1e-3


def _address(directory: Path) -> str:
    """The chip's bus and address; the directory's name where the path does not have them."""
    parts = [*directory.parts, *(directory / "device").resolve().parts, *directory.resolve().parts]
    return next((part for part in reversed(parts) if _ADDRESS.fullmatch(part)), directory.name)


def _fails(channel: Channel) -> str | None:
    """Why a channel cannot be read, None if it can."""
    try:
        channel.read()
    except (OSError, SourceFailed) as error:
        return reason_of(error)
    return None
