"""Models on disk by their sha256: whole ones checked before use, half ones kept so that a download resumes.

The coordinator hashed a model once, to name it; here its payload's own CRC-32 is checked, a tenth of the work.
"""

import mmap
import os
from pathlib import Path
from types import TracebackType

import quantizer
from fleet.errors import DataCorrupt
from fleet.partial import Chunk, PartialFile, discard

PARTIAL = ".partial"
SPARE = "spare"
SHA256_DIGITS = 64


class Incoming:
    """A payload on its way in."""

    def __init__(self, partial: Path, spare: Path, sha256: str) -> None:
        self._file = PartialFile(partial, spare)
        self._sha256 = sha256

    @property
    def held_bytes(self) -> int:
        """How much of it is here."""
        return self._file.held_bytes

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, data: Chunk) -> None:
        """Adds the next bytes."""
        self._file.write(data)

    def commit(self) -> Path:
        """Makes the payload findable; DataCorrupt, and nothing kept, when it came damaged."""
        path = self._file.path.with_suffix("")
        self._file.finish(path, sync=False)
        if problem := _damage(path):
            path.unlink()
            raise DataCorrupt(f"model {self._sha256}: of the {self.held_bytes} bytes received, {problem}")
        return path


class ModelCache:
    """The `keep` models last used, in a folder of files named by sha256."""

    def __init__(self, folder: Path, keep: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._keep = keep
        self._verified: set[str] = set()

    def find(self, sha256: str) -> Path | None:
        """The model's file, if it is here and undamaged; a spoilt file is removed."""
        path = self._folder / sha256
        if not path.exists():
            return None
        if sha256 not in self._verified:
            if _damage(path):
                path.unlink()
                return None
            self._verified.add(sha256)
        os.utime(path)
        return path

    def receive(self, sha256: str) -> Incoming:
        """Where the model's bytes go, after those held already. Half downloads of other models are dropped."""
        partial = self._folder / (sha256 + PARTIAL)
        for other in self._folder.glob("*" + PARTIAL):
            if other != partial:
                discard(other)
        return Incoming(partial, self._folder / SPARE, sha256)

    def admit(self, incoming: Incoming) -> Path:
        """Commits `incoming` (DataCorrupt as there) and drops the models not used for longest."""
        path = incoming.commit()
        self._verified.add(path.name)
        os.utime(path)
        models = [p for p in self._folder.iterdir() if len(p.name) == SHA256_DIGITS]
        for old in sorted(models, key=lambda p: p.stat().st_mtime_ns)[: -self._keep]:
            old.rename(self._folder / SPARE)  # the next download writes over it
            self._verified.discard(old.name)
        return path


def _damage(path: Path) -> str | None:
    """What is wrong with the payload at `path`, None when nothing is."""
    if path.stat().st_size == 0:
        return "the payload is empty"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as payload:
        try:
            quantizer.verify(payload)
        except quantizer.PayloadError as error:
            return str(error)
    return None
