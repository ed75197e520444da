"""Tokens and certificates in the pure machine."""

import pytest

from coordinator.enrolment.events import (
    CertificateRenewed,
    DeviceDrained,
    DeviceEnrolled,
    DeviceRenamed,
    DeviceRevoked,
    TokenCreated,
    TokenWithdrawn,
)
from coordinator.events import DeviceAttached, from_json, to_json
from coordinator.machine import apply, fold, todo
from fleet.domain import Capabilities
from fleet.errors import IllegalMove, Revoked, TokenRefused, UnknownDevice

ABLE = Capabilities("pi", "cpu", 4, 1 << 30, "x86_64", "0")
CREATED = TokenCreated(1.0, "t", "hash", "pi", 2, 100.0)


def enrolled(device: str, key: str, at_s: float = 2.0, **changes) -> DeviceEnrolled:
    facts = {"kind": "pi", "token": "t", "secret_sha256": "hash", "expires_at_s": 1000.0} | changes
    return DeviceEnrolled(at_s, device, key_sha256=key, **facts)


def attached(device: str) -> DeviceAttached:
    return DeviceAttached(3.0, device, f"stream of {device}", ABLE, None)


@pytest.mark.parametrize(
    "refused",
    [
        enrolled("c", "k3"),
        enrolled("a", "k1", at_s=100.0),
        enrolled("c", "k3", kind="jetson"),
        enrolled("c", "k3", token="other"),
        enrolled("c", "k3", secret_sha256="guessed"),
    ],
    ids=["used up", "expired", "kind", "unknown", "secret"],
)
def test_a_token_is_refused(refused):
    state = fold([CREATED, enrolled("a", "k1"), enrolled("b", "k2")])
    with pytest.raises(TokenRefused):
        apply(state, refused)


def test_asking_again_with_the_same_key_uses_nothing_up():
    state = fold([CREATED, enrolled("a", "k1"), enrolled("a", "k1"), enrolled("a", "k1"), enrolled("b", "k2")])
    assert state.register.tokens["t"].used == 2


def test_a_withdrawn_token_takes_nobody():
    with pytest.raises(TokenRefused, match="withdrawn"):
        fold([CREATED, TokenWithdrawn(2.0, "t"), enrolled("a", "k1")])


def test_a_key_is_of_one_device_only():
    with pytest.raises(IllegalMove, match="key is that of device a"):
        fold([CREATED, enrolled("a", "k1"), enrolled("b", "k1")])


def test_a_revoked_device_can_neither_renew_nor_come_back_with_its_key_but_with_a_new_one():
    state = fold([CREATED, enrolled("a", "k1"), DeviceRevoked(3.0, "a", "stolen")])
    for event in (CertificateRenewed(4.0, "a", "k1", 2000.0), enrolled("a", "k1", at_s=4.0)):
        with pytest.raises(Revoked, match="stolen"):
            apply(state, event)
    after = apply(state, enrolled("a", "k2", at_s=4.0))
    assert after.register.of_key("k2")[0] == "a"
    with pytest.raises(Revoked):
        after.register.of_key("k1")


def test_a_drained_device_is_in_no_plan_and_may_come_back():
    state = fold([CREATED, enrolled("a", "k1"), attached("a"), DeviceDrained(4.0, "a")])
    assert state.register.drained == {"a"}
    assert apply(state, DeviceDrained(5.0, "a", drained=False)).register.drained == frozenset()


def test_only_a_device_that_was_here_is_drained():
    with pytest.raises(UnknownDevice):
        fold([DeviceDrained(1.0, "nobody")])


def test_a_renamed_device_keeps_its_key_and_the_old_name_is_free():
    state = fold([CREATED, enrolled("a", "k1"), attached("a"), DeviceRenamed(4.0, "a", "b")])
    assert list(state.devices) == ["b"]
    assert state.devices["b"].session is None
    assert state.register.of_key("k1") == ("b", state.register.devices["b"])
    assert apply(state, enrolled("a", "k2", at_s=5.0)).register.of_key("k2")[0] == "a"


def test_a_device_is_not_renamed_to_one_that_there_is():
    with pytest.raises(IllegalMove, match="there is a device b"):
        fold([CREATED, enrolled("a", "k1"), attached("a"), attached("b"), DeviceRenamed(4.0, "a", "b")])


def test_events_come_back_from_the_log_as_they_were():
    for event in (CREATED, enrolled("a", "k1"), DeviceDrained(1.0, "a"), DeviceRenamed(1.0, "a", "b")):
        assert from_json(type(event).__name__, to_json(event)) == event


def test_nothing_is_due_because_of_a_token():
    assert todo(fold([CREATED, enrolled("a", "k1"), attached("a")])) == ()
