"""The one error of this package."""


class PayloadError(ValueError):
    """Bytes that are not a payload, or not the one that was asked for. The message says what and where."""
