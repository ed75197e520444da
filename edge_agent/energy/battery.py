"""A battery that is discharging: all that the device draws, screen and regulators included.

Nothing else is in it, so its scope is board. While it charges or is full the current says what the charger
does and nothing of the device, so there is no reading then.
"""

import time
from pathlib import Path

from edge_agent.energy.counter import Raw, Rejected, SourceInfo
from edge_agent.energy.reading import Clock, SourceFailed, number, number_or_none, text_or_none
from fleet.domain import Quality

DISCHARGING = "Discharging"
_IDLE = ("Full", "Not charging", "Unknown")


class BatteryPower:
    """Power drawn from the batteries of this device together: some machines empty one after the other."""

    def __init__(self, batteries: tuple[Path, ...], clock: Clock = time.monotonic_ns) -> None:
        self._batteries = batteries
        self._clock = clock
        names = ", ".join(path.name for path in batteries)
        self.info = SourceInfo(
            id="battery",
            kind="battery",
            component="board",
            scope="board",
            quality=Quality.MEASURED,
            min_window_s=10.0,
            detail=f"{names}: the whole device while it runs from its battery; updated every few seconds",
            max_gap_s=5.0,
        )

    def read(self) -> Raw:
        """Watts; SourceFailed("not_discharging") while no battery is or one charges."""
        states = {path: text_or_none(path / "status") or "Unknown" for path in self._batteries}
        discharging = [path for path, state in states.items() if state == DISCHARGING]
        others = [state for state in states.values() if state != DISCHARGING and state not in _IDLE]
        if others or not discharging:
            said = ", ".join(f"{path.name} is {state}" for path, state in states.items())
            raise SourceFailed("not_discharging", said)
        return Raw(sum(_watts(path) for path in discharging), self._clock())


def find(host_sys: Path, clock: Clock = time.monotonic_ns) -> tuple[list[BatteryPower], list[Rejected]]:
    """The batteries below `host_sys` as one source, or why they are none."""
    batteries = tuple(path for path in sorted(host_sys.glob("class/power_supply/*")) if _of_the_device(path))
    if not batteries:
        return [], [Rejected("battery", "no battery")]
    source = BatteryPower(batteries, clock)
    try:
        source.read()
    except (OSError, SourceFailed) as error:
        return [], [Rejected("battery", str(error), "Unplug the charger and start again")]
    return [source], []


def _of_the_device(path: Path) -> bool:
    """A battery that feeds this device: not that of a mouse, and not a USB port that calls itself one."""
    kind = text_or_none(path / "type") or ("Battery" if path.name.startswith("BAT") else "")
    peripheral = text_or_none(path / "scope") == "Device"
    return kind == "Battery" and not peripheral and not path.name.startswith("ucsi-source-psy")


def _watts(path: Path) -> float:
    """Watts out of one battery; some drivers give them a minus."""
    microwatts = number_or_none(path / "power_now")
    if microwatts is not None:
        return abs(microwatts) * 1e-6
    return abs(number(path / "current_now") * number(path / "voltage_now")) * 1e-12
