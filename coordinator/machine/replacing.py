"""`dataclasses.replace` without the constructor: folding a long log is mostly copying with a field changed."""

from typing import Any, TypeVar

T = TypeVar("T")


def replace(value: T, **changes: Any) -> T:
    """A copy of a frozen dataclass, without __post_init__ and slots, with `changes`; TypeError if strange."""
    fields = value.__dict__
    if unknown := changes.keys() - fields.keys():
        raise TypeError(f"{type(value).__name__} has no field {', '.join(sorted(unknown))}")
    copy = object.__new__(type(value))
    copy.__dict__.update(fields)
    copy.__dict__.update(changes)
    return copy
