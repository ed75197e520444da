"""The table of attacks of docs/security.md, as far as it is about who somebody is. Each row names its test here."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from coordinator.enrolment.authority import open_authority
from coordinator.enrolment.gate import VIEWERS_MAY
from edge_agent.identity import signing_request
from edge_agent.join import joined
from fleet import rpc, wire
from fleet.domain import Heartbeat, UpdateHeader
from fleet.errors import (
    BadRequest,
    IllegalMove,
    NotAllowed,
    Revoked,
    TokenRefused,
    Unreachable,
    WrongAuthority,
)
from fleet.identity import Role, new_key, parse_token
from fleet.tls import Credentials, key_pem, pem
from fleet.v1 import enrolment_pb2, fleet_pb2, operator_pb2

pytestmark = pytest.mark.slow

KIND = "mini-pc-n100"


def list_devices(caller):
    return caller.ask(caller.operator.ListDevices(operator_pb2.ListDevicesRequest(), timeout=10))


async def how_it_ended(stream) -> grpc.StatusCode:
    """Reads a stream to its end, which the other side makes."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await stream.read() is not grpc.aio.EOF:
            pass
    return await stream.code()


def request_of(token, key, name: str = "b", kind: str = KIND):
    return enrolment_pb2.JoinRequest(
        protocol_version=rpc.PROTOCOL_VERSION,
        token=token.token,
        secret=token.secret,
        device=name,
        kind=kind,
        signing_request=signing_request(key, name),
    )


async def test_no_certificate_gets_no_call_through(coordinator):
    stranger = coordinator.caller(Credentials(pem(coordinator.authority.certificate)))
    with pytest.raises(Unreachable):
        await list_devices(stranger)


async def test_plain_text_gets_no_call_through(coordinator):
    with pytest.raises(Unreachable):
        await list_devices(coordinator.caller(None))


async def test_a_certificate_of_a_foreign_authority_gets_no_call_through(coordinator, tmp_path):
    foreign = open_authority(tmp_path / "foreign", None, None, time.time())
    forged = foreign.for_operator(Role.OPERATOR, "operator", time.time())
    own = replace(forged, authority_pem=pem(coordinator.authority.certificate))
    with pytest.raises(Unreachable):
        await list_devices(coordinator.caller(own))


async def test_an_expired_certificate_gets_no_call_through(coordinator, tmp_path):
    identity = await coordinator.join(tmp_path, "a")
    now_s = time.time()
    old = coordinator.authority.for_device("a", identity.key.public_key(), now_s - 1000, now_s - 10)
    with pytest.raises(Unreachable):
        await coordinator.caller(replace(identity.credentials, certificate_pem=old)).attach("a")


async def test_a_certificate_that_runs_out_ends_the_stream_it_opened(serving, with_security, tmp_path):
    coordinator = await serving(with_security(device_lives_s=1.5))
    stream, _ = await coordinator.as_device(await coordinator.join(tmp_path, "a")).attach("a")
    async with asyncio.timeout(10):
        assert await how_it_ended(stream) == grpc.StatusCode.UNAUTHENTICATED


async def test_a_certificate_of_the_authority_that_is_in_no_log_is_refused(coordinator):
    key = new_key()
    now_s = time.time()
    made = coordinator.authority.for_device("ghost", key.public_key(), now_s, now_s + 1000)
    ghost = coordinator.caller(Credentials(pem(coordinator.authority.certificate), made, key_pem(key)))
    with pytest.raises(NotAllowed, match="not one that this coordinator knows"):
        await ghost.attach("ghost")


async def test_a_revoked_device_is_cut_at_once_and_takes_part_in_nothing_any_more(coordinator, tmp_path):
    identity = await coordinator.join(tmp_path, "a")
    device = coordinator.as_device(identity)
    stream, _ = await device.attach("a")
    revoke = enrolment_pb2.RevokeDeviceRequest(device="a", reason="it was stolen")
    await coordinator.operator.ask(coordinator.operator.administration.RevokeDevice(revoke))
    async with asyncio.timeout(5):
        assert await how_it_ended(stream) == grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(Revoked, match="it was stolen"):
        await device.attach("a")
    renewal = enrolment_pb2.RenewRequest(signing_request=signing_request(identity.key, "a"))
    with pytest.raises(Revoked, match="it was stolen"):
        await device.ask(device.enrolment.Renew(renewal))
    with pytest.raises(Revoked, match="it was stolen"):
        await device.ask(device.fleet.StatBlob(fleet_pb2.StatBlobRequest(device="a", run="r")))


