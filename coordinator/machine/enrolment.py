"""Tokens and certificates: what their events mean, and which of them cannot be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from coordinator.enrolment.events import (
    CertificateRenewed,
    DeviceDrained,
    DeviceEnrolled,
    DeviceRenamed,
    DeviceRevoked,
    EnrolmentEvent,
    TokenCreated,
    TokenWithdrawn,
)
from fleet.errors import IllegalMove, Revoked, TokenRefused

if TYPE_CHECKING:
    from coordinator.machine.state import State

KEPT_AFTER_S = 7 * 86400.0
"""A token is forgotten so long after it ran out: until then its name explains why it is refused."""


@dataclass(frozen=True)
class Token:
    """A join token that was given out."""

    token: str
    secret_sha256: str
    kind: str | None
    uses: int
    created_at_s: float
    expires_at_s: float
    benchmark: bool
    used: int = 0
    withdrawn: bool = False


@dataclass(frozen=True)
class Enrolment:
    """The certificate of a device. `revoked_at_s` None: it is good."""

    kind: str
    token: str
    key_sha256: str
    at_s: float
    expires_at_s: float
    benchmark: bool
    revoked_at_s: float | None = None
    reason: str = ""
    formerly: tuple[str, ...] = ()


@dataclass(frozen=True)
class Register:
    """Who may come: tokens by their public part, certificates by device, and the device of every key ever seen."""

    tokens: Mapping[str, Token] = field(default_factory=dict)
    devices: Mapping[str, Enrolment] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()

    def of_key(self, key_sha256: str) -> tuple[str, Enrolment] | None:
        """The device that has this key, and its enrolment; None where the key is unknown.

        Revoked: the key was withdrawn, or its device has joined anew with another.
        """
        name = self.keys.get(key_sha256)
        if name is None:
            return None
        enrolment = self.devices[name]
        if enrolment.key_sha256 != key_sha256:
            raise Revoked(f"device {name} joined anew with another key; this one is not taken any more")
        if enrolment.revoked_at_s is not None:
            raise Revoked(f"device {name} was revoked: {enrolment.reason}")
        return name, enrolment

    def is_revoked(self, device: str) -> bool:
        """Whether the certificate of `device` was withdrawn."""
        return device in self.devices and self.devices[device].revoked_at_s is not None


def applied(state: "State", event: EnrolmentEvent) -> "State":
    """The state after `event`. IllegalMove, TokenRefused, Revoked or UnknownDevice: it cannot happen now."""
    register = state.register
    match event:
        case TokenCreated():
            return replace(state, register=_with_token(register, event))
        case TokenWithdrawn():
            token = replace(_known(register, event.token), withdrawn=True)
            return replace(state, register=replace(register, tokens={**register.tokens, event.token: token}))
        case DeviceEnrolled():
            return replace(state, register=_enrolled(register, event))
        case CertificateRenewed():
            found = register.of_key(event.key_sha256)
            if found is None or found[0] != event.device:
                raise IllegalMove(f"device {event.device} has no certificate for the key {event.key_sha256[:12]}")
            renewed = replace(found[1], expires_at_s=event.expires_at_s)
            return replace(state, register=replace(register, devices={**register.devices, event.device: renewed}))
        case DeviceDrained():
            state.device(event.device)
            drained = register.drained | {event.device} if event.drained else register.drained - {event.device}
            return replace(state, register=replace(register, drained=drained))
        case DeviceRevoked():
            good = _good(register, event.device)
            revoked = replace(good, revoked_at_s=event.at_s, reason=event.reason)
            return replace(state, register=replace(register, devices={**register.devices, event.device: revoked}))
        case DeviceRenamed():
            return _renamed(state, event)


def _with_token(register: Register, event: TokenCreated) -> Register:
    if event.token in register.tokens:
        raise IllegalMove(f"there is a token {event.token} already")
    kept = {n: t for n, t in register.tokens.items() if event.at_s < t.expires_at_s + KEPT_AFTER_S}
    token = Token(
        event.token,
        event.secret_sha256,
        event.kind,
        event.uses,
        event.at_s,
        event.expires_at_s,
        event.benchmark,
    )
    return replace(register, tokens={**kept, event.token: token})


def _known(register: Register, name: str) -> Token:
    if name not in register.tokens:
        there_are = ", ".join(list(register.tokens)[-5:]) or "none"
        raise TokenRefused(f"no token {name}; the latest are: {there_are}")
    return register.tokens[name]


def _enrolled(register: Register, event: DeviceEnrolled) -> Register:
    token = register.tokens.get(event.token)
    if token is None or token.secret_sha256 != event.secret_sha256:
        raise TokenRefused(f"the join token {event.token} is not one of this coordinator's")
    if token.withdrawn:
        raise TokenRefused(f"the join token {event.token} was withdrawn")
    if event.at_s >= token.expires_at_s:
        ago_s = event.at_s - token.expires_at_s
        raise TokenRefused(f"the join token {event.token} expired {ago_s:.0f} s ago")
    if token.kind is not None and token.kind != event.kind:
        raise TokenRefused(f"the join token {event.token} is for devices of kind {token.kind}, not {event.kind}")
    before = register.devices.get(event.device)
    _must_be_free_for(register, event, before)
    again = before is not None and (before.token, before.key_sha256) == (event.token, event.key_sha256)
    if not again and token.used >= token.uses:
        raise TokenRefused(f"the join token {event.token} is used up: it was for {token.uses} joining")
    enrolment = Enrolment(
        event.kind,
        event.token,
        event.key_sha256,
        event.at_s,
        event.expires_at_s,
        token.benchmark,
        formerly=before.formerly if before and before.key_sha256 == event.key_sha256 else (),
    )
    return replace(
        register,
        tokens={**register.tokens, token.token: token if again else replace(token, used=token.used + 1)},
        devices={**register.devices, event.device: enrolment},
        keys={**register.keys, event.key_sha256: event.device},
    )


def _must_be_free_for(register: Register, event: DeviceEnrolled, before: Enrolment | None) -> None:
    known = register.of_key(event.key_sha256)
    if known is not None and known[0] != event.device:
        raise IllegalMove(f"the key is that of device {known[0]}; {event.device} needs one of its own")
    if before is not None and before.revoked_at_s is None and before.key_sha256 != event.key_sha256:
        raise IllegalMove(
            f"there is a device {event.device} with another key; if it is gone for good, "
            f"`wattbed devices revoke {event.device}` first, else take another name"
        )


def _good(register: Register, name: str) -> Enrolment:
    enrolment = register.devices.get(name)
    if enrolment is None:
        there_are = ", ".join(sorted(register.devices)[:10]) or "none"
        raise IllegalMove(f"device {name} has no certificate; those that have: {there_are}")
    if enrolment.revoked_at_s is not None:
        raise IllegalMove(f"device {name} was revoked already: {enrolment.reason}")
    return enrolment


def _renamed(state: "State", event: DeviceRenamed) -> "State":
    register, old, new = state.register, event.device, event.to
    enrolment = _good(register, old)
    if new in state.devices or new in register.devices:
        raise IllegalMove(f"there is a device {new} already")
    if old in state.calibrating:
        raise IllegalMove(f"device {old} is being calibrated; rename it when that is over")
    for run in state.runs.values():
        if old in run.shards and not run.phase.ended:
            raise IllegalMove(f"device {old} takes part in run {run.run}; rename it when the run has ended")
    renamed = replace(enrolment, formerly=(*(n for n in enrolment.formerly if n != new), old))
    return replace(
        state,
        devices={
            (new if n == old else n): replace(d, name=new, session=None, changed_at_s=event.at_s)
            if n == old
            else d
            for n, d in state.devices.items()
        },
        calibrated={
            (new if n == old else n): tuple(replace(c, device=new) for c in found) if n == old else found
            for n, found in state.calibrated.items()
        },
        register=replace(
            register,
            devices={(new if n == old else n): renamed if n == old else e for n, e in register.devices.items()},
            keys={k: new if n == old else n for k, n in register.keys.items()},
            drained=frozenset(new if n == old else n for n in register.drained),
        ),
    )
