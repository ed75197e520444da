"""The store keeps exactly the bytes that their name promises, however they come and whatever breaks."""

import errno
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.blobs import BlobStore
from fleet.errors import BadRequest, CorruptUpdate, StorageFull, UnknownBlob, WrongOffset

BODY = bytes(range(256)) * 40
COUNTER_BYTES = 8  # what stands beside a partial is written in one piece
NAME = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def files(store: BlobStore) -> list[str]:
    """Blobs and partials; not the counters beside partials, nor the spare."""
    found = [f for f in store.folder.rglob("*") if f.is_file() and f.suffix != ".held" and f.name != "spare"]
    return sorted(str(f.relative_to(store.folder)) for f in found)


def content(store: BlobStore, name: str = NAME) -> bytes:
    return b"".join(store.read(name, 0, 1000))


def send(store: BlobStore, body: bytes = BODY, name: str = NAME, offset: int = 0) -> None:
    receiving = store.receive(name, len(body), offset)
    for start in range(offset, len(body), 1000):
        receiving.write(body[start : start + 1000])
    receiving.commit()


def send_part(store: BlobStore, upto: int) -> None:
    receiving = store.receive(NAME, len(BODY), 0)
    receiving.write(BODY[:upto])
    receiving.suspend()


class SmallDisk:
    """os.write or os.pwrite on a disk with room for some bytes: it writes what fits, then fails, as the kernel does."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self._write, self._pwrite = os.write, os.pwrite

    def write(self, file: int, data: memoryview) -> int:
        return self._take(self._write(file, self._fitting(data)))

    def pwrite(self, file: int, data: memoryview, offset: int) -> int:
        if len(data) == COUNTER_BYTES:
            return self._pwrite(file, data, offset)
        return self._take(self._pwrite(file, self._fitting(data), offset))

    def _fitting(self, data: memoryview) -> memoryview:
        if not self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return data[: self.room_bytes]

    def _take(self, written: int) -> int:
        self.room_bytes -= written
        return written


def test_what_was_received_can_be_read(blobs: BlobStore) -> None:
    send(blobs)
    assert content(blobs) == BODY


def test_reading_goes_on_from_any_offset(blobs: BlobStore) -> None:
    send(blobs)
    assert list(blobs.read(NAME, len(BODY) - 250, 100)) == [BODY[-250:-150], BODY[-150:-50], BODY[-50:]]


def test_reading_from_beyond_the_end_is_refused_with_both_numbers(blobs: BlobStore) -> None:
    send(blobs)
    with pytest.raises(WrongOffset, match=r"10241, but it has 10240"):
        blobs.read(NAME, len(BODY) + 1, 100)


def test_a_blob_nobody_sent_is_unknown(blobs: BlobStore) -> None:
    for ask in (
        blobs.size,
        blobs.path,
        lambda name: blobs.read(name, 0, 1),
        lambda n: blobs.mapped(n).__enter__(),
    ):
        with pytest.raises(UnknownBlob, match=NAME):
            ask(NAME)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", NAME.upper(), NAME[:-1], NAME + "\n", "partial"])
def test_only_a_digest_is_a_name(blobs: BlobStore, name: str) -> None:
    calls = (
        blobs.has,
        blobs.held,
        blobs.size,
        blobs.path,
        blobs.drop,
        lambda n: blobs.receive(n, 1, 0),
        lambda n: blobs.read(n, 0, 1),
    )
    for call in calls:
        with pytest.raises(BadRequest, match="not a digest"):
            call(name)


def test_a_blob_under_way_is_not_here_yet(blobs: BlobStore) -> None:
    send_part(blobs, 3000)
    assert (blobs.has(NAME), blobs.held(NAME)) == (False, (3000, False))


def test_a_cut_transfer_goes_on_from_where_it_was(blobs: BlobStore) -> None:
    send_part(blobs, 3000)
    send(blobs, offset=3000)
    assert (content(blobs), blobs.held(NAME), files(blobs)) == (BODY, (len(BODY), True), [NAME])


def test_a_cut_transfer_goes_on_after_a_restart(blobs: BlobStore) -> None:
    send_part(blobs, 3000)
    restarted = BlobStore(blobs.folder)
    assert restarted.held(NAME) == (3000, False)
    send(restarted, offset=3000)
    assert content(restarted) == BODY


@given(st.binary(max_size=5000), st.lists(st.integers(1, 2000), max_size=8), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_cutting_into_chunks_and_any_cuts_of_the_connection_give_the_same_blob(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, cuts: list[int], restart: bool
) -> None:
    store = BlobStore(tmp_path_factory.mktemp("blobs"))
    name = hashlib.sha256(body).hexdigest()
    for cut in cuts:
        held, _ = store.held(name)
        receiving = store.receive(name, len(body), held)
        receiving.write(body[held : held + cut])
        receiving.suspend()
        store = BlobStore(store.folder) if restart else store
    receiving = store.receive(name, len(body), store.held(name)[0])
    receiving.write(body[store.held(name)[0] :])
    receiving.commit()
    assert store.path(name).read_bytes() == body


def test_a_transfer_from_the_wrong_place_is_refused_with_both_numbers(blobs: BlobStore) -> None:
    send_part(blobs, 3000)
    with pytest.raises(WrongOffset, match="starts at byte 2000, but 3000 bytes are held"):
        blobs.receive(NAME, len(BODY), 2000)


def test_a_refused_newcomer_does_not_end_the_transfer_under_way(blobs: BlobStore) -> None:
    receiving = blobs.receive(NAME, len(BODY), 0)
    receiving.write(BODY[:3000])
    with pytest.raises(WrongOffset):
        blobs.receive(NAME, len(BODY), 0)
    receiving.write(BODY[3000:])
    receiving.commit()
    assert blobs.has(NAME)


def test_sending_a_whole_blob_again_needs_no_bytes(blobs: BlobStore) -> None:
    send(blobs)
    again = blobs.receive(NAME, len(BODY), len(BODY))
    again.commit()
    again.suspend()
    assert content(blobs) == BODY


def test_adding_to_a_whole_blob_is_refused_and_leaves_it_alone(blobs: BlobStore) -> None:
    send(blobs)
    with pytest.raises(CorruptUpdate, match="more than the 10240 bytes"):
        blobs.receive(NAME, len(BODY), len(BODY)).write(b"x")
    assert content(blobs) == BODY


def test_the_newer_of_two_transfers_wins(blobs: BlobStore) -> None:
    older = blobs.receive(NAME, len(BODY), 0)
    older.write(BODY[:3000])
    newer = blobs.receive(NAME, len(BODY), 3000)
    with pytest.raises(WrongOffset, match="3000 bytes are held"):
        older.write(BODY[3000:4000])
    with pytest.raises(WrongOffset):
        older.commit()
    older.suspend()
    newer.write(BODY[3000:])
    newer.commit()
    assert content(blobs) == BODY


def test_a_late_suspend_of_the_older_leaves_the_newer_alone(blobs: BlobStore) -> None:
    older = blobs.receive(NAME, len(BODY), 0)
    newer = blobs.receive(NAME, len(BODY), 0)
    older.suspend()
    newer.write(BODY)
    newer.commit()
    assert blobs.has(NAME)


def test_too_few_bytes_are_refused_and_nothing_is_kept(blobs: BlobStore) -> None:
    receiving = blobs.receive(NAME, len(BODY), 0)
    receiving.write(BODY[:5000])
    with pytest.raises(CorruptUpdate, match="5000 bytes came, 10240 were announced"):
        receiving.commit()
    assert files(blobs) == []


def test_too_many_bytes_are_refused_and_nothing_is_kept(blobs: BlobStore) -> None:
    receiving = blobs.receive(NAME, 5000, 0)
    receiving.write(BODY[:4000])
    with pytest.raises(CorruptUpdate, match="more than the 5000 bytes announced"):
        receiving.write(BODY[4000:6000])
    assert files(blobs) == []


def test_a_size_that_contradicts_what_is_held_is_refused(blobs: BlobStore) -> None:
    send_part(blobs, 3000)
    with pytest.raises(CorruptUpdate, match="2000 bytes announced, 3000 are held"):
        blobs.receive(NAME, 2000, 3000)


def test_after_a_corrupt_transfer_an_honest_one_succeeds(blobs: BlobStore) -> None:
    receiving = blobs.receive(NAME, 5000, 0)
    with pytest.raises(CorruptUpdate):
        receiving.write(BODY)
    send(blobs)
    assert content(blobs) == BODY


def test_an_upload_that_cannot_fit_is_refused_before_its_first_byte(blobs: BlobStore) -> None:
    with pytest.raises(StorageFull, match=rf"no room for {1 << 60} more bytes; \d+ are free"):
        blobs.receive(NAME, 1 << 60, 0)
    assert files(blobs) == []


def test_a_disk_that_fills_up_keeps_what_came_whole_and_the_transfer_resumes(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiving = blobs.receive(NAME, len(BODY), 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", SmallDisk(2500).pwrite)
        receiving.write(BODY[:2000])
        with pytest.raises(StorageFull, match=rf"{NAME}: no room for 8240 more bytes; \d+ are free"):
            receiving.write(BODY[2000:3000])
        receiving.suspend()
    assert (blobs.held(NAME), (blobs.folder / "partial" / NAME).stat().st_size) == ((2000, False), 2000)
    send(blobs, offset=2000)
    assert content(blobs) == BODY


def test_a_sync_that_fails_for_want_of_room_leaves_nothing(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(StorageFull):
        send(blobs)
    assert files(blobs) == []


def test_any_other_failure_of_the_disk_is_not_called_full(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = os.pwrite

    def broken(file: int, data: memoryview, offset: int) -> int:
        if len(data) == COUNTER_BYTES:
            return honest(file, data, offset)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="Operation not permitted"):
        send(blobs)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_on_a_real_full_disk_a_transfer_waits_until_there_is_room(tiny_disk: Path) -> None:
    store = BlobStore(tiny_disk / "blobs")
    body = os.urandom(40_000)
    name = hashlib.sha256(body).hexdigest()
    receiving = store.receive(name, len(body), 0)
    receiving.write(body[:4096])
    (tiny_disk / "other").write_bytes(bytes(40_000))
    with pytest.raises(StorageFull):
        receiving.write(body[4096:])
    receiving.suspend()
    with pytest.raises(StorageFull, match="no room for 35904 more bytes"):
        store.receive(name, len(body), 4096)
    (tiny_disk / "other").unlink()
    send(store, body, name, offset=4096)
    assert content(store, name) == body


def test_what_we_create_is_named_by_its_bytes(blobs: BlobStore) -> None:
    with blobs.create() as sink:
        sink.write(BODY[:5000])
        sink.write(memoryview(BODY)[5000:])
        sink.digest = NAME
    assert (sink.digest, sink.size_bytes, content(blobs), files(blobs)) == (NAME, len(BODY), BODY, [NAME])


def test_creating_the_same_blob_twice_is_one_blob(blobs: BlobStore) -> None:
    for _ in range(2):
        with blobs.create() as sink:
            sink.write(BODY)
            sink.digest = NAME
    assert files(blobs) == [NAME]


def test_a_creation_that_fails_leaves_nothing(blobs: BlobStore) -> None:
    def break_off() -> None:
        with blobs.create() as sink:
            sink.write(BODY)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert files(blobs) == []


def test_a_creation_on_a_full_disk_leaves_nothing(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", SmallDisk(5000).write)
    with pytest.raises(StorageFull, match="no room for 10240 more bytes"), blobs.create() as sink:
        sink.write(BODY)
    assert files(blobs) == []


def test_after_a_crash_our_half_written_blobs_are_gone_and_uploads_are_not(blobs: BlobStore) -> None:
    send_part(blobs, 3000)
    sink = blobs.create().__enter__()
    sink.write(BODY)
    assert files(BlobStore(blobs.folder)) == [f"partial/{NAME}"]


def test_mapped_bytes_are_the_blob(blobs: BlobStore) -> None:
    send(blobs)
    with blobs.mapped(NAME) as view:
        assert view == BODY


def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    with blobs.create() as sink:
        sink.digest = hashlib.sha256(b"").hexdigest()
    with blobs.mapped(sink.digest) as view:
        assert (sink.digest, bytes(view)) == (hashlib.sha256(b"").hexdigest(), b"")


def test_an_error_that_holds_on_to_mapped_bytes_is_the_error_that_is_seen(blobs: BlobStore) -> None:
    send(blobs)
    held = []

    def break_off() -> None:
        with blobs.mapped(NAME) as view:
            held.append(view[10:20])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()


def test_stores_that_share_the_lock_map_one_blob_at_a_time(tmp_path: Path) -> None:
    one_at_a_time = threading.Lock()
    first, second = (BlobStore(tmp_path / name, one_at_a_time) for name in ("first", "second"))
    send(first)
    send(second)
    mapped = threading.Event()

    def map_second() -> None:
        with second.mapped(NAME):
            mapped.set()

    waiting = threading.Thread(target=map_second)
    with first.mapped(NAME):
        waiting.start()
        early = mapped.wait(0.05)
    waiting.join()
    assert (early, mapped.is_set()) == (False, True)


def test_a_dropped_blob_is_gone_and_its_transfer_fails(blobs: BlobStore) -> None:
    receiving = blobs.receive(NAME, len(BODY), 0)
    receiving.write(BODY[:3000])
    blobs.drop(NAME)
    with pytest.raises(WrongOffset, match="0 bytes are held"):
        receiving.write(BODY[3000:])
    send(blobs)
    blobs.drop(NAME)
    assert files(blobs) == []


def test_a_sweep_takes_old_partials_that_nobody_is_sending(blobs: BlobStore) -> None:
    names = {word: hashlib.sha256(word.encode()).hexdigest() for word in ("idle", "busy", "fresh", "forgotten")}
    sending = {word: blobs.receive(name, 100, 0) for word, name in names.items()}
    for word, receiving in sending.items():
        receiving.write(b"x")
        if word != "busy":
            receiving.suspend()
        if word != "fresh":
            os.utime(blobs.folder / "partial" / names[word], (1000.0, 1000.0))
    assert blobs.sweep(before_s=2000.0) == 2
    assert files(blobs) == sorted(f"partial/{names[word]}" for word in ("busy", "fresh"))


def test_many_devices_send_at_once(blobs: BlobStore) -> None:
    bodies = [os.urandom(300_000) for _ in range(8)]
    names = [hashlib.sha256(b).hexdigest() for b in bodies]
    threads = [threading.Thread(target=send, args=(blobs, b, n)) for b, n in zip(bodies, names, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [content(blobs, n) for n in names] == bodies
