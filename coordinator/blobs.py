"""Models and updates as files named by a digest of their bytes: sha256 of a model, XXH3-128 of an update.

A name in the folder means a whole blob that is on the disk: bytes are written under `partial/` (transfers
from outside, kept when a connection is cut) or `creating/` (our own writes, worthless after a crash),
synced, and only then renamed. Who makes a blob hashes it, once; who receives it checks the payload's own
CRC-32. The file of a dropped blob is kept as `spare` and written over by the next one (see fleet.partial).

All methods block on the disk and may be called from any thread; those on one blob wait for each other.
"""

import mmap
import os
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from coordinator.disk import FULL, free_bytes, in_trouble
from fleet.errors import BadRequest, CorruptUpdate, StorageFull, UnknownBlob, WrongOffset
from fleet.partial import Chunk, PartialFile, discard, held_bytes, write_out


class BlobStore:
    """The blobs in one folder, which belongs to one process."""

    def __init__(self, folder: Path, mapping: "threading.Lock | None" = None) -> None:
        """Makes the folder where it is missing; removes what a crash left of our own writes.

        Stores that share `mapping` have at most one blob mapped between them.
        """
        self.folder = folder
        self._partial_folder = folder / "partial"
        self._creating_folder = folder / "creating"
        for made in (folder, self._partial_folder, self._creating_folder):
            made.mkdir(parents=True, exist_ok=True)
        for leftover in self._creating_folder.iterdir():
            leftover.unlink()
        self._spare = folder / "spare"
        self._partials: dict[str, _Partial] = {}
        self._readers: Counter[str] = Counter()
        self._transfers = threading.Lock()
        self._mapping = mapping or threading.Lock()

    def has(self, digest: str) -> bool:
        """Whether the whole blob is here."""
        return self._file(digest).exists()

    def size(self, digest: str) -> int:
        """Bytes of the blob; UnknownBlob."""
        try:
            return self._file(digest).stat().st_size
        except FileNotFoundError:
            raise UnknownBlob(f"no blob {digest}") from None

    def path(self, digest: str) -> Path:
        """The blob's file, not to be written to; UnknownBlob."""
        self.size(digest)
        return self._file(digest)

    def held(self, digest: str) -> tuple[int, bool]:
        """Bytes held of the blob, and whether that is all of it."""
        with suppress(UnknownBlob):
            return self.size(digest), True
        return held_bytes(self._partial_file(digest)), False

    def others_bytes(self, digest: str) -> int:
        """Bytes held of all other blobs, whole or partial."""
        whole = [f.stat().st_size for f in os.scandir(self.folder) if _is_digest(f.name) and f.name != digest]
        partial = [n for n in os.listdir(self._partial_folder) if _is_digest(n) and n != digest]
        return sum(whole) + sum(held_bytes(self._partial_folder / name) for name in partial)

    def digests(self) -> frozenset[str]:
        """The whole blobs."""
        return frozenset(name for name in os.listdir(self.folder) if _is_digest(name))

    def receive(self, digest: str, size_bytes: int, offset_bytes: int) -> "Receiving":
        """A transfer of a blob of `size_bytes` from `offset_bytes` on; it ends any other of this blob.

        WrongOffset where other than `offset_bytes` bytes are held; StorageFull where the rest has no
        room; CorruptUpdate where more than `size_bytes` are held. Of a whole blob nothing is left to
        write, and `commit` is all there is to do.
        """
        with self._lock(digest):
            held_bytes, complete = self.held(digest)
            if offset_bytes != held_bytes:
                raise WrongOffset(
                    f"blob {digest}: transfer starts at byte {offset_bytes}, but {held_bytes} bytes are held"
                )
            if held_bytes > size_bytes or (complete and held_bytes != size_bytes):
                self._forget(digest)
                raise CorruptUpdate(f"blob {digest}: {size_bytes} bytes announced, {held_bytes} are held")
            missing_bytes = size_bytes - held_bytes
            if missing_bytes > free_bytes(self.folder):
                raise _storage_full(self._partial_file(digest), missing_bytes)
            return Receiving(self, digest, size_bytes, None if complete else self._partial(digest))

    def create(self) -> "Creating":
        """A new blob to write: `with blobs.create() as sink: sink.digest = encode_to(sink, ...)`."""
        return Creating(self.folder, self._creating_folder / secrets.token_hex(8), self._spare)

    def read(self, digest: str, offset_bytes: int, chunk_bytes: int) -> Iterator[bytes]:
        """The blob from `offset_bytes` to its end in chunks of `chunk_bytes`, the last one shorter.

        UnknownBlob and, for an offset beyond the end, WrongOffset are raised here, not by the iterator.
        """
        size_bytes = self.size(digest)
        if not 0 <= offset_bytes <= size_bytes:
            raise WrongOffset(f"blob {digest}: read from byte {offset_bytes}, but it has {size_bytes}")
        return self._chunks(digest, offset_bytes, chunk_bytes)

    def _chunks(self, digest: str, offset_bytes: int, chunk_bytes: int) -> Iterator[bytes]:
        with self._reading(digest), self._file(digest).open("rb", buffering=0) as file:
            file.seek(offset_bytes)
            while chunk := file.read(chunk_bytes):
                yield chunk

    @contextmanager
    def _reading(self, digest: str) -> Iterator[None]:
        """As long as somebody reads a blob, its file is not written over."""
        with self._transfers:
            self._readers[digest] += 1
        try:
            yield
        finally:
            with self._transfers:
                self._readers[digest] -= 1

    @contextmanager
    def mapped(self, digest: str) -> Iterator[memoryview]:
        """The blob's bytes, read-only, until the end of the `with`; UnknownBlob.

        One at a time: mapped pages count as memory of this process, which must not grow with the
        number of updates that arrive together.
        """
        with self._mapping, self._view(digest) as view:
            yield view

    @contextmanager
    def _view(self, digest: str) -> Iterator[memoryview]:
        with self._reading(digest), self.path(digest).open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                yield memoryview(b"")
                return
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            view = memoryview(pages)
            try:
                yield view
            finally:
                # An error on its way up may hold arrays over these pages; the last of those frees them.
                with suppress(BufferError):
                    view.release()
                    pages.close()

    def drop(self, digest: str) -> None:
        """Removes the blob, whole or partial; a transfer of it fails at its next write."""
        with self._lock(digest):
            if self._readers[digest] or self._spare.exists():
                self._file(digest).unlink(missing_ok=True)
            else:
                with suppress(FileNotFoundError):
                    self._file(digest).rename(self._spare)
            self._readers += Counter()  # forgets those at zero
            self._forget(digest)

    def drop_spare(self) -> None:
        """Frees what dropped blobs left to be written over."""
        self._spare.unlink(missing_ok=True)

    def sweep(self, before_s: float) -> int:
        """Removes partials that nobody is sending and that were last written before Unix time `before_s`.

        Returns how many.
        """
        removed = 0
        for name in [n for n in os.listdir(self._partial_folder) if not n.endswith(".held")]:
            with self._lock(name), suppress(FileNotFoundError):
                partial = self._partials.get(name)
                idle = partial is None or partial.owner is None
                if idle and self._partial_file(name).stat().st_mtime < before_s:
                    self._forget(name)
                    removed += 1
        return removed

    def _lock(self, digest: str) -> threading.Lock:
        _checked(digest)
        return self._transfers

    def _file(self, digest: str) -> Path:
        return self.folder / _checked(digest)

    def _partial_file(self, digest: str) -> Path:
        return self._partial_folder / _checked(digest)

    def _partial(self, digest: str) -> "_Partial":
        if digest not in self._partials:
            self._partials[digest] = _Partial(PartialFile(self._partial_file(digest), self._spare, ahead=True))
        return self._partials[digest]

    def _forget(self, digest: str) -> None:
        if partial := self._partials.pop(digest, None):
            partial.owner = None
            partial.file.close()
        discard(self._partial_file(digest))

    def _complete(self, digest: str) -> None:
        partial = self._partials.pop(digest)
        partial.owner = None
        partial.file.finish(self._file(digest), sync=True)
        _sync_folder(self.folder)


