"""The words of who may belong to the fleet, and of who does: tokens, certificates, devices."""

from dataclasses import dataclass

from fleet.device import Capabilities
from fleet.session import Power


@dataclass(frozen=True)
class Enrolled:
    """How a device came by its certificate. `formerly`: names before; times are on the coordinator's clock."""

    at_s: float
    token: str
    key_sha256: str
    expires_at_s: float
    revoked_at_s: float | None = None
    reason: str = ""
    formerly: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class TokenSummary:
    """One line about a join token; `kind` None: for a device of any kind."""

    token: str
    kind: str | None
    uses: int
    used: int
    created_at_s: float
    expires_at_s: float
    withdrawn: bool = False


@dataclass(frozen=True)
class DeviceSummary:
    """One line about a device. `capabilities` None: it joined and never attached. `clock_skew_s`: its clock minus
    the coordinator's; None while it is away.
    """

    device: str
    capabilities: Capabilities | None
    attached: bool
    changed_at_s: float
    metrics_address: str | None = None
    power: tuple[Power, ...] = ()
    run: str | None = None
    round: int | None = None
    calibrating: bool = False
    enrolled: Enrolled | None = None
    clock_skew_s: float | None = None
    drained: bool = False
