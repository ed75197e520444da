"""The coordinator's certificate authority: made at first start, or given by path. It issues every certificate.

Keys are files that only their owner may read. Certificates begin well before they are issued: a board without a
battery for its clock may be far behind, and who trusts the authority loses nothing by it. They end on time.
"""

import datetime
import ipaddress
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.errors import BadRequest, WattbedError
from fleet.identity import AUTHORITY_OID, COORDINATOR_NAME, Role, fingerprint, key_fingerprint, new_key, subject
from fleet.tls import Credentials, key_pem, pem, write_secret

log = logging.getLogger(__name__)

DAY_S = 86400.0
AUTHORITY_S = 20 * 365 * DAY_S
SERVER_S = 90 * DAY_S
OPERATOR_S = 365 * DAY_S
BACKDATED_S = 30 * DAY_S
"""How far behind a device's clock may be."""

RENEWED_AFTER = 2 / 3
"""The part of a certificate's life after which it is made anew."""

CERTIFICATE, KEY = "ca.pem", "ca-key.pem"


@dataclass(frozen=True, repr=False)
class Authority:
    """A certificate that others believe, and the key that makes others like it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def sha256(self) -> str:
        """What join tokens carry."""
        return fingerprint(self.certificate)

    def for_device(self, name: str, key: PublicKeyTypes, now_s: float, expires_at_s: float) -> bytes:
        """The certificate of a device, as PEM."""
        return pem(self._issue(subject(Role.DEVICE, name), key, now_s, expires_at_s))

    def for_operator(self, role: Role, name: str, now_s: float) -> Credentials:
        """New credentials of somebody who gives orders, or may only look."""
        key = new_key()
        certificate = self._issue(subject(role, name), key.public_key(), now_s, now_s + OPERATOR_S)
        return Credentials(pem(self.certificate), pem(certificate), key_pem(key))

    def for_coordinator(self, names: Sequence[str], now_s: float, lives_s: float = SERVER_S) -> Credentials:
        """What the coordinator shows, for all of `names` (names and IP addresses) and for COORDINATOR_NAME."""
        key = new_key()
        alternatives = x509.SubjectAlternativeName(
            [x509.DNSName(COORDINATOR_NAME), *(_general_name(name) for name in names)]
        )
        shown = x509.UnrecognizedExtension(AUTHORITY_OID, self.certificate.public_bytes(Encoding.DER))
        who = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "wattbed"),
                x509.NameAttribute(NameOID.COMMON_NAME, COORDINATOR_NAME),
            ]
        )
        certificate = self._issue(
            who, key.public_key(), now_s, now_s + lives_s, ExtendedKeyUsageOID.SERVER_AUTH, (alternatives, shown)
        )
        return Credentials(pem(self.certificate), pem(certificate), key_pem(key))

    def _issue(
        self,
        who: x509.Name,
        key: PublicKeyTypes,
        now_s: float,
        expires_at_s: float,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        more: Sequence[x509.ExtensionType] = (),
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(who)
            .issuer_name(self.certificate.subject)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(_at(max(now_s - BACKDATED_S, self.certificate.not_valid_before_utc.timestamp())))
            .not_valid_after(_at(min(expires_at_s, self.certificate.not_valid_after_utc.timestamp())))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def open_authority(folder: Path, certificate: Path | None, key: Path | None, now_s: float) -> Authority:
    """The authority at `certificate` and `key`; without them the one in `folder`, made there if there is none.

    BadRequest: they do not belong together, cannot issue certificates, or others may read the key.
    """
    if (certificate is None) != (key is None):
        raise BadRequest("WATTBED_CA_CERT and WATTBED_CA_KEY belong together; only one is set")
    if certificate is None or key is None:
        certificate, key = folder / CERTIFICATE, folder / KEY
        if not key.exists():
            _make(certificate, key, now_s)
    try:
        authority = Authority(
            x509.load_pem_x509_certificate(certificate.read_bytes()),
            _ec(load_pem_private_key(key.read_bytes(), None), key),
        )
    except (OSError, ValueError, TypeError) as error:
        raise BadRequest(f"the authority cannot be read from {certificate} and {key}: {error}") from None
    _check(authority, certificate, key)
    return authority


def _ec(key: object, path: Path) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadRequest(f"{path} holds a {type(key).__name__}; an authority of wattbed has an elliptic-curve key")
    return key


def _check(authority: Authority, certificate: Path, key: Path) -> None:
    if key_fingerprint(authority.certificate.public_key()) != key_fingerprint(authority.key.public_key()):
        raise BadRequest(f"{key} is not the key of {certificate}")
    try:
        allowed = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        authority.certificate.verify_directly_issued_by(authority.certificate)
    except x509.ExtensionNotFound:
        allowed = False
    except (ValueError, InvalidSignature):
        raise BadRequest(f"{certificate} is not a root: another authority issued it") from None
    if not allowed:
        raise BadRequest(f"{certificate} is not the certificate of an authority (CA)")
    mode = S_IMODE(
        key.stat().st_mode
    )  # what a container is handed as a secret is read-only, and of a mode of its own
    if mode & 0o077 and os.access(key, os.W_OK):
        raise BadRequest(f"others may read {key} (mode {mode:o}): chmod 600 it")


def _make(certificate: Path, key: Path, now_s: float) -> None:
    """The certificate last: what has a certificate has its key."""
    made = new_key()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "wattbed"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"authority {os.urandom(4).hex()}"),
        ]
    )
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_at(now_s - BACKDATED_S))
        .not_valid_after(_at(now_s + AUTHORITY_S))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(made.public_key()), critical=False)
        .sign(made, hashes.SHA256())
    )
    write_secret(certificate, pem(root))
    write_secret(key, key_pem(made))
    log.info("made an authority, %s: it is in %s", fingerprint(root)[:16], certificate.parent)


def _at(at_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise BadRequest(f"{name!r} is neither a host name nor an IP address") from None


def is_past(credentials: Credentials, made_at_s: float, now_s: float) -> bool:
    """Whether credentials that were made at `made_at_s` are to be made anew."""
    ends_s = credentials.certificate().not_valid_after_utc.timestamp()
    return now_s >= made_at_s + RENEWED_AFTER * (ends_s - made_at_s)


def requested_key(signing_request: bytes) -> PublicKeyTypes:
    """The public key of a request that proves to have the private one; BadRequest. Nothing else of it counts."""
    try:
        request = x509.load_der_x509_csr(signing_request)
        if not request.is_signature_valid:
            raise BadRequest("the signing request is not signed with the key it is about")
        key = request.public_key()
    except (ValueError, TypeError, WattbedError) as error:
        raise BadRequest(f"the signing request cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequest("the key of the signing request is not one of the curve P-256")
    return key
