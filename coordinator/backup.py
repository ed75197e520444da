"""Everything a coordinator has, in one file, also while it runs: `python -m coordinator.backup create|restore`.

    log.sqlite       the log as it was at one moment, by SQLite's own backup
    blobs/...        every whole model and update, as named by its digest
    ...              the authority's key and whatever else is in the folder of the state
    manifest.json    at the end: path, bytes and sha256 of each; without it an archive is not whole

The blobs that the copied log speaks of are all there: while a backup runs, nothing is deleted (coordinator.hold).
Half uploads are left out; their agents send them again. The archive has the keys: only its owner may read it.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

import xxhash

from coordinator.hold import HOLD, Hold
from coordinator.migrations import VERSION, version_of
from fleet.errors import BadRequest, BrokenArchive, NewerStore, WattbedError

FORMAT = 1
LOG = "log.sqlite"
MANIFEST = "manifest.json"
BLOBS = "blobs"
LEFT_OUT = {"lock", HOLD, LOG, f"{LOG}-wal", f"{LOG}-shm"}
TRANSIENT = {"partial", "creating", "spare"}
"""What blob stores keep beside whole blobs (coordinator.blobs)."""
RESTORING = ".restoring"
PIECE_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Member:
    """One file of an archive. `mode` are its permissions."""

    path: str
    size_bytes: int
    sha256: str
    mode: int


@dataclass(frozen=True)
class Summary:
    """What an archive has. `schema` is that of its log, `last_event` the number of its last event."""

    events: int
    last_event: int
    schema: int
    files: int
    size_bytes: int
    at_s: float


def create(state: Path, target: BinaryIO) -> Summary:
    """Writes the coordinator in the folder `state` to `target`. BadRequest where there is none."""
    if not (state / LOG).is_file():
        raise BadRequest(f"{state} is not the folder of a coordinator: it has no {LOG}")
    members: list[Member] = []
    with Hold(state / HOLD).held(), tempfile.TemporaryDirectory(prefix="wattbed-backup-") as folder:
        copy = Path(folder) / LOG
        _copy_log(state / LOG, copy)
        summary = _look_into(copy)
        with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            members.append(_add(archive, LOG, copy))
            for path in _files(state):
                members.append(_add(archive, path.relative_to(state).as_posix(), path))
            size_bytes = sum(m.size_bytes for m in members)
            summary = Summary(**asdict(summary) | {"files": len(members), "size_bytes": size_bytes})
            told = {"format": FORMAT, "summary": asdict(summary), "members": [asdict(m) for m in members]}
            text = json.dumps(told, indent=1).encode()
            info = tarfile.TarInfo(MANIFEST)
            info.size, info.mtime, info.mode = len(text), int(summary.at_s), 0o600
            archive.addfile(info, io.BytesIO(text))
    return summary


def create_file(state: Path, target: Path) -> Summary:
    """The same to a file, whole or not at all; BadRequest where there is a file of that name."""
    if target.exists():
        raise BadRequest(f"{target} is there already")
    draft = target.with_name(f".{target.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            summary = create(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return summary


def restore(source: BinaryIO, state: Path) -> Summary:
    """Makes in the folder `state`, which must be empty or missing, the coordinator that an archive has.

    BadRequest: something is there. BrokenArchive, NewerStore: nothing was restored.
    """
    if state.exists() and any(state.iterdir()):
        raise BadRequest(f"{state} is not empty; a backup is restored into an empty folder only")
    made = not state.exists()
    state.mkdir(parents=True, exist_ok=True)
    inside = state / RESTORING
    try:
        inside.mkdir(mode=0o700)
        summary = _unpack(source, inside)
        _take_over(inside, state)
    except BaseException:
        shutil.rmtree(inside, ignore_errors=True)
        if made:
            with suppress(OSError):
                state.rmdir()
        raise
    return summary


def _copy_log(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(target)) as db,
    ):
        live.backup(db)  # all pages in one step: as of one moment
        db.execute("PRAGMA journal_mode = DELETE")


def _look_into(log: Path) -> Summary:
    """What a log has. BrokenArchive where it is damaged; NewerStore."""
    try:
        with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as db:
            schema = version_of(db)
            if schema > VERSION:
                raise NewerStore(f"the log has schema {schema}; this version of wattbed reads up to {VERSION}")
            (problem,) = db.execute("PRAGMA integrity_check").fetchone()
            if problem != "ok":
                raise BrokenArchive(f"the log is damaged: {problem}")
            events, last = db.execute("SELECT count(*), coalesce(max(seq), 0) FROM events").fetchone()
    except sqlite3.DatabaseError as error:
        raise BrokenArchive(f"the log cannot be read: {error}") from error
    return Summary(int(events), int(last), schema, 0, 0, time.time())


def _files(state: Path) -> Iterator[Path]:
    """Every file but the log, in a fixed order."""
    for folder, folders, names in os.walk(state):
        folders[:] = sorted(f for f in folders if f not in TRANSIENT and f != RESTORING)
        for name in sorted(names):
            path = Path(folder) / name
            if path.parent == state and name in LEFT_OUT:
                continue
            if name not in TRANSIENT and path.is_file() and not path.is_symlink():
                yield path


def _add(archive: tarfile.TarFile, name: str, path: Path) -> Member:
    """Puts one file in; BrokenArchive where a blob is not what its name says."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        info = tarfile.TarInfo(name)
        stat = os.fstat(file.fileno())
        info.size, info.mtime, info.mode = stat.st_size, int(stat.st_mtime), stat.st_mode & 0o777
        archive.addfile(info, _Hashing(file, sha256))
    if name.startswith(f"{BLOBS}/") and (problem := _mismatch(path, sha256.hexdigest())):
        raise BrokenArchive(f"{path}: {problem}")
    return Member(name, info.size, sha256.hexdigest(), info.mode)


