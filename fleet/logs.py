"""What a process says about itself: lines of text or of JSON, to stderr or to a file that does not grow for ever.

    WATTBED_LOG_LEVEL   DEBUG, INFO, WARNING, ERROR       INFO  (WATTBED_LOG is the old name)
    WATTBED_LOG_FORMAT  text or json                      text
    WATTBED_LOG_FILE    a file; it is rotated             unset: stderr
    WATTBED_LOG_BYTES   size at which it is rotated       10000000
    WATTBED_LOG_KEPT    old files that are kept           5

Whatever is logged inside `fields(run=..., round=..., device=...)` carries these, also in tasks begun there.
Secrets are blacked out in whatever a library or an exception says: join tokens, private keys, passwords, bearers.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fleet.errors import BadRequest

FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
BLACK = "[secret]"

_SECRETS = (
    re.compile(r"\bwattbed\d+\.[A-Za-z0-9_.=-]{16,}"),  # a join token (fleet.identity)
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?<=bearer )[^\s'\",]+", re.IGNORECASE),
    re.compile(
        r"(?<=\b(?:secret|passwd)[=:])\s*[^\s'\",}]+|(?<=\b(?:password)[=:])\s*[^\s'\",}]+|(?<=\btoken=)[^\s'\",}]+",
        re.IGNORECASE,
    ),
)
_fields: ContextVar[Mapping[str, str | int]] = ContextVar("fields", default={})  # noqa: B039 (never written to)


@dataclass(frozen=True)
class LogSettings:
    """How and where to log. `file` None: to stderr. A file is rotated at `most_bytes`; `kept` old ones stay."""

    level: str = "INFO"
    format: str = "text"
    file: Path | None = None
    most_bytes: int = 10_000_000
    kept: int = 5


def settings(environ: Mapping[str, str]) -> LogSettings:
    """What the environment says; BadRequest names what is wrong."""
    level = (environ.get("WATTBED_LOG_LEVEL") or environ.get("WATTBED_LOG") or "INFO").upper()
    if level not in LEVELS:
        raise BadRequest(f"WATTBED_LOG_LEVEL = {level!r}: not one of {', '.join(LEVELS)}")
    shape = environ.get("WATTBED_LOG_FORMAT") or "text"
    if shape not in FORMATS:
        raise BadRequest(f"WATTBED_LOG_FORMAT = {shape!r}: not text or json")
    numbers = {}
    for name, standard in (("WATTBED_LOG_BYTES", "10000000"), ("WATTBED_LOG_KEPT", "5")):
        given = environ.get(name) or standard
        if not given.isdecimal() or int(given) < 1:
            raise BadRequest(f"{name} = {given!r}: not a whole number, 1 or more")
        numbers[name] = int(given)
    file = environ.get("WATTBED_LOG_FILE")
    return LogSettings(level, shape, Path(file) if file else None, *numbers.values())


def set_up(wanted: LogSettings) -> None:
    """Has the whole process log this way. BadRequest where the file cannot be written."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if wanted.file is not None:
        try:
            wanted.file.parent.mkdir(parents=True, exist_ok=True)
            handler = RotatingFileHandler(
                wanted.file, maxBytes=wanted.most_bytes, backupCount=wanted.kept, encoding="utf-8"
            )
        except OSError as error:
            raise BadRequest(f"WATTBED_LOG_FILE = {wanted.file}: {error.strerror}") from error
    handler.setFormatter(JsonLines() if wanted.format == "json" else Text())
    logging.basicConfig(level=wanted.level, handlers=[handler])


@contextmanager
def fields(**more: str | int | None) -> Iterator[None]:
    """Whatever is logged inside carries `more`; those that are None are left out."""
    token = _fields.set({**_fields.get(), **{k: v for k, v in more.items() if v is not None}})
    try:
        yield
    finally:
        _fields.reset(token)


def without_secrets(text: str) -> str:
    """`text` with what looks like a secret blacked out."""
    for secret in _SECRETS:
        text = secret.sub(BLACK, text)
    return text


class Text(logging.Formatter):
    """A line for people; the fields at its end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without its traceback."""
        carried = "".join(f" {name}={value}" for name, value in _carried(record).items())
        return super().formatMessage(record) + (f" [{carried.strip()}]" if carried else "")

    def format(self, record: logging.LogRecord) -> str:
        """The line, without secrets."""
        return without_secrets(super().format(record))


class JsonLines(logging.Formatter):
    """An object per line: at, level, logger, message, the fields, and `error` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without secrets."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, str | int] = {
            "at": at,
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        line |= _carried(record)
        if record.exc_info:
            line["error"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _carried(record: logging.LogRecord) -> Mapping[str, str | int]:
    """The fields of where a line was logged. Formatted there too: handlers here have no queue."""
    return _fields.get()
