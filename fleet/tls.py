"""TLS as wattbed uses it: credentials in files, a look at who answers before anything is said, channels.

Nothing is sent to a coordinator before its certificate was checked against an authority that is known.
"""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fleet.errors import BadRequest, Unreachable, WattbedError, WrongAuthority
from fleet.identity import COORDINATOR_NAME, authority_of, fingerprint, role_and_name

LOOK_TIMEOUT_S = 3.0
SECRET_MODE = 0o600


class PlainText(WattbedError):
    """What answers there does not speak TLS."""

    status = "FAILED_PRECONDITION"


@dataclass(frozen=True, repr=False)
class Credentials:
    """The authority to believe, and what to show: a certificate with its key, None where there are none. PEM."""

    authority_pem: bytes
    certificate_pem: bytes | None = None
    key_pem: bytes | None = None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For gRPC."""
        return grpc.ssl_channel_credentials(self.authority_pem, self.key_pem, self.certificate_pem)

    @property
    def authority_sha256(self) -> str:
        """Which authority it is."""
        return fingerprint(x509.load_pem_x509_certificate(self.authority_pem))

    def certificate(self) -> x509.Certificate:
        """The own certificate; BadRequest where there is none."""
        if self.certificate_pem is None:
            raise BadRequest("these credentials hold no certificate of their own")
        return x509.load_pem_x509_certificate(self.certificate_pem)

    def bundle(self) -> bytes:
        """Key, certificate and authority in one file."""
        return (self.key_pem or b"") + (self.certificate_pem or b"") + self.authority_pem


def read_bundle(path: Path) -> Credentials:
    """The credentials in a file of `Credentials.bundle`; BadRequest names what it lacks."""
    return parse_bundle(path.read_bytes(), str(path))


def parse_bundle(data: bytes, path: str) -> Credentials:
    """The same, where the bytes are there; `path` says where they are from."""
    try:
        key = load_pem_private_key(data, None)
        certificate, authority = x509.load_pem_x509_certificates(data)
    except (ValueError, TypeError) as error:
        raise BadRequest(f"{path} does not hold a key, its certificate and an authority: {error}") from None
    if role_and_name(certificate) is None:
        raise BadRequest(f"{path} holds a certificate that is not one of wattbed's")
    return Credentials(pem(authority), pem(certificate), key_pem(key))  # type: ignore[arg-type]


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as PEM, unencrypted: for a file that only its owner may read."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_secret(path: Path, data: bytes) -> None:
    """Writes a file that only its owner may read, wholly or not at all; nor can others read it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of host:port; BadRequest."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadRequest(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def joined_address(host: str, port: int) -> str:
    """host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def look(address: str, timeout_s: float = LOOK_TIMEOUT_S) -> x509.Certificate:
    """The authority of what answers at host:port, as it shows it. Nothing is sent, and nothing is believed yet.

    Unreachable: nobody answers. PlainText: what answers has no TLS. WrongAuthority: it is no coordinator.
    """
    try:
        shown = ssl.get_server_certificate(host_and_port(address), timeout=timeout_s)
        certificate = x509.load_pem_x509_certificate(shown.encode())
    except ssl.SSLError as error:
        raise PlainText(f"what answers at {address} does not speak TLS ({error.reason})") from None
    except OSError as error:
        raise Unreachable(f"nobody answers at {address}: {error.strerror or error}") from None
    except ValueError as error:
        raise WrongAuthority(f"what answers at {address} shows no certificate that can be read: {error}") from None
    return authority_of(certificate)


def server_name() -> tuple[str, str]:
    """The channel option that has a certificate checked for COORDINATOR_NAME, whatever the address."""
    return "grpc.ssl_target_name_override", COORDINATOR_NAME
