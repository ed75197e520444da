"""The schema of the log, version by version. A released step is never edited: what comes next is a new one.

`PRAGMA user_version` says which steps a file has been through. They go forward only, all in one transaction: after
a crash the file is of the old version or of the new one. Bodies of events stay: coordinator.events reads old ones.
"""

import sqlite3
from pathlib import Path

from fleet.errors import NewerStore

APPLICATION = int.from_bytes(b"wtbd", "big")

STEPS = (
    # 1: wattbed 0.1.0
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        at_s REAL NOT NULL,
        run TEXT,
        kind TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_run ON events (run, seq);
    CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
    CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
    """,
    # 2: the file says what it is, so that no other database is taken for a log
    f"PRAGMA application_id = {APPLICATION};",
)
VERSION = len(STEPS)
FIRST_WITH_APPLICATION = 2


def version_of(db: sqlite3.Connection) -> int:
    """Steps that the file has been through."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(db: sqlite3.Connection, path: Path) -> int:
    """Takes the log at `path` to VERSION; the version it had. NewerStore: it is of a later one, and untouched."""
    found = version_of(db)
    if found > VERSION:
        raise NewerStore(
            f"{path} has schema {found}; this version of wattbed reads up to {VERSION}: "
            "start the newer one again, or restore a backup of before"
        )
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if found >= FIRST_WITH_APPLICATION and application != APPLICATION:
        raise sqlite3.DatabaseError("it is the database of another program")
    if found < VERSION:
        steps = "".join(STEPS[found:])
        try:
            db.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return found