@contextmanager
def mapped_together(wanted: Sequence[tuple[BlobStore, str]]) -> Iterator[list[memoryview]]:
    """The bytes of several blobs of stores that share their `mapping`, as `BlobStore.mapped`; UnknownBlob."""
    with ExitStack() as stack:
        if wanted:
            stack.enter_context(wanted[0][0]._mapping)
        yield [stack.enter_context(store._view(digest)) for store, digest in wanted]


def forget_pages(views: Sequence[memoryview]) -> None:
    """Lets go of the memory under mapped blobs; what is read again comes from the page cache."""
    for view in views:
        if isinstance(view.obj, mmap.mmap):
            view.obj.madvise(mmap.MADV_DONTNEED)


@dataclass(eq=False)
class _Partial:
    """What is held of a blob that is not whole yet, and the one transfer that may add to it."""

    file: PartialFile
    owner: "Receiving | None" = None


class Receiving:
    """One transfer of one blob: `write` its chunks in order, then `commit`, or `suspend` to resume later.

    `suspend` after the end of it does nothing, so it may stand in a `finally`.
    """

    def __init__(self, store: BlobStore, digest: str, size_bytes: int, partial: _Partial | None) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        self._store = store
        self._partial = partial
        if partial is not None:
            partial.owner = self

    def write(self, chunk: Chunk) -> None:
        """Appends `chunk`.

        CorruptUpdate and nothing kept where the blob grows beyond its size; WrongOffset where a newer
        transfer has taken over; StorageFull where the disk has no room: what came before is kept.
        """
        with self._store._lock(self.digest):
            file = self._owned()
            if file is None or file.held_bytes + len(chunk) > self.size_bytes:
                self._discard()
                raise CorruptUpdate(f"blob {self.digest}: more than the {self.size_bytes} bytes announced")
            with _room(file.path, self.size_bytes - file.held_bytes):
                file.write(chunk)

    def commit(self) -> None:
        """Makes the blob whole: on return it is on the disk under its name.

        CorruptUpdate and nothing kept where the size differs; WrongOffset and StorageFull as `write`.
        """
        with self._store._lock(self.digest):
            file = self._owned()
            if file is None:
                return
            if file.held_bytes != self.size_bytes:
                self._discard()
                raise CorruptUpdate(
                    f"blob {self.digest}: {file.held_bytes} bytes came, {self.size_bytes} were announced"
                )
            try:
                with _room(file.path, self.size_bytes):
                    self._store._complete(self.digest)
            except BaseException:
                # After a failed sync nobody knows what of it is on the disk.
                file.discard()
                raise

    def suspend(self) -> None:
        """Ends the transfer and keeps what came, for a newer one to go on from."""
        with self._store._lock(self.digest):
            if self._partial is not None and self._partial.owner is self:
                self._partial.owner = None

    def _owned(self) -> PartialFile | None:
        """The partial, None where the blob was whole at the start; WrongOffset where it is no longer ours."""
        if self._partial is None:
            return None
        if self._partial.owner is self:
            return self._partial.file
        held, _ = self._store.held(self.digest)
        raise WrongOffset(f"blob {self.digest}: this transfer was ended, as by a newer one; {held} bytes are held")

    def _discard(self) -> None:
        if self._partial is not None:
            self._store._forget(self.digest)


