"""What the host uses when nobody works: measured while no agent does anything for long enough, or given."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

QUIET_S = 30.0
QUIET_CORES = 0.05
"""Agents that only wait use less than this many processors on average; with more, somebody works."""

log = logging.getLogger(__name__)


class Baseline:
    """Idle watts by source. The lowest mean of QUIET_S of quiet counts; a given figure is never replaced.

    `path` keeps what was measured over restarts.
    """

    def __init__(self, given: Mapping[str, float], path: Path | None = None, quiet_s: float = QUIET_S) -> None:
        self._given = dict(given)
        self._path = path
        self._quiet_s = quiet_s
        self._measured = _load(path)
        self._quiet_for_s: float | None = None
        self._cpu_s = 0.0
        self._joules: dict[str, float] = {}

    def watts(self, source: str) -> float | None:
        """Idle watts of a source; None while nobody knows."""
        return self._given.get(source, self._measured.get(source))

    def feed(self, seconds: float, quiet: bool, cpu_s: float, joules: Mapping[str, float | None]) -> None:
        """A slice of `seconds`: whether no agent was in a phase, the CPU seconds that agents used all the same,
        and the joules of each source (None: not known)."""
        if not quiet:
            self._quiet_for_s = None
            return
        if self._quiet_for_s is None:  # this slice began before the quiet did
            self._quiet_for_s, self._cpu_s, self._joules = 0.0, 0.0, dict.fromkeys(joules, 0.0)
            return
        self._quiet_for_s += seconds
        self._cpu_s += cpu_s
        self._joules = {
            source: so_far + more
            for source, so_far in self._joules.items()
            if (more := joules.get(source)) is not None
        }
        if self._quiet_for_s >= self._quiet_s:
            if self._cpu_s <= QUIET_CORES * self._quiet_for_s:
                self._keep({source: total / self._quiet_for_s for source, total in self._joules.items()})
            self._quiet_for_s = None

    def _keep(self, found: Mapping[str, float]) -> None:
        lower = {s: w for s, w in found.items() if w >= 0 and w < self._measured.get(s, float("inf"))}
        if not lower:
            return
        self._measured |= lower
        log.info("idle: %s", ", ".join(f"{source} {watts:.3f} W" for source, watts in sorted(lower.items())))
        if self._path is not None:
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(self._measured, indent=1) + "\n", encoding="utf-8")
            os.replace(draft, self._path)


def _load(path: Path | None) -> dict[str, float]:
    if path is None or not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(source): float(watts) for source, watts in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("the idle power kept in %s cannot be read and is measured anew: %s", path, error)
        return {}
