"""All levers of a host: who may pull which, who holds which, and how each is put back."""

import logging
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edge_agent.levers.files import cpufreq, devfreq
from edge_agent.levers.gpu import gpus
from edge_agent.levers.journal import Journal
from edge_agent.levers.lever import Lever, LeverStuck
from edge_agent.levers.nvpmodel import nvpmodel
from fleet.domain import LeverInfo, LeverOutcome

log = logging.getLogger(__name__)

ROUNDING = 1e-6
"""A request this much (relative) outside the bounds is on them: it went through a plan and a wire."""


def find_levers(host_sys: Path, nvml: Any = None, root: Path = Path("/")) -> tuple[Lever, ...]:
    """Every lever this host has; `nvml` is pynvml, initialised, or None."""
    found: list[Lever] = [*cpufreq(host_sys), *devfreq(host_sys), *nvpmodel(root)]
    return (*found, *gpus(nvml)) if nvml is not None else tuple(found)


class Board:
    """Pulls levers for holders and puts them back. One lever has one holder at a time. Not for several threads."""

    def __init__(self, levers: Iterable[Lever], allowed: Sequence[str], journal: Journal) -> None:
        self._levers = {lever.info.lever: lever for lever in levers}
        self._allowed = tuple(allowed)
        self._journal = journal
        self._holders: dict[str, str] = {}

    @property
    def infos(self) -> tuple[LeverInfo, ...]:
        """The levers that may be set."""
        return tuple(lever.info for name, lever in self._levers.items() if self._may_set(name))

    def recover(self) -> bool:
        """Puts back what a process before this one left; False when something could not be."""
        outcomes = [self._put_back(name) for name in self._journal.entries()]
        return all(outcomes)

    def set(self, holder: str, name: str, value: float) -> LeverOutcome:
        """What came of it; a lever that fails on the way is put back at once."""
        refusal = self._refusal(holder, name, value)
        if refusal:
            return LeverOutcome(name, value, None, refusal)
        lever = self._levers[name]
        info = lever.info
        try:
            self._journal.remember(name, lever.original())
            self._holders[name] = holder
            applied = lever.apply(min(max(value, info.minimum), info.maximum))
        except (LeverStuck, OSError) as error:
            if self._holders.pop(name, None) is not None:
                self._put_back(name)
            return LeverOutcome(name, value, None, str(error))
        log.info("%s set %s to %g %s (asked for %g)", holder, name, applied, info.unit, value)
        return LeverOutcome(name, value, applied)

    def release(self, holder: str) -> None:
        """Puts back all that `holder` holds."""
        for name in [name for name, by in self._holders.items() if by == holder]:
            del self._holders[name]
            self._put_back(name)

    def close(self) -> None:
        """Puts back everything."""
        for name in list(self._holders):
            del self._holders[name]
            self._put_back(name)

    def _refusal(self, holder: str, name: str, value: float) -> str:
        lever = self._levers.get(name)
        if lever is None:
            return f"this host has no lever {name!r}"
        if not self._may_set(name):
            return f"{name} is not on the list of levers that may be set (WATTBED_LEVERS)"
        other = self._holders.get(name)
        if other is not None and other != holder:
            return f"{name} is held by {other}"
        if other is None and name in self._journal.entries():
            return f"{name} could not be put back after it was last set"
        info = lever.info
        slack = ROUNDING * info.maximum
        if not info.minimum - slack <= value <= info.maximum + slack:
            return f"{value:g} {info.unit} is outside {info.minimum:g} to {info.maximum:g}"
        return ""

    def _may_set(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) or name.partition(":")[0] == pattern for pattern in self._allowed)

    def _put_back(self, name: str) -> bool:
        lever = self._levers.get(name)
        original = self._journal.entries().get(name)
        try:
            if lever is None:
                raise LeverStuck("this host has it no more")
            if original is not None:
                lever.restore(original)
        except (LeverStuck, OSError) as error:
            log.error("%s is not as it was, and should be %s: %s", name, original, error)
            return False
        self._journal.forget(name)
        return True
