"""What levers were like before anybody touched them, on disk before the first of them moves."""

import json
import os
from pathlib import Path

from fleet.errors import WattbedError


class JournalDamaged(WattbedError):
    """The journal is not one: what it remembered has to be put back by hand."""


class Journal:
    """Original values by lever, in one file that is replaced as a whole. No `path`: kept in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries = {} if path is None else _load(path)

    def entries(self) -> dict[str, dict[str, str]]:
        """What has not been put back yet."""
        return dict(self._entries)

    def remember(self, lever: str, original: dict[str, str]) -> None:
        """Durable when this returns. What is remembered already stays: it is the older one."""
        if lever not in self._entries:
            self._entries[lever] = original
            self._write()

    def forget(self, lever: str) -> None:
        """The lever is as it was."""
        if self._entries.pop(lever, None) is not None:
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        draft = self._path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(self._entries, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _load(path: Path) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(lever): {str(k): str(v) for k, v in original.items()} for lever, original in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise JournalDamaged(f"{path} is not a journal of levers: {error}") from None
