"""Joining: the coordinator is checked before anything is sent to it; then a key is made and a certificate fetched.

A handshake shows the coordinator's authority. Only if its sha256 is the one in the token is a connection made that
believes this authority and no other, and only over that one do the secret and the signing request go.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent import identity as identities
from edge_agent.client import delays, translated
from edge_agent.identity import Identity, signing_request
from fleet import rpc
from fleet.errors import BadRequest, Revoked, Unreachable, WattbedError, WrongAuthority
from fleet.identity import JoinToken, fingerprint, new_key
from fleet.tls import Credentials, host_and_port, is_loopback, joined_address, key_pem, look, pem
from fleet.v1 import enrolment_pb2 as pb
from fleet.v1 import enrolment_pb2_grpc

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""A coordinator that does not answer is waited for so long: in a testbed it may start after its agents."""
CALL_TIMEOUT_S = 20.0


async def joined(
    folder: Path, token: JoinToken | None, device: str, kind: str, at: str | None, patience_s: float = PATIENCE_S
) -> Identity | None:
    """The identity in `folder`; with another token than it came by, or without one, that of joining now.

    `at`: the host:port to join at instead of those in the token. None: there is no identity, and no token.
    """
    known = identities.load(folder)
    if token is None or (known is not None and known.token == token.token):
        return known
    addresses = (at,) if at else token.addresses
    address, authority = await _checked(token, addresses, patience_s)
    believed = Credentials(pem(authority))
    same = known is not None and known.credentials.authority_pem == believed.authority_pem
    key = known.key if known is not None and same else new_key()
    try:
        found = await _ask(token, address, believed, key, device, kind)
    except Revoked as error:
        log.warning("%s; joining with a new key", error)
        found = await _ask(token, address, believed, new_key(), device, kind)
    await asyncio.to_thread(identities.save, folder, found)
    log.info("joined %s as %s", found.coordinator, found.device)
    return found


async def _checked(token: JoinToken, addresses: Sequence[str], patience_s: float) -> tuple[str, x509.Certificate]:
    """The first address whose authority is the token's, and the authority. Nothing but handshakes was done.

    WrongAuthority: only others answer. Unreachable: nobody did, for `patience_s`.
    """
    give_up_s = time.monotonic() + patience_s
    for delay in delays():
        looking = [asyncio.create_task(_look(token, address)) for address in addresses]
        problems: list[WattbedError] = []
        try:
            for done in asyncio.as_completed(looking):
                try:
                    return await done
                except WattbedError as error:
                    problems.append(error)
        finally:
            for task in looking:
                task.cancel()
        wrong = next((p for p in problems if isinstance(p, WrongAuthority)), None)
        if wrong is not None:
            raise wrong
        if time.monotonic() + delay > give_up_s:
            raise Unreachable("; ".join(map(str, problems)) or "the token says no address; name one with --at")
        await asyncio.sleep(delay)
    raise AssertionError("delays end never")


async def _look(token: JoinToken, address: str) -> tuple[str, x509.Certificate]:
    authority = await asyncio.to_thread(look, address)
    found = fingerprint(authority)
    if found != token.authority_sha256:
        raise WrongAuthority(
            f"what answers at {address} is not the coordinator of this token: its authority is {found[:16]}..., "
            f"the token's is {token.authority_sha256[:16]}...; nothing was sent to it"
        )
    return address, authority


async def _ask(
    token: JoinToken, address: str, believed: Credentials, key: ec.EllipticCurvePrivateKey, device: str, kind: str
) -> Identity:
    request = pb.JoinRequest(
        protocol_version=rpc.PROTOCOL_VERSION,
        token=token.token,
        secret=token.secret,
        device=device,
        kind=kind,
        signing_request=signing_request(key, device),
    )
    channel = rpc.channel(address, believed)
    try:
        with translated():
            answer = await enrolment_pb2_grpc.EnrolmentStub(channel).Join(request, timeout=CALL_TIMEOUT_S)
    except Unreachable as error:
        raise Unreachable(f"{error}; {_clock(believed)}") from None
    finally:
        await channel.close()
    at = joined_address(host_and_port(address)[0], answer.fleet_port)
    issued = answer.certificate
    own = Credentials(believed.authority_pem, issued.certificate_pem, key_pem(key))
    return Identity(issued.device, kind, at, token.token, issued.issued_at_s, issued.expires_at_s, own)


def _clock(believed: Credentials) -> str:
    """A hint where this device's clock is the likely cause."""
    authority = x509.load_pem_x509_certificate(believed.authority_pem)
    now_s = time.time()
    if authority.not_valid_before_utc.timestamp() <= now_s <= authority.not_valid_after_utc.timestamp():
        return "the clock of this device is not the cause"
    said = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s))
    return f"this device's clock says {said} UTC, when the authority is not valid: set the clock"


def refuse_plain(address: str) -> None:
    """BadRequest where a device without a certificate would speak in plain text to another machine."""
    if not is_loopback(host_and_port(address)[0]):
        raise BadRequest(
            f"no certificate for {address}, and plain text is for loopback only: "
            "give a join token (WATTBED_TOKEN, or WATTBED_TOKEN_FILE), which `wattbed token create` prints"
        )
