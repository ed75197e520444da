"""Logs of every version that was released open in this one, and say the same."""

import re
import sqlite3
from pathlib import Path

import pytest

from coordinator.events import TimePassed
from coordinator.ledger import RunLedger
from coordinator.machine import RunPhase, fold
from coordinator.migrations import STEPS, VERSION, version_of
from coordinator.store import Store
from fleet.errors import NewerStore, WattbedError

RELEASED = Path(__file__).parents[2] / "fixtures" / "released"
VERSIONS = sorted(p.stem for p in RELEASED.glob("*.sql"))


@pytest.fixture(params=VERSIONS)
def old(request, tmp_path):
    """A log as that version left it."""
    path = tmp_path / "log.sqlite"
    db = sqlite3.connect(path)
    db.executescript((RELEASED / f"{request.param}.sql").read_text())
    db.close()
    return path


def test_a_log_of_every_released_version_says_the_same_after_it_was_taken_on(old):
    lines = sqlite3.connect(old).execute("SELECT seq, at_s, kind, body FROM events ORDER BY seq").fetchall()
    store = Store(old)
    run = next(iter(fold(store.events()).runs.values()))
    ledger = RunLedger()
    for event in store.events(run.run):
        ledger.add(event)
    delivered = {(p.round, d, line.status) for p in ledger.pages.values() for d, line in p.lines.items()}
    assert (run.phase, run.round) == (RunPhase.COMPLETED, 2)
    assert delivered == {(round, device, "arrived") for round in (1, 2) for device in ("agent-1", "agent-2")}
    assert [(e.seq, e.at_s, e.kind, e.json) for e in store.read()] == lines


def test_it_has_the_schema_of_a_new_log_then_and_is_written_on(old, tmp_path):
    store = Store(old)
    logged = store.append([TimePassed(1e12)])
    store.close()
    Store(tmp_path / "new").close()
    assert logged[0].seq == 48
    assert schema(old) == schema(tmp_path / "new")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sqlite3.connect(old).execute("DELETE FROM events")


def schema(path):
    db = sqlite3.connect(path)
    parts = [re.sub(r"\s+", " ", sql) for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")]
    return version_of(db), db.execute("PRAGMA application_id").fetchone(), sorted(parts)


def test_a_step_that_fails_half_way_leaves_the_log_as_it_was(old, monkeypatch):
    broken = (*STEPS[:1], "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);")
    monkeypatch.setattr("coordinator.migrations.STEPS", broken)
    with pytest.raises(WattbedError, match="nowhere"):
        Store(old)
    db = sqlite3.connect(old)
    assert version_of(db) == 1
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)


def test_a_log_of_a_later_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "log"
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(NewerStore, match=f"schema {VERSION + 1}; this version of wattbed reads up to {VERSION}"):
        Store(path)
    assert version_of(sqlite3.connect(path)) == VERSION + 1


def test_the_database_of_another_program_is_not_taken_for_a_log(tmp_path):
    db = sqlite3.connect(tmp_path / "log")
    db.executescript("CREATE TABLE songs (name); PRAGMA application_id = 7; PRAGMA user_version = 2;")
    db.close()
    with pytest.raises(WattbedError, match="of another program"):
        Store(tmp_path / "log")


def test_a_log_that_was_closed_is_in_one_file(tmp_path):
    store = Store(tmp_path / "log")
    store.append([TimePassed(1.0)])
    store.close()
    assert [p.name for p in tmp_path.iterdir()] == ["log"]
