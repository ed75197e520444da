"""What should work: joining, renewing, renaming, draining, certificates for every name, clocks."""

import asyncio
import contextlib
import json
import ssl
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from coordinator.enrolment import names
from coordinator.enrolment.__main__ import prepare
from coordinator.enrolment.authority import open_authority
from coordinator.enrolment.door import Security
from edge_agent import identity as identities
from edge_agent.join import joined
from edge_agent.renew import Keeper
from fleet import wire
from fleet.calibration import Calibrate
from fleet.domain import Heartbeat
from fleet.errors import BadRequest, Unreachable
from fleet.identity import COORDINATOR_NAME, parse_token
from fleet.tls import host_and_port
from fleet.v1 import enrolment_pb2, operator_pb2

pytestmark = pytest.mark.slow

KIND = "mini-pc-n100"


async def devices(coordinator):
    answer = await coordinator.viewer.ask(
        coordinator.viewer.operator.ListDevices(operator_pb2.ListDevicesRequest())
    )
    return {d.device: wire.from_proto(d) for d in answer.devices}


async def test_a_device_joins_attaches_and_is_shown_with_its_certificate(coordinator, tmp_path):
    token = await coordinator.token(kind=KIND, benchmark=False)
    identity = await coordinator.join(tmp_path, "a", token)
    await coordinator.as_device(identity).attach("a")
    shown = (await devices(coordinator))["a"].enrolled
    assert (identity.coordinator, shown.token) == (coordinator.address, token.token)
    assert shown.expires_at_s == pytest.approx(time.time() + 7 * 86400, abs=60)


async def test_a_device_that_joined_and_never_attached_is_shown_and_can_be_looked_after(coordinator, tmp_path):
    await coordinator.join(tmp_path, "a")
    shown = (await devices(coordinator))["a"]
    assert (shown.capabilities, shown.attached, shown.enrolled.kind) == (None, False, KIND)
    rename = enrolment_pb2.RenameDeviceRequest(device="a", name="b")
    await coordinator.operator.ask(coordinator.operator.administration.RenameDevice(rename))
    revoke = enrolment_pb2.RevokeDeviceRequest(device="b", reason="it was sold")
    answer = await coordinator.operator.ask(coordinator.operator.administration.RevokeDevice(revoke))
    assert wire.from_proto(answer.device) == (await devices(coordinator))["b"]
    assert wire.from_proto(answer.device).enrolled.reason == "it was sold"


async def test_an_identity_that_is_there_is_used_and_the_token_is_not(coordinator, tmp_path):
    token = await coordinator.token()
    first = await coordinator.join(tmp_path, "a", token)
    again = await joined(tmp_path / "a", token, "a", KIND, "127.0.0.1:1", patience_s=0.0)
    assert again.credentials == first.credentials


async def test_another_token_joins_anew_with_the_same_key(coordinator, tmp_path):
    first = await coordinator.join(tmp_path, "a")
    again = await coordinator.join(tmp_path, "a", await coordinator.token())
    assert again.credentials.key_pem == first.credentials.key_pem
    assert again.token != first.token


async def test_a_coordinator_that_is_not_there_is_waited_for_and_then_named(coordinator, tmp_path):
    token = replace(await coordinator.token(), addresses=("127.0.0.1:1",))
    with pytest.raises(Unreachable, match=r"nobody answers at 127\.0\.0\.1:1"):
        await joined(tmp_path / "a", token, "a", KIND, None, patience_s=0.0)


async def test_a_certificate_renews_itself_before_it_runs_out(serving, with_security, tmp_path):
    coordinator = await serving(with_security(device_lives_s=3.0))
    identity = await coordinator.join(tmp_path, "a")
    keeper = Keeper(tmp_path / "a", identity)
    keeping = asyncio.create_task(keeper.keep(lambda: coordinator.address))
    async with asyncio.timeout(20):
        while keeper.identity.expires_at_s < identity.expires_at_s + 3.0:
            await asyncio.sleep(0.05)
    keeping.cancel()
    kept = identities.load(tmp_path / "a")
    assert kept.credentials == keeper.identity.credentials
    assert kept.credentials.key_pem == identity.credentials.key_pem


async def test_a_renamed_device_learns_its_name_and_keeps_its_certificate(coordinator, tmp_path):
    identity = await coordinator.join(tmp_path, "a")
    stream, _ = await coordinator.as_device(identity).attach("a")
    rename = enrolment_pb2.RenameDeviceRequest(device="a", name="bench-1")
    await coordinator.operator.ask(coordinator.operator.administration.RenameDevice(rename))
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await stream.read() is not grpc.aio.EOF:
            pass
    _, welcome = await coordinator.as_device(identity).attach("a")
    _, again = await coordinator.as_device(identity).attach("bench-1")
    assert (welcome.device, again.device) == ("bench-1", None)
    assert list(await devices(coordinator)) == ["bench-1"]


async def test_a_drained_device_says_so_and_is_given_work_again(coordinator, tmp_path):
    await coordinator.as_device(await coordinator.join(tmp_path, "a")).attach("a")
    for drained in (True, False):
        request = enrolment_pb2.DrainDeviceRequest(device="a", drained=drained)
        await coordinator.operator.ask(coordinator.operator.administration.DrainDevice(request))
        assert (await devices(coordinator))["a"].drained is drained


