"""Where a predicted number comes from."""

from enum import StrEnum


class Origin(StrEnum):
    """Where a predicted number comes from."""

    PRESET = "preset"
    FITTED = "fitted"
