"""What agents and the meter of their host say to each other: one JSON object per packet of a Unix socket.

The socket is SOCK_SEQPACKET, so a packet is a message and nothing has to be framed. An agent opens up to two
connections: one begins with `Hello` and marks phases, the other begins with `Levers` and sets levers. What a
connection did ends with it: its window is closed and its levers are put back.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from edge_agent.energy.counter import Rejected, SourceInfo
from edge_agent.energy.tally import SourceState
from fleet.domain import EnergyReading, LeverInfo, LeverOutcome, Phase, PhaseTotal
from fleet.errors import BadRequest

VERSION = 1
MOST_BYTES = 64 * 1024
MOST_GPUS = 32

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A device as the coordinator knows it. The meter's own rows begin with an underscore."""

Lever = Annotated[str, Field(max_length=128)]
Uuid = Annotated[str, Field(max_length=96)]


@dataclass(frozen=True)
class Hello:
    """An agent joins; with this packet comes the open file of its CPU time. `phase` is the one it is in."""

    agent: Name
    gpus: Annotated[tuple[Uuid, ...], Field(max_length=MOST_GPUS)] = ()
    phase: Phase = Phase.IDLE
    version: int = VERSION
    op: Literal["hello"] = "hello"


@dataclass(frozen=True)
class Begin:
    """A phase begins now."""

    phase: Phase
    op: Literal["begin"] = "begin"


@dataclass(frozen=True)
class End:
    """The phase ends now."""

    op: Literal["end"] = "end"


@dataclass(frozen=True)
class Status:
    """Asks how things stand."""

    op: Literal["status"] = "status"


@dataclass(frozen=True)
class Levers:
    """An agent wants to set levers."""

    agent: Name
    version: int = VERSION
    op: Literal["levers"] = "levers"


@dataclass(frozen=True)
class SetLever:
    """Asks for a lever to be set until it is released or the connection ends."""

    lever: Lever
    value: Annotated[float, Field(allow_inf_nan=False)]
    op: Literal["set"] = "set"


@dataclass(frozen=True)
class Release:
    """All levers of this connection are put back as they were."""

    op: Literal["release"] = "release"


Request = Annotated[Hello | Begin | End | Status | Levers | SetLever | Release, Field(discriminator="op")]


@dataclass(frozen=True)
class Joined:
    """The answer to Hello. `serves_metrics`: the meter's own /metrics has the agents' joules."""

    sources: tuple[SourceInfo, ...]
    rejected: tuple[Rejected, ...]
    serves_metrics: bool
    version: int = VERSION
    op: Literal["joined"] = "joined"


@dataclass(frozen=True)
class Begun:
    """The phase has begun."""

    op: Literal["begun"] = "begun"


@dataclass(frozen=True)
class Ended:
    """The agent's share of every source in the window that has ended."""

    seconds: float
    readings: tuple[EnergyReading, ...]
    op: Literal["ended"] = "ended"


@dataclass(frozen=True)
class Standing:
    """The answer to Status: the agent's shares so far, and the sources of the host."""

    totals: tuple[PhaseTotal, ...]
    states: tuple[SourceState, ...]
    op: Literal["standing"] = "standing"


@dataclass(frozen=True)
class Offered:
    """The answer to Levers: what may be set on this host."""

    levers: tuple[LeverInfo, ...]
    version: int = VERSION
    op: Literal["offered"] = "offered"


@dataclass(frozen=True)
class Outcomes:
    """The answer to SetLever and Release: what came of it."""

    outcomes: tuple[LeverOutcome, ...]
    op: Literal["outcomes"] = "outcomes"


@dataclass(frozen=True)
class Refused:
    """The request was not carried out."""

    reason: str
    op: Literal["refused"] = "refused"


Answer = Annotated[Joined | Begun | Ended | Standing | Offered | Outcomes | Refused, Field(discriminator="op")]

_REQUESTS: TypeAdapter[Any] = TypeAdapter(Request)
_ANSWERS: TypeAdapter[Any] = TypeAdapter(Answer)
_ONE: dict[type, TypeAdapter[Any]] = {}


_SHORT = Begin | End | Status | Begun
_SHORT_BYTES = 64
"""Marks, their answers and the like are few and always the same: they are packed and read once, and nobody waits
for that at the edge of a phase."""


def pack(message: Any) -> bytes:
    """A message as one packet; BadRequest when it is larger than MOST_BYTES."""
    return _pack_short(message) if isinstance(message, _SHORT) else _pack(message)


def request(packet: bytes) -> Any:
    """The request in a packet; BadRequest says what is wrong with it."""
    return (_unpack if len(packet) > _SHORT_BYTES else _unpack_short)(_REQUESTS, packet)


def answer(packet: bytes) -> Any:
    """The answer in a packet; BadRequest says what is wrong with it."""
    return (_unpack if len(packet) > _SHORT_BYTES else _unpack_short)(_ANSWERS, packet)


def _pack(message: Any) -> bytes:
    adapter = _ONE.get(type(message)) or _ONE.setdefault(type(message), TypeAdapter(type(message)))
    packet = adapter.dump_json(message)
    if len(packet) > MOST_BYTES:
        raise BadRequest(f"{type(message).__name__} of {len(packet)} bytes; a message has at most {MOST_BYTES}")
    return packet


def _unpack(adapter: TypeAdapter[Any], packet: bytes) -> Any:
    try:
        return adapter.validate_json(packet)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"a packet of {len(packet)} bytes is no message: {where}: {first['msg']}") from None


_pack_short = lru_cache(maxsize=64)(_pack)
_unpack_short = lru_cache(maxsize=64)(_unpack)
