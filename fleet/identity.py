"""Who is who: roles and names in certificates, the join token, and how the coordinator's authority is told.

Every certificate of wattbed is issued by the coordinator's own authority (CA), on keys of the curve P-256. The
subject says the role (OU) and the name (CN). The coordinator shows its authority inside its own certificate, so
that one handshake is enough to compare it with the hash in a join token.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from fleet.errors import BadRequest, WrongAuthority

COORDINATOR_NAME = "coordinator.wattbed.internal"
"""In every certificate of a coordinator and in no other: what clients look for, as relays and port forwards have
names that no certificate can know."""

AUTHORITY_OID = x509.ObjectIdentifier("2.25.148305029146273391845034826370912646391")
"""The extension that holds the authority's certificate (DER). Below 2.25 is a UUID, which nobody need register."""

TOKEN_PREFIX = "wattbed1"
CHECK_CHARACTERS = 6


class Role(StrEnum):
    """What a certificate lets its holder do."""

    DEVICE = "device"
    OPERATOR = "operator"
    VIEWER = "viewer"


def subject(role: Role, name: str) -> x509.Name:
    """The subject of a certificate."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "wattbed"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def role_and_name(certificate: x509.Certificate) -> tuple[Role, str] | None:
    """What the subject says; None where it is not one of wattbed's."""
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(units) != 1 or len(names) != 1 or units[0].value not in set(Role):
        return None
    return Role(str(units[0].value)), str(names[0].value)


def fingerprint(certificate: x509.Certificate) -> str:
    """sha256 of a certificate (DER), in hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def key_fingerprint(key: PublicKeyTypes) -> str:
    """sha256 of a public key (SubjectPublicKeyInfo, DER), in hex: what a device is known by."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def secret_hash(secret: bytes) -> str:
    """What is kept of a token's secret. The secret is random, so a plain hash cannot be tried out."""
    return hashlib.sha256(secret).hexdigest()


def authority_of(certificate: x509.Certificate) -> x509.Certificate:
    """The authority that a coordinator's certificate shows; WrongAuthority: none, or one that did not issue it."""
    try:
        shown = certificate.extensions.get_extension_for_oid(AUTHORITY_OID).value
        assert isinstance(shown, x509.UnrecognizedExtension)
        authority = x509.load_der_x509_certificate(shown.value)
        certificate.verify_directly_issued_by(authority)
    except x509.ExtensionNotFound:
        raise WrongAuthority("what answers there shows no authority: it is not a wattbed coordinator") from None
    except (ValueError, TypeError, InvalidSignature):
        raise WrongAuthority("what answers there shows an authority that did not issue its certificate") from None
    return authority


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key on the curve P-256."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class JoinToken:
    """What a new device needs: the sha256 of the coordinator's authority, where it may be reached, a secret.

    `addresses` are host:port of the port for joining, the likeliest first. `kind` None: a device of any kind.
    """

    authority_sha256: str
    token: str
    secret: bytes
    addresses: tuple[str, ...]
    kind: str | None = None

    def text(self) -> str:
        """One word without any character that a shell would change; its end is a check against slips."""
        values = {
            "ca": _packed(bytes.fromhex(self.authority_sha256)),
            "id": self.token,
            "secret": _packed(self.secret),
            "at": self.addresses,
            **({} if self.kind is None else {"kind": self.kind}),
        }
        body = _packed(json.dumps(values, separators=(",", ":")).encode())
        return f"{TOKEN_PREFIX}.{body}.{_check(body)}"

    def __repr__(self) -> str:
        """Without the secret: a token may get into a log."""
        return f"JoinToken({self.token}, addresses={self.addresses}, kind={self.kind})"


def parse_token(text: str) -> JoinToken:
    """The token that `text` is; BadRequest says why it is none, and never repeats it."""
    parts = text.strip().split(".")
    if parts[0] != TOKEN_PREFIX:
        raise BadRequest(f"a join token begins with {TOKEN_PREFIX}.; this one does not")
    if len(parts) != 3 or parts[2] != _check(parts[1]):
        raise BadRequest(f"the join token of {len(text.strip())} characters is damaged: copy the whole line again")
    try:
        values = json.loads(_unpacked(parts[1]))
        token = JoinToken(
            _unpacked(values["ca"]).hex(),
            str(values["id"]),
            _unpacked(values["secret"]),
            tuple(map(str, values["at"])),
            values.get("kind"),
        )
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise BadRequest("the join token is not one of this version of wattbed") from None
    if len(token.authority_sha256) != 64:
        raise BadRequest("the join token is not one of this version of wattbed")
    return token


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _check(body: str) -> str:
    return hashlib.sha256(f"{TOKEN_PREFIX}.{body}".encode()).hexdigest()[:CHECK_CHARACTERS]
