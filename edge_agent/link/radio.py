"""What the radio of an emulated link is modelled to draw: the transmitter of its trace, else that of its kind."""

from edge_agent.link.trace import Rayleigh, parse
from fleet.kinds import Link


def radio_watts(link: Link, trace: str) -> tuple[float | None, float | None]:
    """Watts while sending and while receiving; None where nothing is modelled.

    A Rayleigh trace has a transmitter of its own, whose power is all that arXiv 2207.09387 charges a device for
    its uplink [P]; receiving costs it nothing there.
    """
    found = parse(trace, link, "radio") if trace.startswith("rayleigh") else None
    if isinstance(found, Rayleigh):
        return found.power_watts, None
    return (link.radio.transmit_watts, link.radio.receive_watts) if link.radio else (None, None)
