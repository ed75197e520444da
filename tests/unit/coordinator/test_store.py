import sqlite3

import pytest

from coordinator.events import TimePassed
from coordinator.store import Store
from fleet.errors import StorageFull, WattbedError


def test_what_was_appended_is_read_back_in_order_by_another_process(tmp_path):
    Store(tmp_path / "log").append([TimePassed(1.0), TimePassed(2.0)])
    assert list(Store(tmp_path / "log").events()) == [TimePassed(1.0), TimePassed(2.0)]


@pytest.mark.parametrize("statement", ["UPDATE events SET at_s = 0", "DELETE FROM events"])
def test_the_log_cannot_be_rewritten(tmp_path, statement):
    Store(tmp_path / "log").append([TimePassed(1.0)])
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sqlite3.connect(tmp_path / "log").execute(statement)


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path):
    store = Store(tmp_path / "log")
    store.append([TimePassed(1.0)])
    store._db.execute("PRAGMA max_page_count = 8")
    with pytest.raises(StorageFull, match="5000 events could not be written"):
        store.append([TimePassed(float(i)) for i in range(5000)])
    assert list(store.events()) == [TimePassed(1.0)]


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "log").write_bytes(b"certainly not a database" * 100)
    with pytest.raises(WattbedError, match="cannot be used as the log"):
        Store(tmp_path / "log")
