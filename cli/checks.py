"""One finding of the doctor."""

from dataclasses import dataclass
from enum import StrEnum


class Finding(StrEnum):
    """How a check came out. Only BROKEN keeps wattbed from running; UNKNOWN could not be looked at."""

    OK = "ok"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    BROKEN = "broken"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `detail` says what was found, or why it is missing."""

    subject: str
    finding: Finding
    detail: str
