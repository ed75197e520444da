"""The log: one SQLite file, append-only, durable before anyone hears of it."""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from coordinator.events import Event, RunEnded, from_json, run_of, to_json
from coordinator.migrations import VERSION, migrate
from fleet.domain import LoggedEvent
from fleet.errors import StorageFull, WattbedError

log = logging.getLogger(__name__)


class Store:
    """The log at `path`. One thread may append while others read: readers see whole transactions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            if 0 < (found := migrate(self._db, path)) < VERSION:
                log.info("the log had schema %d and has %d now", found, VERSION)
        except sqlite3.DatabaseError as error:
            raise WattbedError(f"{path}: cannot be used as the log: {error}") from error
        self._readable = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def append(self, events: Sequence[Event]) -> list[LoggedEvent]:
        """Writes all of `events` or none, and gives them back with their numbers.

        StorageFull: the disk has no room, nothing was written.
        """
        rows = [(e.at_s, run_of(e), type(e).__name__, to_json(e)) for e in events]
        logged = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for at_s, run, kind, body in rows:
                cursor = self._db.execute(
                    "INSERT INTO events (at_s, run, kind, body) VALUES (?, ?, ?, ?)", (at_s, run, kind, body)
                )
                logged.append(LoggedEvent(cursor.lastrowid or 0, at_s, kind, body))
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            with suppress(sqlite3.OperationalError):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise StorageFull(f"{self._path}: {len(rows)} events could not be written: {error}") from error
        return logged

    def read(self, run: str | None = None, after_seq: int = 0) -> Iterator[LoggedEvent]:
        """Events after number `after_seq`, of one run or of all, in order."""
        query = "SELECT seq, at_s, kind, body FROM events WHERE seq > ?"
        parameters: tuple[int | str, ...] = (after_seq,)
        if run is not None:
            query, parameters = query + " AND run = ?", (after_seq, run)
        for row in self._readable.execute(query + " ORDER BY seq", parameters):
            yield LoggedEvent(*row)

    def events(self, run: str | None = None) -> Iterator[Event]:
        """The same from the beginning, as events."""
        where, parameters = ("", ()) if run is None else (" WHERE run = ?", (run,))
        for kind, body in self._readable.execute(f"SELECT kind, body FROM events{where} ORDER BY seq", parameters):
            yield from_json(kind, body)

    def ended(self) -> list[str]:
        """The runs that are over, in the order of their ends."""
        query = "SELECT run FROM events WHERE kind = ? ORDER BY seq"
        return [run for (run,) in self._readable.execute(query, (RunEnded.__name__,))]

    def close(self) -> None:
        """Ends the connections; all of the log is in its one file then, unless the disk has no room for that."""
        self._readable.close()
        with suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
