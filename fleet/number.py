"""A float that may be no number."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator


def _from_null(value: Any) -> Any:
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_from_null)]
"""A float of the log that may be NaN or infinite, as the loss of a training that diverged. JSON has no word for
these: the log says null, and that is read as NaN.
"""