async def test_a_revoked_device_stays_revoked_when_the_coordinator_starts_anew(serving, settings, tmp_path):
    coordinator = await serving(settings)
    identity = await coordinator.join(tmp_path, "a")
    revoke = enrolment_pb2.RevokeDeviceRequest(device="a")
    await coordinator.operator.ask(coordinator.operator.administration.RevokeDevice(revoke))
    await serving.end(coordinator)
    with pytest.raises(Revoked):
        await (await serving(settings)).as_device(identity).attach("a")


async def test_a_revoked_key_joins_no_more_and_the_device_comes_back_with_a_new_one(coordinator, tmp_path):
    before = await coordinator.join(tmp_path, "a")
    revoke = enrolment_pb2.RevokeDeviceRequest(device="a")
    await coordinator.operator.ask(coordinator.operator.administration.RevokeDevice(revoke))
    token = await coordinator.token(uses=5)
    joining = coordinator.caller(Credentials(pem(coordinator.authority.certificate)), token.addresses[0])
    with pytest.raises(Revoked):
        await joining.ask(joining.enrolment.Join(request_of(token, before.key, "a")))
    after = await coordinator.join(tmp_path, "a", token)
    assert after.credentials.key_pem != before.credentials.key_pem
    await coordinator.as_device(after).attach("a")


async def test_a_replayed_token_is_used_up(coordinator, tmp_path):
    token = await coordinator.token()
    await coordinator.join(tmp_path, "a", token)
    with pytest.raises(TokenRefused, match="used up"):
        await coordinator.join(tmp_path, "b", token)


async def test_the_whole_request_replayed_gives_a_certificate_for_a_key_that_the_thief_has_not(
    coordinator, tmp_path
):
    token, key = await coordinator.token(), new_key()
    joining = coordinator.caller(Credentials(pem(coordinator.authority.certificate)), token.addresses[0])
    first = await joining.ask(joining.enrolment.Join(request_of(token, key)))
    again = await joining.ask(joining.enrolment.Join(request_of(token, key)))
    keys = [
        x509.load_pem_x509_certificate(r.certificate.certificate_pem).public_key().public_numbers()
        for r in (first, again)
    ]
    assert keys == [key.public_key().public_numbers()] * 2
    assert [t.used for t in await tokens(coordinator)] == [1]


async def tokens(coordinator):
    answer = await coordinator.viewer.ask(
        coordinator.viewer.administration.ListTokens(enrolment_pb2.ListTokensRequest())
    )
    return [wire.from_proto(t) for t in answer.tokens]


async def test_an_expired_token_is_refused(coordinator, tmp_path):
    token = await coordinator.token(lives_s=0.01)
    await asyncio.sleep(0.05)
    with pytest.raises(TokenRefused, match="expired"):
        await coordinator.join(tmp_path, "a", token)


async def test_a_withdrawn_token_is_refused(coordinator, tmp_path):
    token = await coordinator.token()
    withdraw = enrolment_pb2.WithdrawTokenRequest(token=token.token)
    await coordinator.operator.ask(coordinator.operator.administration.WithdrawToken(withdraw))
    with pytest.raises(TokenRefused, match="withdrawn"):
        await coordinator.join(tmp_path, "a", token)


async def test_a_token_of_another_kind_is_refused(coordinator, tmp_path):
    token = await coordinator.token(kind="raspberry-pi-5")
    with pytest.raises(TokenRefused, match="for devices of kind raspberry-pi-5, not mini-pc-n100"):
        await coordinator.join(tmp_path, "a", token)


async def test_a_token_with_a_guessed_secret_is_refused(coordinator, tmp_path):
    token = await coordinator.token()
    with pytest.raises(TokenRefused, match="not one of this coordinator's"):
        await coordinator.join(tmp_path, "a", replace(token, secret=b"\0" * 16))


async def test_a_device_that_changes_its_kind_after_joining_is_refused(coordinator, tmp_path):
    device = coordinator.as_device(await coordinator.join(tmp_path, "a"))
    with pytest.raises(NotAllowed, match="joined as a mini-pc-n100"):
        await device.attach("a", kind="raspberry-pi-5")


async def test_the_name_of_another_device_cannot_be_joined_under(coordinator, tmp_path):
    await coordinator.join(tmp_path, "a")
    with pytest.raises(IllegalMove, match="with another key"):
        await coordinator.join(tmp_path / "elsewhere", "a")


