"""Where the blobs of a run stand: its models, each device's updates, and what reports show.

    <folder>/<run>/models   updates/<device>   artifacts

A shelf per device: two devices that send the same bytes never share a file, so dropping one's update
never takes another's.
"""

import math
import re
import threading
from pathlib import Path

from coordinator.blobs import BlobStore
from coordinator.hold import HOLD, Hold
from fleet.errors import BadRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def checked_name(what: str, name: str) -> str:
    """`name`, if it may be the name of a device or run (and so of a file); BadRequest otherwise."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{what} {name[:80]!r}: a name has 1 to 64 letters, digits, dots, dashes or underscores, "
            "and starts with a letter or digit"
        )
    return name


class Shelves:
    """All blob stores under one folder, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hold = Hold(folder.parent / HOLD)
        self._stores: dict[tuple[str, ...], BlobStore] = {}
        self._lock = threading.Lock()
        self._mapping = threading.Lock()

    def models(self, run: str) -> BlobStore:
        """Models, downlink payloads and the server optimiser's state."""
        return self._store(run, "models")

    def updates(self, run: str, device: str) -> BlobStore:
        """What one device sends."""
        return self._store(run, "updates", checked_name("device", device))

    def artifacts(self, run: str) -> BlobStore:
        """Sample grids and the like: kept."""
        return self._store(run, "artifacts")

    def images(self, run: str) -> BlobStore:
        """Images that were asked for."""
        return self._store(run, "images")

    def serving(self, run: str, sha256: str) -> BlobStore:
        """Where the model that images are made with is: a copy of its own, or the last of a run that has ended."""
        copies = self._store(run, "serving")
        return copies if copies.has(sha256) else self.models(run)

    def copy_to_serve(self, run: str, sha256: str, needed: frozenset[str]) -> None:
        """Keeps a copy of a model that the run will drop, and drops copies that are not `needed`."""
        copies, models = self._store(run, "serving"), self.models(run)
        if not copies.has(sha256):
            with copies.create() as sink:
                for chunk in models.read(sha256, 0, 1 << 20):
                    sink.write(chunk)
                sink.digest = sha256
        for old in copies.digests() - needed - {sha256}:
            copies.drop(old)

    def drop(self, run: str, path: str) -> None:
        """Deletes what the machine calls "models/SHA256" or "updates/DEVICE/SHA256"."""
        *shelf, sha256 = path.split("/")
        self._store(run, *shelf).drop(sha256)

    def tidy(self, run: str) -> None:
        """Frees what a run that has ended left: files to be written over, uploads that nobody goes on with, and in
        memory the stores of updates, one for each device.
        """
        for key, store in list(self._stores.items()):
            if key[0] == run:
                store.drop_spare()
                store.sweep(math.inf)
                if key[1] == "updates":
                    with self._lock:
                        self._stores.pop(key, None)

    def _store(self, run: str, *shelf: str) -> BlobStore:
        key = (checked_name("run", run), *shelf)
        with self._lock:
            if key not in self._stores:
                self._stores[key] = BlobStore(self._folder.joinpath(*key), self._mapping)
            return self._stores[key]
