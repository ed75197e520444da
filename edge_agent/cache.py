"""Models on disk by their sha256: whole ones checked before use, half ones kept so that a download resumes."""

import hashlib
import os
from pathlib import Path
from types import TracebackType

from fleet.errors import DataCorrupt

PARTIAL = ".partial"


class Incoming:
    """A payload on its way in: bytes are appended and hashed once, as they come."""

    def __init__(self, partial: Path, sha256: str) -> None:
        self._partial = partial
        self._sha256 = sha256
        self._file = partial.open("a+b")
        self._file.seek(0)
        self._hash = hashlib.file_digest(self._file, "sha256")
        self.held_bytes = self._file.tell()

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, data: bytes | memoryview) -> None:
        """Adds the next bytes."""
        self._file.write(data)
        self._hash.update(data)
        self.held_bytes += len(data)

    def commit(self) -> Path:
        """Makes the payload findable; DataCorrupt, and nothing kept, when its bytes are not those of its name."""
        self._file.close()
        if self._hash.hexdigest() != self._sha256:
            self._partial.unlink()
            raise DataCorrupt(
                f"model {self._sha256}: the {self.held_bytes} bytes received have sha256 {self._hash.hexdigest()}"
            )
        return self._partial.replace(self._partial.with_suffix(""))


class ModelCache:
    """The `keep` models last used, in a folder of files named by sha256."""

    def __init__(self, folder: Path, keep: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._keep = keep
        self._verified: set[str] = set()

    def find(self, sha256: str) -> Path | None:
        """The model's file, if it is here and its bytes still have that hash; a spoilt file is removed."""
        path = self._folder / sha256
        if not path.exists():
            return None
        if sha256 not in self._verified:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
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
                other.unlink()
        return Incoming(partial, sha256)

    def admit(self, incoming: Incoming) -> Path:
        """Commits `incoming` (DataCorrupt as there) and drops the models not used for longest."""
        path = incoming.commit()
        self._verified.add(path.name)
        os.utime(path)
        models = [p for p in self._folder.iterdir() if p.suffix != PARTIAL]
        for old in sorted(models, key=lambda p: p.stat().st_mtime_ns)[: -self._keep]:
            old.unlink()
            self._verified.discard(old.name)
        return path
