"""Models to generate with, on disk: as many as fit, those that the coordinator wants kept before others."""

import os
import time
from pathlib import Path

from edge_agent.cache import SHA256_DIGITS, SPARE, Incoming, ModelCache
from fleet.errors import StorageFull


class ModelShelf(ModelCache):
    """The models last used, in at most `storage_bytes`. What is in `kept` goes last."""

    def __init__(self, folder: Path, storage_bytes: int) -> None:
        super().__init__(folder, keep=1)
        self.storage_bytes = storage_bytes
        self.kept: frozenset[str] = frozenset()

    def sha256(self) -> tuple[str, ...]:
        """The models that are here, those used last at the end."""
        return tuple(path.name for path in self._models())

    def held_bytes(self) -> int:
        """Bytes of all of them."""
        return sum(path.stat().st_size for path in self._models())

    def make_room(self, size_bytes: int) -> tuple[str, ...]:
        """Drops models until one of `size_bytes` fits, and says which; StorageFull where it never will."""
        if size_bytes > self.storage_bytes:
            raise StorageFull(f"a model of {size_bytes} bytes; {self.storage_bytes} are for models")
        order = sorted(self._models(), key=lambda p: p.name in self.kept)
        dropped = []
        while order and self.held_bytes() + size_bytes > self.storage_bytes:
            old = order.pop(0)
            old.unlink()
            self._verified.discard(old.name)
            dropped.append(old.name)
        return tuple(dropped)

    def fits_beside_kept(self, size_bytes: int) -> bool:
        """Whether a model fits without dropping one that is to be kept."""
        kept = [p.stat().st_size for p in self._models() if p.name in self.kept]
        return sum(kept) + size_bytes <= self.storage_bytes

    def admit(self, incoming: Incoming) -> Path:
        """Commits `incoming`, for which room was made; DataCorrupt where it came damaged."""
        path = incoming.commit()
        self._verified.add(path.name)
        _touch(path)
        (self._folder / SPARE).unlink(missing_ok=True)
        return path

    def find(self, sha256: str) -> Path | None:
        """The model's file, if it is here and undamaged; it was used now."""
        path = super().find(sha256)
        if path is not None:
            _touch(path)
        return path

    def _models(self) -> list[Path]:
        """The ones used longest ago first."""
        models = [p for p in self._folder.iterdir() if len(p.name) == SHA256_DIGITS]
        return sorted(models, key=lambda p: p.stat().st_mtime_ns)


def _touch(path: Path) -> None:
    """Notes when it was used by a clock that ticks between any two uses; the kernel's does not."""
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns, now_ns))