class _Hashing(io.RawIOBase):
    """Hashes what is read through it."""

    def __init__(self, file: BinaryIO, digest: "hashlib._Hash") -> None:
        self._file, self._digest = file, digest

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._digest.update(data)
        return data


def _mismatch(blob: Path, sha256: str) -> str | None:
    """What is wrong with a blob's name, None where it is the digest of its bytes or no digest at all."""
    if not _DIGEST.fullmatch(blob.name):
        return None
    found = sha256
    if len(blob.name) == 32:
        digest = xxhash.xxh3_128()
        with blob.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
        found = digest.hexdigest()
    return None if found == blob.name else f"its bytes are those of {found}; the disk has damaged it"


def _unpack(source: BinaryIO, folder: Path) -> Summary:
    """All of an archive below `folder`, each file compared with the manifest."""
    found: dict[str, Member] = {}
    manifest = None
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for info in archive:
                content = archive.extractfile(info)
                if content is None or not info.isfile() or manifest is not None:
                    raise BrokenArchive(f"{info.name!r} has no place in a backup")
                if info.name == MANIFEST:
                    manifest = json.loads(content.read())
                    continue
                _check_path(info.name, found)
                found[info.name] = _write(folder / info.name, content, info.name, info.mode & 0o777)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise BrokenArchive(f"the archive is damaged: {error}") from error
    if manifest is None:
        raise BrokenArchive(f"the archive ends before its {MANIFEST}: it is not whole")
    _compare(manifest, found)
    looked = _look_into(folder / LOG)
    return Summary(**asdict(looked) | {k: manifest["summary"][k] for k in ("files", "size_bytes", "at_s")})


def _check_path(name: str, found: dict[str, Member]) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name in found or str(path) != name or "\\" in name:
        raise BrokenArchive(f"{name!r} has no place in a backup")


def _write(path: Path, content: IO[bytes], name: str, mode: int) -> Member:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sha256, size_bytes = hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        while piece := content.read(PIECE_BYTES):
            file.write(piece)
            sha256.update(piece)
            size_bytes += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return Member(name, size_bytes, sha256.hexdigest(), mode)


def _compare(manifest: object, found: dict[str, Member]) -> None:
    try:
        assert isinstance(manifest, dict)
        if manifest["format"] != FORMAT:
            raise BrokenArchive(f"a backup of format {manifest['format']}; this version reads {FORMAT}")
        told = {m["path"]: Member(**m) for m in manifest["members"]}
    except (AssertionError, KeyError, TypeError) as error:
        raise BrokenArchive(f"{MANIFEST} is not one of wattbed: {error!r}") from error
    if LOG not in told:
        raise BrokenArchive(f"the archive has no {LOG}")
    for path in sorted(told.keys() | found.keys()):
        if told.get(path) != found.get(path):
            raise BrokenArchive(f"{path} differs from what {MANIFEST} says of it: {found.get(path)}")


def _take_over(inside: Path, state: Path) -> None:
    """Moves what was unpacked to its place, the log last: a folder without one is no coordinator's."""
    for entry in sorted(inside.iterdir(), key=lambda e: e.name == LOG):
        entry.rename(state / entry.name)
    inside.rmdir()
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(arguments: list[str] | None = None) -> int:
    """The command. `-` for FILE is stdin or stdout. Says in a line of JSON what the archive has."""
    parser = argparse.ArgumentParser(prog="python -m coordinator.backup", description="Backs a coordinator up.")
    parser.add_argument("what", choices=("create", "restore"))
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("state", type=Path, metavar="FOLDER", help="the folder of the coordinator's state")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.what == "create" and chosen.file == "-":
            said, out = create(chosen.state, sys.stdout.buffer), sys.stderr
        elif chosen.what == "create":
            said, out = create_file(chosen.state, Path(chosen.file)), sys.stdout
        elif chosen.file == "-":
            said, out = restore(sys.stdin.buffer, chosen.state), sys.stdout
        else:
            with Path(chosen.file).open("rb") as file:
                said, out = restore(file, chosen.state), sys.stdout
    except (WattbedError, OSError) as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), file=sys.stderr)
        return 2 if isinstance(error, BadRequest) else 1
    print(json.dumps(asdict(said)), file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