@pytest.mark.parametrize("path", ["../a", "a/b", "/etc/passwd", ".."])
async def test_a_path_is_no_name_to_join_under_or_to_be_renamed_to(coordinator, tmp_path, path):
    token = await coordinator.token(uses=2)
    joining = coordinator.caller(Credentials(pem(coordinator.authority.certificate)), token.addresses[0])
    with pytest.raises(BadRequest, match="a name has 1 to 64 letters"):
        await joining.ask(joining.enrolment.Join(request_of(token, new_key(), path)))
    await coordinator.join(tmp_path, "a", token)
    rename = enrolment_pb2.RenameDeviceRequest(device="a", name=path)
    with pytest.raises(BadRequest, match="a name has 1 to 64 letters"):
        await coordinator.operator.ask(coordinator.operator.administration.RenameDevice(rename))


class Impostor:
    """A TLS server that shows a given certificate, and keeps every byte that is said to it after the handshake."""

    def __init__(self, credentials: Credentials, folder: Path) -> None:
        (folder / "cert.pem").write_bytes(credentials.certificate_pem)
        (folder / "key.pem").write_bytes(credentials.key_pem)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.num_tickets = 0  # else a client that leaves after the handshake breaks it
        self._context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.heard = b""
        self.handshakes = self.left = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as shown:
                self.handshakes += 1
                shown.settimeout(1)
                while said := shown.recv(4096):
                    self.heard += said
            self.left += 1

    async def was_left(self) -> None:
        """Waits until whoever came first has gone, and all they said is in `heard`."""
        async with asyncio.timeout(10):
            while not self.left:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def impostor(tmp_path):
    made = []

    def make(credentials: Credentials) -> Impostor:
        folder = tmp_path / f"impostor-{len(made)}"
        folder.mkdir()
        made.append(Impostor(credentials, folder))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_a_man_in_the_middle_at_joining_is_told_nothing(coordinator, impostor, tmp_path):
    token = await coordinator.token()
    foreign = open_authority(tmp_path / "foreign", None, None, time.time())
    there = impostor(foreign.for_coordinator(["127.0.0.1"], time.time()))
    with pytest.raises(WrongAuthority, match="nothing was sent"):
        await joined(tmp_path / "a", token, "a", KIND, there.address, patience_s=0.0)
    await there.was_left()
    assert (there.handshakes, there.heard) == (1, b"")
    assert not (tmp_path / "a").exists()


async def test_a_man_in_the_middle_who_shows_the_right_authority_is_told_nothing(coordinator, impostor, tmp_path):
    token = await coordinator.token()
    foreign = open_authority(tmp_path / "foreign", None, None, time.time())
    pretending = replace(foreign, certificate=coordinator.authority.certificate)
    there = impostor(pretending.for_coordinator(["127.0.0.1"], time.time()))
    with pytest.raises(WrongAuthority, match="did not issue"):
        await joined(tmp_path / "a", token, "a", KIND, there.address, patience_s=0.0)
    await there.was_left()
    assert there.heard == b""


async def test_a_device_cannot_pose_as_the_coordinator(coordinator, impostor, tmp_path):
    thief = await coordinator.join(tmp_path, "thief")
    there = impostor(thief.credentials)
    victim = await coordinator.join(tmp_path, "victim")
    with pytest.raises(WrongAuthority, match="no wattbed coordinator|not a wattbed coordinator"):
        await joined(tmp_path / "x", await coordinator.token(), "x", KIND, there.address, patience_s=0.0)
    with pytest.raises(Unreachable):
        await coordinator.caller(victim.credentials, there.address).attach("victim")
    assert there.heard == b""


async def test_a_device_attaches_as_nobody_else(coordinator, tmp_path):
    await coordinator.join(tmp_path, "b")
    device = coordinator.as_device(await coordinator.join(tmp_path, "a"))
    with pytest.raises(NotAllowed, match="device a calls itself 'b'"):
        await device.attach("b")


async def test_a_device_writes_and_reads_for_nobody_else(coordinator, tmp_path):
    await coordinator.join(tmp_path, "b")
    device = coordinator.as_device(await coordinator.join(tmp_path, "a"))
    header = UpdateHeader("r", 1, "b", "0" * 32, 10, 0, 1, 0.5, rpc.PROTOCOL_VERSION)

    async def upload():
        yield fleet_pb2.PutBlobRequest(header=wire.to_proto(header))

    async def filler():
        yield fleet_pb2.PutFillerRequest(device="b", calibration="c", data=b"x")

    for call in (
        device.fleet.PutBlob(upload()),
        device.fleet.PutFiller(filler()),
        device.fleet.StatBlob(fleet_pb2.StatBlobRequest(device="b", run="r", round=1)),
        device.fleet.GetBlob(fleet_pb2.GetBlobRequest(device="b", run="r", round=1)).read(),
        device.fleet.GetFiller(fleet_pb2.GetFillerRequest(device="b", calibration="c")).read(),
    ):
        with pytest.raises(NotAllowed, match="device a speaks for device 'b'"):
            await device.ask(call)