async def test_a_new_device_is_measured_once_if_its_token_says_so(coordinator, tmp_path):
    device = coordinator.as_device(await coordinator.join(tmp_path, "a", await coordinator.token(benchmark=True)))
    stream, _ = await device.attach("a")
    async with asyncio.timeout(10):
        order = wire.unwrap(await stream.read())
    assert isinstance(order, Calibrate)
    assert (order.plan.workload, order.plan.repeats) == ("diffusion", 1)


async def test_the_skew_of_a_clock_is_that_of_the_quickest_heartbeat(coordinator, tmp_path):
    stream, _ = await coordinator.as_device(await coordinator.join(tmp_path, "a")).attach("a")
    for number, late_s in enumerate((5.0, 0.0, 2.0)):
        await stream.write(wire.envelope(Heartbeat(number, time.time() + 3600 - late_s, 0.0, 0)))
        await stream.read()
    assert (await devices(coordinator))["a"].clock_skew_s == pytest.approx(3600, abs=1)


async def test_the_certificate_covers_every_name_and_address(serving, with_security, tmp_path):
    coordinator = await serving(with_security(names=("lab.example", "192.0.2.7")))
    (tmp_path / "ca.pem").write_bytes(coordinator.operator.credentials.authority_pem)
    shown = await asyncio.to_thread(
        ssl.get_server_certificate,
        host_and_port(coordinator.address),
        ca_certs=str(tmp_path / "ca.pem"),
        timeout=10,
    )
    certificate = x509.load_pem_x509_certificate(shown.encode())
    covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    there = {*covered.get_values_for_type(x509.DNSName), *map(str, covered.get_values_for_type(x509.IPAddress))}
    assert {COORDINATOR_NAME, "localhost", "127.0.0.1", "::1", "lab.example", "192.0.2.7"} <= there
    assert set(names.addresses()) <= there


async def test_the_authority_stays_when_the_coordinator_starts_anew(serving, settings, tmp_path):
    coordinator = await serving(settings)
    identity = await coordinator.join(tmp_path, "a")
    await serving.end(coordinator)
    await (await serving(settings)).as_device(identity).attach("a")


async def test_a_token_for_a_testbed_is_kept_in_a_file(serving, with_security, tmp_path):
    coordinator = await serving(with_security(testbed_token=tmp_path / "shared" / "token"))
    async with asyncio.timeout(10):
        while not (tmp_path / "shared" / "token").exists():
            await asyncio.sleep(0.01)
    token = parse_token((tmp_path / "shared" / "token").read_text())
    for name in ("a", "b"):
        await coordinator.join(tmp_path, name, token)


async def test_an_authority_and_a_token_that_were_prepared_are_taken(
    serving, with_security, tmp_path, monkeypatch
):
    certificate, key, path = prepare(tmp_path / "prepared", ("127.0.0.1:1",))
    monkeypatch.setattr("coordinator.enrolment.tokens.os.access", lambda path, mode: False)
    coordinator = await serving(
        with_security(authority_certificate=certificate, authority_key=key, testbed_token=path)
    )
    token = parse_token(path.read_text())
    at = (await coordinator.token()).addresses[0]
    async with asyncio.timeout(10):
        while token.token not in {t.token for t in await listed(coordinator)}:
            await asyncio.sleep(0.01)
    assert await joined(tmp_path / "a", token, "a", KIND, at, patience_s=0.0)


async def listed(coordinator):
    request = enrolment_pb2.ListTokensRequest()
    return (await coordinator.viewer.ask(coordinator.viewer.administration.ListTokens(request))).tokens


def test_plain_text_is_for_loopback_only():
    assert not Security().is_on("127.0.0.1:50551")
    assert Security().is_on("0.0.0.0:50551")
    with pytest.raises(BadRequest, match="loopback only"):
        Security(tls="off").is_on("0.0.0.0:50551")


def test_the_key_of_an_authority_that_others_may_read_is_refused(tmp_path):
    open_authority(tmp_path, None, None, time.time())
    (tmp_path / "ca-key.pem").chmod(0o644)
    with pytest.raises(BadRequest, match="chmod 600"):
        open_authority(tmp_path, None, None, time.time())


def test_a_certificate_and_the_key_of_another_are_refused(tmp_path):
    for name in ("one", "two"):
        open_authority(tmp_path / name, None, None, time.time())
    with pytest.raises(BadRequest, match="is not the key of"):
        open_authority(tmp_path, tmp_path / "one/ca.pem", tmp_path / "two/ca-key.pem", time.time())


def test_a_token_that_was_copied_wrongly_says_so(tmp_path: Path):
    path = prepare(tmp_path, ("192.0.2.7:50552",))[2]
    text = path.read_text()
    for wrong in (text[:-1], text[:20] + "x" + text[21:], text + "x"):
        with pytest.raises(BadRequest, match="damaged"):
            parse_token(wrong)
    with pytest.raises(BadRequest, match="begins with"):
        parse_token(json.dumps({}))


def test_an_address_in_a_token_is_one_that_others_reach():
    assert names.reachable("127.0.0.1:5", (), 6) == ("127.0.0.1:6",)
    assert names.reachable("0.0.0.0:5", ("lab.example", "0.0.0.0", "2001:db8::1"), 6) == (
        "lab.example:6",
        "[2001:db8::1]:6",
    )
