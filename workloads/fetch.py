"""Fetching a data set from a mirror: resumed where it was cut, verified by sha256, then put in place at once.

The mirror is the caller's to name. What is pinned: for CIFAR-10 the sum of the publisher's archive; for
Fashion-MNIST the sums of the IDX files inside the .gz, as in Debian's dataset-fashion-mnist,
because the same files are around in several compressions.
"""

import errno
import gzip
import hashlib
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from fleet.errors import BadRequest, DataCorrupt, DataMissing, StorageFull, Unreachable
from workloads.data import CIFAR

CHUNK = 1 << 20
TIMEOUT_S = 60.0

Progress = Callable[[str, int, int | None], None]
"""Called with (file, bytes done, bytes in all or None if the mirror does not say)."""


@dataclass(frozen=True)
class Source:
    """A file of a mirror. `sha256` is of its bytes, or with `gunzipped` of what they decompress to."""

    file: str
    sha256: str
    gunzipped: bool = False
    members: tuple[str, ...] = ()
    """Files to take out of it, if it is a tar archive."""


def _idx(file: str, sha256: str) -> Source:
    return Source(f"{file}.gz", sha256, gunzipped=True)


SOURCES: dict[str, tuple[str, tuple[Source, ...]]] = {
    "fashion-mnist": (
        "fashion-mnist",
        (
            _idx("train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
            _idx("train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            _idx("t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            _idx("t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        ),
    ),
    "cifar-10": (
        "cifar-10-batches-bin",
        (
            Source(
                "cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                members=tuple(name for files in CIFAR.values() for name in files),
            ),
        ),
    ),
}
"""Of each data set the folder that workloads.data reads it from, and the files it comes in."""


def fetch(name: str, base_url: str, folder: Path, progress: Progress) -> Path:
    """Fetches the data set `name` from below `base_url`; returns the folder it is in, below `folder`.

    Files that are there and whole are not fetched again. Unreachable or DataMissing says which URL did not
    answer and how, DataCorrupt gives both sums, StorageFull the place without room.
    """
    if name not in SOURCES:
        raise BadRequest(f"no data set {name!r} to fetch; known are {', '.join(SOURCES)}")
    if "://" not in base_url:
        raise BadRequest(f"{base_url!r} is not the URL of a mirror; it should begin with https:// or http://")
    home, sources = SOURCES[name]
    target = folder / home
    with _room(target):
        target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if _have(source, target):
            continue
        partial = target / f"{source.file}.part"
        with _room(target):
            _download(f"{base_url.rstrip('/')}/{source.file}", partial, source.file, progress)
            _verify(source, partial)
            if source.members:
                _unpack(source, partial, target)
            else:
                partial.replace(target / source.file)
    return target


def _have(source: Source, target: Path) -> bool:
    if source.members:
        return all((target / member).is_file() for member in source.members)
    path = target / source.file
    return path.is_file() and _sha256(source, path) == source.sha256


def _download(url: str, partial: Path, file: str, progress: Progress) -> None:
    """Appends to `partial` what is still missing of `url`."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            resumed = answer.status == 206
            done = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else None
            with partial.open("ab" if resumed else "wb") as out:
                progress(file, done, total)
                while chunk := answer.read(CHUNK):
                    out.write(chunk)
                    done += len(chunk)
                    progress(file, done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return  # nothing is missing; the checksum will judge what is there
        raise DataMissing(f"{url}: HTTP {error.code} {error.reason}") from error
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{url}: {reason}; what was fetched is kept, ask again to resume") from error
    if total is not None and done < total:
        raise Unreachable(f"{url}: cut after {done} of {total} bytes; they are kept, ask again to resume")


def _verify(source: Source, partial: Path) -> None:
    if (found := _sha256(source, partial)) != source.sha256:
        partial.unlink()
        what = "its content" if source.gunzipped else "the file"
        raise DataCorrupt(f"{source.file}: sha256 of {what} is {found} instead of {source.sha256}; thrown away")


def _sha256(source: Source, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if source.gunzipped else raw
        try:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return f"none ({error})"
    return digest.hexdigest()


def _unpack(source: Source, partial: Path, target: Path) -> None:
    """Takes the members out of a verified archive, each put in place at once, and deletes it."""
    wanted = dict.fromkeys(source.members)
    with tarfile.open(partial) as archive:
        for member in archive:
            name = Path(member.name).name
            if name in wanted and (content := archive.extractfile(member)):
                (target / f"{name}.new").write_bytes(content.read())
                (target / f"{name}.new").replace(target / name)
                del wanted[name]
    if wanted:
        raise DataCorrupt(f"{source.file}: has no {', '.join(wanted)}")
    partial.unlink()


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{folder}: {os.strerror(error.errno)}; what was fetched is kept") from error
        raise
