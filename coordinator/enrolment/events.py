"""What can have happened to tokens and certificates. Secrets are not in the log, only their hashes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenCreated:
    """A join token was given out, for `uses` devices of `kind` (None: of any) that join before `expires_at_s`.

    `benchmark`: a device that joins with it is measured when it first attaches.
    """

    at_s: float
    token: str
    secret_sha256: str
    kind: str | None
    uses: int
    expires_at_s: float
    benchmark: bool = True


@dataclass(frozen=True)
class TokenWithdrawn:
    """A token is good for nothing from now on; what joined with it stays."""

    at_s: float
    token: str


@dataclass(frozen=True)
class DeviceEnrolled:
    """A device joined with a token, and its certificate was issued on the key it made."""

    at_s: float
    device: str
    kind: str
    token: str
    secret_sha256: str
    key_sha256: str
    expires_at_s: float


@dataclass(frozen=True)
class CertificateRenewed:
    """A device has a new certificate for the same key."""

    at_s: float
    device: str
    key_sha256: str
    expires_at_s: float


@dataclass(frozen=True)
class DeviceDrained:
    """A device is given nothing new (`drained`), or is again."""

    at_s: float
    device: str
    drained: bool = True


@dataclass(frozen=True)
class DeviceRevoked:
    """Nothing is taken from the key of this device ever again."""

    at_s: float
    device: str
    reason: str


@dataclass(frozen=True)
class DeviceRenamed:
    """A device goes by the name `to` from now on; what the log says of it so far stays under the old one."""

    at_s: float
    device: str
    to: str


EnrolmentEvent = (
    TokenCreated
    | TokenWithdrawn
    | DeviceEnrolled
    | CertificateRenewed
    | DeviceDrained
    | DeviceRevoked
    | DeviceRenamed
)
