"""Jetson's power modes, through NVIDIA's own command."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from edge_agent.levers.lever import WATTS, LeverStuck
from fleet.domain import LeverInfo

TIMEOUT_S = 15.0
_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_WATTS = re.compile(r"(\d+)W")


class PowerModes:
    """`nvpmodel`: the power mode with the highest budget that is not above the request.

    Only modes whose name has its watts (15W, MODE_30W_ALL) can be asked for; MAXN has none. A mode that takes
    effect only after a reboot is refused: the command is never told yes.
    """

    def __init__(self, command: str, modes: dict[int, str]) -> None:
        self._command = command
        self._modes = modes
        self._watts = {id: float(found[1]) for id, name in modes.items() if (found := _WATTS.search(name))}
        names = ", ".join(f"{id} {name}" for id, name in sorted(modes.items()))
        budgets = self._watts.values()
        self.info = LeverInfo("nvpmodel", WATTS, min(budgets), max(budgets), f"power modes {names}")

    def original(self) -> dict[str, str]:
        """The present mode."""
        return {"mode": str(self._mode())}

    def apply(self, value: float) -> float:
        """The budget of the mode the device is in now, in watts."""
        fitting = [id for id, watts in self._watts.items() if watts <= value]
        mode = max(fitting, key=lambda id: (self._watts[id], -id))
        self._switch(mode)
        return self._watts[mode]

    def restore(self, original: dict[str, str]) -> None:
        """Back to the mode it had."""
        self._switch(int(original["mode"]))

    def _switch(self, mode: int) -> None:
        if self._mode() == mode:
            return
        said = self._run("-m", str(mode))
        if self._mode() != mode:
            raise LeverStuck(f"nvpmodel stays in mode {self._mode()}: {said.strip()[-200:]}")

    def _mode(self) -> int:
        words = self._run("-q").split()
        if not words or not words[-1].isdecimal():
            raise LeverStuck(f"nvpmodel -q says {' '.join(words)[-200:]!r}, no mode")
        return int(words[-1])

    def _run(self, *arguments: str) -> str:
        try:
            ran = subprocess.run(
                [self._command, *arguments],
                input="NO\n",
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LeverStuck(f"nvpmodel: {error}") from None
        if ran.returncode != 0 and arguments == ("-q",):
            raise LeverStuck(f"nvpmodel -q: {ran.stderr.strip()[-200:]}")
        return ran.stdout + ran.stderr


def nvpmodel(root: Path = Path("/"), command: str | None = None) -> Iterable[PowerModes]:
    """The power modes of etc/nvpmodel.conf below `root`, if the command is there."""
    command = command or shutil.which("nvpmodel")
    try:
        text = (root / "etc/nvpmodel.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    modes = {int(id): name for id, name in _MODE.findall(text)}
    if command is not None and any(_WATTS.search(name) for name in modes.values()):
        yield PowerModes(command, modes)
