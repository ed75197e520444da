"""One owner per counter per host: two processes that each report the whole package report it twice.

The lock is on the host's own sysfs, so it also holds between containers that have it mounted. It ends with the
process.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from edge_agent.energy.counter import Rejected, SourceInfo, Tracker
from edge_agent.energy.meter import MODEL

OWNED = "another process of this host owns its counters"
FIX = (
    "Start `python -m edge_agent.meterd` once on the host and give every agent "
    "WATTBED_METER=/run/wattbed/meter.sock"
)

COVERING = ("cpu", "board", "wall")
"""A meter of one of these makes the model of the device needless."""


def claim(host_sys: Path) -> bool:
    """Makes this process the owner of the counters of this host until it ends; False if another one is.

    The descriptor that holds the lock is never closed.
    """
    folder = host_sys / "class"
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True  # no sysfs there: nothing of it can be counted twice
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return False
    return True


def owned(
    trackers: Sequence[Tracker], rejected: Sequence[Rejected], host_sys: Path
) -> tuple[tuple[Tracker, ...], tuple[Rejected, ...]]:
    """The trackers this process may use. Where another one owns the host's counters only the model is left.

    Where a meter covers the processor, the board or the wall, the model is left out: it never stands in
    for a meter.
    """
    real = [tracker for tracker in trackers if tracker.info.kind != MODEL]
    models = [tracker for tracker in trackers if tracker.info.kind == MODEL]
    if real and not claim(host_sys):
        rejected = (*rejected, *(Rejected(tracker.info.id, OWNED, FIX) for tracker in real))
        real = []
    covered = covers([tracker.info for tracker in real])
    return (*real, *(() if covered else models)), tuple(rejected)


def covers(sources: Sequence[SourceInfo]) -> bool:
    """Whether a meter among `sources` covers the processor or more."""
    return any(source.kind != MODEL and source.component in COVERING for source in sources)
