"""What every lever looks like to the one who pulls it."""

from typing import Protocol

from fleet.domain import LeverInfo
from fleet.errors import WattbedError

WATTS = "W"
HERTZ = "Hz"


class LeverStuck(WattbedError):
    """A lever could not be set or put back; the message says why."""


class Lever(Protocol):
    """Something of this host that can be set. Every call may block, and raises LeverStuck or OSError."""

    @property
    def info(self) -> LeverInfo:
        """Its name, unit and the device's own bounds."""

    def original(self) -> dict[str, str]:
        """All that `restore` needs, as it stands now."""

    def apply(self, value: float) -> float:
        """Sets the lever to `value`, which is within its bounds, and returns what the device says it is now."""

    def restore(self, original: dict[str, str]) -> None:
        """Puts everything back as `original` says."""
