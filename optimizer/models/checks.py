"""Errors for parameters that no formula has an answer to."""

from typing import Any

import numpy as np

from fleet.errors import BadRequest


def positive(owner: Any, *names: str) -> None:
    """BadRequest unless every attribute named is finite and above zero, for all of its entries."""
    _all(owner, names, lambda x: x > 0, "above zero")


def not_negative(owner: Any, *names: str) -> None:
    """BadRequest unless every attribute named is finite and at least zero."""
    _all(owner, names, lambda x: x >= 0, "zero or more")


def _all(owner: Any, names: tuple[str, ...], holds: Any, wanted: str) -> None:
    for name in names:
        values = np.atleast_1d(np.asarray(getattr(owner, name), float))
        wrong = ~(np.isfinite(values) & holds(values))
        if wrong.any():
            at = int(np.argmax(wrong))
            where = f"[{at}]" if values.size > 1 else ""
            raise BadRequest(f"{type(owner).__name__}.{name}{where} is {values[at]:g}; it must be {wanted}")
