"""Every error wattbed raises on purpose, each with the gRPC status it travels as.

A message says what was wrong and where, with numbers. fleet.rpc turns an error into a status on the
server and the same error back on the client.
"""


class WattbedError(Exception):
    """Root of all errors below. `status` names the gRPC status code it crosses the wire as."""

    status = "UNKNOWN"


class BadRequest(WattbedError):
    """A message lacks something or contradicts itself."""

    status = "INVALID_ARGUMENT"


class BadExperiment(BadRequest):
    """An experiment file has an unknown key, a wrong type or a value out of range."""


class CorruptUpdate(BadRequest):
    """An update's bytes are not a payload, or not one of this model."""


class ProtocolMismatch(WattbedError):
    """The two sides speak different versions of the protocol."""

    status = "FAILED_PRECONDITION"


class IllegalMove(WattbedError):
    """An event that the machine does not allow in its present state."""

    status = "FAILED_PRECONDITION"


class LateUpdate(IllegalMove):
    """An update for a round that is closed."""


class StrangerUpdate(WattbedError):
    """An update or a message from a device that was not asked for it."""

    status = "PERMISSION_DENIED"


class UnknownRun(WattbedError):
    """No run has this id."""

    status = "NOT_FOUND"


class UnknownDevice(WattbedError):
    """No device has this name."""

    status = "NOT_FOUND"


class UnknownBlob(WattbedError):
    """No blob has this address."""

    status = "NOT_FOUND"


class WrongOffset(WattbedError):
    """A transfer starts where the receiver is not."""

    status = "OUT_OF_RANGE"


class StorageFull(WattbedError):
    """The disk has no room; nothing was kept of what did not fit."""

    status = "RESOURCE_EXHAUSTED"


class DataMissing(WattbedError):
    """A data set is not on this machine; the message says where it was looked for and how to get it."""

    status = "FAILED_PRECONDITION"


class DataCorrupt(WattbedError):
    """A data file is not what its name or checksum says."""

    status = "DATA_LOSS"


class PlanFailed(WattbedError):
    """A policy raised or returned a plan that cannot be carried out."""

    status = "INTERNAL"


class AddressInUse(WattbedError):
    """Another process listens where this one should."""

    status = "UNAVAILABLE"


class ShapingFailed(WattbedError):
    """A link could not be emulated; the message has the command and what it said; nothing is left half done."""

    status = "INTERNAL"


class Unreachable(WattbedError):
    """The other side does not answer."""

    status = "UNAVAILABLE"


class Unequipped(WattbedError):
    """This machine lacks a program, an image, memory or a feature that is needed; the message names it."""

    status = "FAILED_PRECONDITION"


class HalfStarted(WattbedError):
    """Some parts of a testbed run and others do not; the message names those that do not."""

    status = "FAILED_PRECONDITION"
