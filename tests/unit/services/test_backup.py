"""A backup of a coordinator that runs, and what becomes of it elsewhere."""

import asyncio
import contextlib
import io
import json
import tarfile
from dataclasses import replace

import pytest
import xxhash

from coordinator import backup
from coordinator.hold import HOLD, Hold
from coordinator.server import run
from fleet.domain import Heartbeat
from fleet.errors import BadRequest, BrokenArchive

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def serving(settings, coordinator_class):
    ready, stopping = asyncio.get_running_loop().create_future(), asyncio.Event()
    served = asyncio.create_task(run(settings, ready, stopping))
    await asyncio.wait([served, ready], return_when=asyncio.FIRST_COMPLETED)
    there = coordinator_class(*(await ready)[:2])
    yield there
    await there.channel.close()
    stopping.set()
    await served


async def deliver(device, task):
    await device.send(Heartbeat(1, 1.0, 1.0, 1))
    payload = await device.train(task)
    await device.put(task, payload, xxhash.xxh3_128(payload).hexdigest())


@pytest.fixture
async def half_way(coordinator, pair):
    """A run whose first update is in."""
    run_id = await coordinator.start()
    await deliver(pair[0], await pair[0].task())
    return run_id


@pytest.fixture
async def archive(half_way, settings, tmp_path):
    path = tmp_path / "backup.tar"
    await asyncio.to_thread(backup.create_file, settings.state, path)
    return path


async def test_a_run_that_is_restored_half_way_goes_on_to_the_same_model(
    coordinator, pair, half_way, archive, settings, tmp_path
):
    before = await coordinator.report(half_way)
    b, a = pair[1], pair[0]
    await deliver(b, await b.task())
    for device in (a, b):
        await deliver(device, await device.task())
    while (await coordinator.report(half_way)).run.phase != "completed":
        await asyncio.sleep(0.02)
    original = await coordinator.report(half_way)

    state = tmp_path / "elsewhere"
    with archive.open("rb") as file:
        backup.restore(file, state)
    async with serving(replace(settings, state=state), type(coordinator)) as restored:
        again = await restored.report(half_way)
        devices = [type(a)(restored, name) for name in ("a", "b")]
        for device in devices:
            await device.attach()
        await deliver(devices[1], await devices[1].task())
        for device in devices:
            task = await device.task()
            await deliver(device, task)
        while (await restored.report(half_way)).run.phase != "completed":
            await asyncio.sleep(0.02)
        ended = await restored.report(half_way)
    assert again.rounds == before.rounds
    assert [r.model_sha256 for r in ended.rounds] == [r.model_sha256 for r in original.rounds]


async def test_nothing_is_deleted_while_a_backup_runs(coordinator, pair, half_way, settings):
    updates = settings.state / "blobs" / half_way / "updates" / "a"
    held = [p for p in updates.iterdir() if len(p.name) == 32]
    with Hold(settings.state / HOLD).held():
        await deliver(pair[1], await pair[1].task())
        await pair[0].send(Heartbeat(2, 1.0, 1.0, 1))
        await pair[0].task()  # of the next round: the updates of the first are used up
        assert held[0].exists()
    for _ in range(200):
        if not held[0].exists():
            break
        await asyncio.sleep(0.02)
    assert not held[0].exists()


async def test_an_archive_is_for_its_owner_only_and_is_never_written_over(archive, settings):
    assert archive.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadRequest, match="is there already"):
        backup.create_file(settings.state, archive)


async def test_a_folder_with_something_in_it_is_left_alone(archive, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with archive.open("rb") as file, pytest.raises(BadRequest, match="is not empty"):
        backup.restore(file, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def cut(data):
    return data[: len(data) * 2 // 3]


def flipped(data):
    at = data.index(b"ModelInitialised") + 3
    return data[:at] + b"X" + data[at + 1 :]


def escaping(data):
    return with_member(data, "../outside")


def surplus(data):
    return with_member(data, "blobs/run/models/extra")


def with_member(data, name):
    """The archive with one more file, before its manifest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for info in old:
            if info.name == backup.MANIFEST:
                more = tarfile.TarInfo(name)
                more.size = 4
                new.addfile(more, io.BytesIO(b"evil"))
            new.addfile(info, old.extractfile(info))
    return out.getvalue()


def of_a_later_wattbed(data):
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for info in old:
            content = old.extractfile(info).read()
            if info.name == backup.MANIFEST:
                content = json.dumps(json.loads(content) | {"format": 99}).encode()
                info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "harm", [cut, flipped, escaping, surplus, of_a_later_wattbed, lambda data: b"no archive" * 99]
)
async def test_of_a_broken_archive_nothing_is_restored(archive, tmp_path, harm):
    with pytest.raises(BrokenArchive):
        backup.restore(io.BytesIO(harm(archive.read_bytes())), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "outside").exists()


async def test_a_blob_that_the_disk_has_damaged_is_not_backed_up_in_silence(half_way, settings, tmp_path):
    (model,) = [p for p in (settings.state / "blobs" / half_way / "models").iterdir() if len(p.name) == 64][:1]
    model.write_bytes(b"\0" + model.read_bytes()[1:])
    with pytest.raises(BrokenArchive, match="the disk has damaged it"):
        backup.create_file(settings.state, tmp_path / "backup.tar")
    assert not (tmp_path / "backup.tar").exists()
