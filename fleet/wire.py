"""Domain objects to protobuf messages and back: one mirrored pair, by name.

`to_proto(x)` gives the message of fleet.v1 that has the name of x's class; `from_proto(message)` gives
the domain object back. The mirror goes field by field, so a field that exists on one side only is an
error at import, not a silent loss. `None` is an absent optional field. Agent and coordinator messages
travel inside the oneof of an envelope: `envelope(x)` and `unwrap(envelope)`.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any

from google.protobuf.message import Message

from fleet import domain
from fleet.errors import BadRequest
from fleet.v1 import fleet_pb2, operator_pb2

CLASSES: tuple[type, ...] = tuple(
    c
    for c in vars(domain).values()
    if dataclasses.is_dataclass(c)
    and isinstance(c, type)
    and (hasattr(fleet_pb2, c.__name__) or hasattr(operator_pb2, c.__name__))
)
"""Every domain class that crosses the wire."""

_UP = {
    "Hello": "hello",
    "Heartbeat": "heartbeat",
    "Progress": "progress",
    "PhaseMeasured": "phase_measured",
    "TaskFailed": "task_failed",
    "Calibration": "calibration",
    "CalibrationProgress": "calibration_progress",
    "CalibrationGivenUp": "calibration_given_up",
    "GenerationMeasured": "generation_measured",
    "GenerationProgress": "generation_progress",
    "GenerationEnded": "generation_ended",
    "ModelsHeld": "models_held",
    "KeysOffered": "keys_offered",
    "SharesSealed": "shares_sealed",
    "MasksReady": "masks_ready",
    "Revealed": "revealed",
}
_DOWN = {
    "Welcome": "welcome",
    "HeartbeatAck": "heartbeat_ack",
    "Task": "task",
    "Cancel": "cancel",
    "MeasurementAck": "measurement_ack",
    "Calibrate": "calibrate",
    "CancelCalibration": "cancel_calibration",
    "CalibrationAck": "calibration_ack",
    "GenerationTask": "generation_task",
    "CancelGeneration": "cancel_generation",
    "KeepModels": "keep_models",
    "KeysWanted": "keys_wanted",
    "SharesWanted": "shares_wanted",
    "SharesDelivered": "shares_delivered",
    "RevealWanted": "reveal_wanted",
}


@cache
def message_type(cls: Any) -> type[Message]:
    """The protobuf message that mirrors a domain class."""
    for module in (fleet_pb2, operator_pb2):
        if found := getattr(module, cls.__name__, None):
            return typing.cast("type[Message]", found)
    raise TypeError(f"fleet.v1 has no message {cls.__name__}")


@cache
def _fields(cls: Any) -> tuple[tuple[str, type, bool, bool], ...]:
    """(name, element type, repeated, optional) of each field; raises where the mirror is broken."""
    hints = typing.get_type_hints(cls)
    ours = [f.name for f in dataclasses.fields(cls)]
    theirs = {f.name for f in message_type(cls).DESCRIPTOR.fields}
    if set(ours) != theirs:
        raise TypeError(f"{cls.__name__}: fields differ from its message: {sorted(set(ours) ^ theirs)}")
    found = []
    for name in ours:
        hint = hints[name]
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is tuple:
            found.append((name, arguments[0], True, False))
        elif isinstance(hint, types.UnionType):
            found.append((name, next(a for a in arguments if a is not type(None)), False, True))
        else:
            found.append((name, hint, False, False))
    return tuple(found)


def to_proto(x: Any) -> Any:
    """The message that mirrors `x`."""
    values: dict[str, Any] = {}
    cls: Any = type(x)
    for name, kind, repeated, _ in _fields(cls):
        value = getattr(x, name)
        if value is None:
            continue
        convert: Callable[[Any], Any] = to_proto if dataclasses.is_dataclass(kind) else _plain
        values[name] = [convert(v) for v in value] if repeated else convert(value)
    return message_type(cls)(**values)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value


@cache
def _class(message: Any) -> type:
    return typing.cast("type", getattr(domain, message.DESCRIPTOR.name))


def from_proto(message: Any) -> Any:
    """The domain object that `message` mirrors; BadRequest names a field it cannot take."""
    kind_of: Any = type(message)
    cls = _class(kind_of)
    values: dict[str, Any] = {}
    for name, kind, repeated, optional in _fields(cls):
        if optional and not message.HasField(name):
            values[name] = None
        elif repeated:
            values[name] = tuple(_take(cls, name, kind, v) for v in getattr(message, name))
        else:
            values[name] = _take(cls, name, kind, getattr(message, name))
    return cls(**values)


def _take(cls: type, name: str, kind: type, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return from_proto(value)
    if issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(kind)
            raise BadRequest(f"{cls.__name__}.{name} is {value!r}; known are {known}") from None
    return value


def envelope(x: domain.AgentMessage | domain.CoordinatorMessage) -> Any:
    """The AgentMessage or CoordinatorMessage that carries `x`."""
    name = type(x).__name__
    if name in _UP:
        return fleet_pb2.AgentMessage(**{_UP[name]: to_proto(x)})
    return fleet_pb2.CoordinatorMessage(**{_DOWN[name]: to_proto(x)})


def unwrap(message: Any) -> Any:
    """The domain object inside an envelope; BadRequest where it is empty."""
    which = message.WhichOneof("message")
    if which is None:
        raise BadRequest(f"{type(message).__name__} is empty")
    return from_proto(getattr(message, which))
