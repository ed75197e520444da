"""Joules of an emulated link's radio, modelled: a row of its own in the ledger, estimated, and part of no total.

    joules = watts while sending or receiving * seconds on the air

The bytes are those counted on the wire. A constant link is on the air for as long as its rate takes to carry them.
What rate a link that follows a trace had at a moment only its relay knows: there the seconds of the phase stand
for those on the air, an upper bound, and near to it where the link is what a transfer waits for.
"""

from collections.abc import Iterable
from dataclasses import replace

from fleet.domain import EnergyReading, LinkInfo, Phase, PhaseReport, Quality
from fleet.energy import RADIO


def with_radio(
    phases: Iterable[PhaseReport], link: LinkInfo | None, up_bytes: int, down_bytes: int
) -> tuple[PhaseReport, ...]:
    """`phases` of one assignment, transfers with a reading of the radio where the link has one."""
    return tuple(
        replace(p, readings=(*p.readings, found)) if (found := _reading(p, link, up_bytes, down_bytes)) else p
        for p in phases
    )


def _reading(phase: PhaseReport, link: LinkInfo | None, up_bytes: int, down_bytes: int) -> EnergyReading | None:
    if link is None:
        return None
    match phase.phase:
        case Phase.UPLOAD:
            watts, rate_bps, moved = link.transmit_watts, link.rate_up_bps, up_bytes
        case Phase.DOWNLOAD:
            watts, rate_bps, moved = link.receive_watts, link.rate_down_bps, down_bytes
        case _:
            return None
    if watts is None:
        return None
    on_air_s = 8 * moved / rate_bps if link.trace == "constant" else phase.seconds
    return EnergyReading("radio", RADIO, RADIO, Quality.ESTIMATED, watts * on_air_s)
