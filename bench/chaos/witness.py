"""What must hold whatever happened, read from the log itself and from what agents and operators were told.

The log is read as a file, by another connection than the coordinator's: what is there is there.
"""

import json
import re
import sqlite3
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

SLACK_S = 3.0
"""A deadline is kept if the round closes within this after it, or after the coordinator came back."""

_ACKNOWLEDGED = re.compile(r"(\S+) round (\d+): \d+ bytes up")
_JOULES = re.compile(r"^(wattbed_(?:assignment|predicted)_energy_joules_total\{[^}]*\}) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    seq: int
    at_s: float
    kind: str
    body: dict[str, Any]


@dataclass
class Findings:
    """What was checked, and each thing that does not hold."""

    rounds: int = 0
    acknowledged: int = 0
    windows: int = 0
    broken: list[str] = field(default_factory=list)


def entries(log: Path, run: str | None = None) -> list[Entry]:
    """The log, of one run with what belongs to none, in order."""
    db = sqlite3.connect(f"file:{log}?mode=ro", uri=True)
    try:
        query = "SELECT seq, at_s, kind, body FROM events WHERE ? IS NULL OR run IS NULL OR run = ? ORDER BY seq"
        return [
            Entry(seq, at_s, kind, json.loads(body)) for seq, at_s, kind, body in db.execute(query, (run, run))
        ]
    finally:
        db.close()


def counted(log: Path, run: str) -> Counter[str]:
    """How many events of each kind the run has; none where there is no log yet."""
    query = "SELECT kind, count(*) FROM events WHERE run = ? GROUP BY kind"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as db:
        return Counter(dict(db.execute(query, (run,))))
    return Counter()


def models(story: list[Entry]) -> dict[int, str]:
    """The sha256 of each round's model."""
    return {e.body["round"]: e.body["sha256"] for e in story if e.kind == "ModelAggregated"}


def acknowledged(run: str, said: dict[str, str]) -> set[tuple[int, str]]:
    """(round, device) of every update that an agent says the coordinator took. `said`: the agents' logs."""
    found = set()
    for device, text in said.items():
        found |= {(int(m[2]), device) for m in _ACKNOWLEDGED.finditer(text) if m[1] == run}
    return found


def examine(log: Path, run: str, said: dict[str, str]) -> Findings:
    """Every invariant that the log of one run must keep."""
    story, found = entries(log, run), Findings()
    received = Counter((e.body["round"], e.body["device"]) for e in story if e.kind == "UpdateReceived")
    failed = {e.body["round"] for e in story if e.kind == "RoundFailed"}
    made = models(story)
    counted = Counter(
        (e.body["round"], device) for e in story if e.kind == "RoundClosed" for device in e.body["devices"]
    )
    found.rounds = len(made)
    told = acknowledged(run, said)
    found.acknowledged = len(told)
    for place in told:
        if place[0] not in failed and counted[place] != 1:
            found.broken.append(f"{place} was acknowledged and is {counted[place]} times in an aggregate")
    found.broken += [f"{place} is {times} times in the log" for place, times in received.items() if times != 1]
    found.broken += [f"{place} is aggregated and never came" for place in counted if place not in received]
    windows = Counter(e.body["measured"]["window"] for e in story if e.kind == "EnergyMeasured")
    found.windows = len(windows)
    found.broken += [f"window {w} is {times} times in the log" for w, times in windows.items() if times != 1]
    found.broken += _late(story)
    found.broken += [f"round {r} was aggregated twice" for r, n in _aggregations(story).items() if n != 1]
    found.broken += _backwards(story)
    check = sqlite3.connect(f"file:{log}?mode=ro", uri=True).execute("PRAGMA integrity_check").fetchone()[0]
    if check != "ok":
        found.broken.append(f"the log is damaged: {check}")
    return found


def _aggregations(story: list[Entry]) -> Counter[int]:
    return Counter(e.body["round"] for e in story if e.kind == "ModelAggregated")


def _late(story: list[Entry]) -> list[str]:
    """Rounds that were open for longer than until their deadline, though somebody was there to close them."""
    starts = [e.at_s for e in story if e.kind == "CoordinatorStarted"]
    deadlines = {e.body["round"]: e.body["deadline_at_s"] for e in story if e.kind == "RoundOpened"}
    late = []
    for e in story:
        if e.kind in ("RoundClosed", "RoundFailed") and e.body["round"] in deadlines:
            due_s = deadlines[e.body["round"]]
            back_s = next((s for s in starts if s > due_s), due_s)
            if e.at_s > max(due_s, back_s if back_s <= e.at_s else due_s) + SLACK_S:
                late.append(f"round {e.body['round']} ended {e.at_s - due_s:.1f} s after its deadline")
    return late


def _backwards(story: list[Entry]) -> list[str]:
    return [
        f"event {b.seq} is {a.at_s - b.at_s:.3f} s before event {a.seq}"
        for a, b in pairwise(story)
        if b.at_s < a.at_s
    ]


class JoulesWatch:
    """Scrapes the coordinator again and again; `fell` are counters of joules that went back."""

    def __init__(self, http: str, every_s: float = 0.3) -> None:
        self.fell: list[str] = []
        self.scrapes = 0
        self._url = f"http://{http}/metrics"
        self._every_s = every_s
        self._seen: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "JoulesWatch":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                with urllib.request.urlopen(self._url, timeout=2) as answer:
                    page = answer.read().decode()
            except OSError:
                continue
            self.scrapes += 1
            for name, value in _JOULES.findall(page):
                # A sum over the log made anew adds the same numbers in the same order.
                if float(value) < self._seen.get(name, 0.0):
                    self.fell.append(f"{name}: {self._seen[name]} became {value} at {time.time():.1f}")
                self._seen[name] = float(value)
