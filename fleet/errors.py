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


class UnknownRequest(WattbedError):
    """No request for images has this id."""

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


class TooMuch(WattbedError):
    """A device asks for more than a limit allows, and would again; the message has the limit."""

    status = "RESOURCE_EXHAUSTED"


class TooMany(WattbedError):
    """A device has too much going on at once or calls too often; later the same call may succeed."""

    status = "RESOURCE_EXHAUSTED"


class TooSlow(WattbedError):
    """The other side of a stream neither sent nor read for too long."""

    status = "DEADLINE_EXCEEDED"


class NewerStore(WattbedError):
    """The log was written by a later version of wattbed, and is left as it is."""

    status = "FAILED_PRECONDITION"


class BrokenArchive(WattbedError):
    """A backup lacks something or is not what it says; nothing of it was restored."""

    status = "DATA_LOSS"


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


class Unauthenticated(WattbedError):
    """Who calls has not shown who it is, and the method is not for everyone."""

    status = "UNAUTHENTICATED"


class NotAllowed(WattbedError):
    """It is known who calls, and this is not theirs to do."""

    status = "PERMISSION_DENIED"


class Revoked(NotAllowed):
    """The device's certificate was withdrawn; it may join again with a new token and a new key."""


class TokenRefused(WattbedError):
    """A join token that is unknown, used up, expired, withdrawn or of another kind."""

    status = "PERMISSION_DENIED"


class WrongAuthority(WattbedError):
    """The other side is not the one it should be: another machine answers there. Nothing was sent to it."""

    status = "UNAUTHENTICATED"
