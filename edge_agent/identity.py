"""This device's identity: its key, made here and never sent anywhere, its certificate, and whom to believe.

One file that only its owner may read holds all three, and is replaced as a whole: a crash leaves the old identity
or the new one.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from fleet.errors import BadRequest
from fleet.identity import Role, subject
from fleet.tls import Credentials, write_secret

FILE = "identity.json"
RENEWED_AFTER = 2 / 3


@dataclass(frozen=True, repr=False)
class Identity:
    """What a device has after it joined. Times are on the coordinator's clock; `token` is its public part."""

    device: str
    kind: str
    coordinator: str
    token: str
    issued_at_s: float
    expires_at_s: float
    credentials: Credentials

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key."""
        key = load_pem_private_key(self.credentials.key_pem or b"", None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    @property
    def renewal_at_s(self) -> float:
        """When to ask for the next certificate."""
        return self.issued_at_s + RENEWED_AFTER * (self.expires_at_s - self.issued_at_s)

    def with_certificate(self, issued: Any) -> "Identity":
        """With what an IssuedCertificate says."""
        return replace(
            self,
            device=issued.device,
            issued_at_s=issued.issued_at_s,
            expires_at_s=issued.expires_at_s,
            credentials=replace(self.credentials, certificate_pem=issued.certificate_pem),
        )


def renamed(identity: Identity, device: str) -> Identity:
    """The same under another name. Its certificate says the old one until it is renewed; its key counts."""
    return replace(identity, device=device)


def signing_request(key: ec.EllipticCurvePrivateKey, device: str) -> bytes:
    """PKCS #10, DER. Only its key counts; the name is for who reads it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(Role.DEVICE, device))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def load(folder: Path) -> Identity | None:
    """The identity kept in `folder`; None where there is none. BadRequest: there is one that cannot be read."""
    path = folder / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        credentials = Credentials(
            values["authority"].encode(), values["certificate"].encode(), values["key"].encode()
        )
        facts = {name: values[name] for name in Identity.__dataclass_fields__ if name != "credentials"}
        return Identity(**facts, credentials=credentials)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest(f"{path} is not an identity: {error!r}; remove it and join anew") from None


def save(folder: Path, identity: Identity) -> None:
    """Keeps it."""
    c = identity.credentials
    facts = {n: getattr(identity, n) for n in Identity.__dataclass_fields__ if n != "credentials"}
    pems = {"authority": c.authority_pem, "certificate": c.certificate_pem, "key": c.key_pem}
    text = json.dumps(facts | {name: (value or b"").decode() for name, value in pems.items()}, indent=1)
    write_secret(folder / FILE, text.encode())
