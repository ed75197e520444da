"""How much of the disk, and of the coordinator's memory, one device may take."""

import shutil
from types import SimpleNamespace

import pytest

from coordinator.blobs import BlobStore
from coordinator.limits import Limits, Use, Uses
from coordinator.sessions import Session
from fleet.domain import HeartbeatAck
from fleet.errors import TooMuch

LARGEST_BYTES = 1000


@pytest.fixture
def blobs(tmp_path, monkeypatch) -> BlobStore:
    """On a disk of 10,000 bytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10_000, free=10_000))
    return BlobStore(tmp_path / "updates")


def use(**limits) -> Use:
    return Uses(Limits(**limits)).of("a", known=True)


def deliver(blobs: BlobStore, device: Use, digit: int, came_bytes: int = LARGEST_BYTES) -> None:
    """One upload of LARGEST_BYTES, of which `came_bytes` come."""
    digest = f"{digit:032x}"
    with device.upload(blobs, digest, LARGEST_BYTES, LARGEST_BYTES):
        receiving = blobs.receive(digest, LARGEST_BYTES, 0)
        receiving.write(bytes(came_bytes))
        if came_bytes == LARGEST_BYTES:
            receiving.commit()
        else:
            receiving.suspend()


def test_a_device_holds_no_more_of_the_disk_than_its_share(blobs):
    device = use(disk_share=0.25, updates_held=100)
    for digit in (1, 2):
        deliver(blobs, device, digit)
    with pytest.raises(TooMuch, match="a would hold 3,000 bytes; its share is 2,500"):
        deliver(blobs, device, 3)
    assert len(blobs.digests()) == 2


def test_nor_more_than_a_few_of_the_largest_updates_however_large_the_disk(blobs):
    device = use(disk_share=1.0, updates_held=3)
    for digit in (1, 2, 3):
        deliver(blobs, device, digit)
    with pytest.raises(TooMuch, match="a would hold 4,000 bytes; its share is 3,000"):
        deliver(blobs, device, 4)


def test_what_is_announced_at_once_counts_before_it_comes(blobs):
    device = use(disk_share=0.25)
    with (
        device.upload(blobs, "1" * 32, LARGEST_BYTES, LARGEST_BYTES),
        device.upload(blobs, "2" * 32, LARGEST_BYTES, LARGEST_BYTES),
        pytest.raises(TooMuch, match="would hold 3,000 bytes"),
        device.upload(blobs, "3" * 32, LARGEST_BYTES, LARGEST_BYTES),
    ):
        pass


def test_uploads_that_were_begun_and_left_make_room_for_one_that_is_sent(blobs):
    device = use(disk_share=0.25)
    for digit in range(1, 9):
        deliver(blobs, device, digit, came_bytes=900)
    deliver(blobs, device, 9)
    assert blobs.has(f"{9:032x}")
    assert blobs.others_bytes(f"{9:032x}") <= 2500 - LARGEST_BYTES


def test_a_device_that_reads_none_of_its_messages_is_ended_and_they_do_not_pile_up():
    session = Session("s", "a", unread_messages=3)
    for number in range(10):
        session.send(HeartbeatAck(number))
    assert (session.ended, session.outgoing.qsize()) == ("3 messages wait to be read", 4)