class Creating:
    """A new blob being written. Who writes knows the `digest` of it all and says so: nothing is hashed twice.

    After an error nothing of it is left.
    """

    digest: str

    def __init__(self, folder: Path, temporary: Path, spare: Path) -> None:
        self.size_bytes = 0
        self._folder = folder
        self._temporary = temporary
        self._spare = spare

    def __enter__(self) -> Self:
        with _room(self._temporary, 0):
            with suppress(FileNotFoundError):
                self._spare.rename(self._temporary)
            self._file = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self

    def write(self, chunk: Chunk) -> int:
        """Appends `chunk` and returns its bytes; StorageFull."""
        size_bytes = memoryview(chunk).nbytes
        with _room(self._temporary, size_bytes):
            _write(self._file, chunk)
        write_out(self._file, self.size_bytes, self.size_bytes + size_bytes)
        self.size_bytes += size_bytes
        return size_bytes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with _room(self._temporary, self.size_bytes):
                    os.ftruncate(self._file, self.size_bytes)
                    os.fdatasync(self._file)
                    self._temporary.rename(self._folder / _checked(self.digest))
                    _sync_folder(self._folder)
        finally:
            os.close(self._file)
            self._temporary.unlink(missing_ok=True)


def _checked(digest: str) -> str:
    """`digest` itself; BadRequest where it is none, so that no name leads out of the folder."""
    if not _is_digest(digest):
        raise BadRequest(f"{digest[:80]!r} is not a digest: 32 or 64 digits of 0-9 and a-f")
    return digest


def _is_digest(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", name) is not None


def _write(file: int, chunk: Chunk) -> None:
    rest = memoryview(chunk)
    if rest.nbytes == 0:
        return
    rest = rest.cast("B")
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _room(path: Path, needed_bytes: int) -> Iterator[None]:
    """Turns the kernel's ways of saying that a disk, a quota or a file takes no more into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _storage_full(path, needed_bytes) from error
        if in_trouble(error):
            raise StorageFull(f"{path}: the disk takes nothing: {error.strerror}") from error
        raise


def _storage_full(path: Path, needed_bytes: int) -> StorageFull:
    free = free_bytes(path.parent)
    return StorageFull(f"{path}: no room for {needed_bytes} more bytes; {free} are free on its disk")