async def test_a_device_calls_no_operators_method(coordinator, tmp_path):
    device = coordinator.as_device(await coordinator.join(tmp_path, "a"))
    with pytest.raises(NotAllowed, match="device a may not call Operator/ListDevices"):
        await list_devices(device)
    with pytest.raises(NotAllowed, match="Administration/CreateToken"):
        await device.ask(device.administration.CreateToken(enrolment_pb2.CreateTokenRequest()))


async def test_an_operator_is_no_device(coordinator):
    with pytest.raises(NotAllowed, match="operator operator may not call Fleet/Attach"):
        await coordinator.operator.attach("operator")


@pytest.mark.parametrize(("package", "service"), [(operator_pb2, "Operator"), (enrolment_pb2, "Administration")])
async def test_a_viewer_changes_nothing(coordinator, package, service):
    stub = coordinator.viewer.operator if service == "Operator" else coordinator.viewer.administration
    for method in package.DESCRIPTOR.services_by_name[service].methods:
        name = f"/fleet.v1.{service}/{method.name}"
        call = getattr(stub, method.name)(method.input_type._concrete_class())
        if name in VIEWERS_MAY:
            assert method.name.startswith(("List", "Watch", "Get", "Replay"))
            continue
        with pytest.raises(NotAllowed, match=f"viewer viewer may not call {service}/{method.name}"):
            await coordinator.viewer.ask(call.read() if method.server_streaming else call)


async def test_a_viewer_sees(coordinator):
    assert list((await list_devices(coordinator.viewer)).devices) == []


async def test_operators_credentials_that_were_replaced_are_not_taken_any_more(serving, settings):
    coordinator = await serving(settings)
    old = coordinator.operator.credentials
    await serving.end(coordinator)
    (settings.state / "operator.pem").unlink()
    again = await serving(settings)
    with pytest.raises(Revoked):
        await list_devices(again.caller(old))
    await list_devices(again.operator)


async def test_a_renewal_for_another_key_is_refused(coordinator, tmp_path):
    device = coordinator.as_device(await coordinator.join(tmp_path, "a"))
    renewal = enrolment_pb2.RenewRequest(signing_request=signing_request(new_key(), "a"))
    with pytest.raises(BadRequest, match="for the key that it has"):
        await device.ask(device.enrolment.Renew(renewal))


async def test_nobody_renews_on_the_port_for_joining_and_nobody_joins_on_that_of_the_fleet(coordinator, tmp_path):
    token = await coordinator.token()
    device = await coordinator.join(tmp_path, "a", token)
    at_the_door = coordinator.caller(device.credentials, token.addresses[0])
    for call in (
        at_the_door.enrolment.Renew(enrolment_pb2.RenewRequest()),
        at_the_door.operator.ListDevices(operator_pb2.ListDevicesRequest()),
        coordinator.as_device(device).enrolment.Join(request_of(token, new_key())),
    ):
        with pytest.raises(Exception, match="UNIMPLEMENTED"):
            await at_the_door.ask(call)


async def test_a_signing_request_that_is_not_signed_by_its_key_is_refused(coordinator):
    token = await coordinator.token()
    joining = coordinator.caller(Credentials(pem(coordinator.authority.certificate)), token.addresses[0])
    request = request_of(token, new_key())
    for wrong in (b"", b"\x30\x00", request.signing_request[:-4] + b"\0\0\0\0"):
        request.signing_request = wrong
        with pytest.raises(BadRequest, match="signing request"):
            await joining.ask(joining.enrolment.Join(request))


async def test_neither_secrets_nor_tokens_get_into_the_log(coordinator, tmp_path, caplog):
    caplog.set_level("DEBUG")
    token = await coordinator.token()
    identity = await coordinator.join(tmp_path, "a", token)
    stream, _ = await coordinator.as_device(identity).attach("a")
    await stream.write(wire.envelope(Heartbeat(1, time.time(), 0.0, 0)))
    stored = b"".join(p.read_bytes() for p in coordinator.state.glob("log.sqlite*"))
    said = caplog.text.encode()
    for secret in (token.secret, token.secret.hex().encode(), token.text().encode(), identity.credentials.key_pem):
        assert secret not in stored
        assert secret not in said
    assert token.text() not in repr(token)
    assert parse_token(token.text()) == token


async def test_keys_and_credentials_are_readable_by_their_owner_alone(coordinator, tmp_path):
    await coordinator.join(tmp_path, "a")
    files = [
        *(coordinator.state / name for name in ("operator.pem", "viewer.pem", "authority/ca-key.pem")),
        tmp_path / "a" / "identity.json",
    ]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
