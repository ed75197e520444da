"""By which names and addresses this coordinator is reached: what its certificate covers and join tokens say."""

import ipaddress
import socket
from collections.abc import Sequence

import psutil

from fleet.tls import host_and_port, is_loopback, joined_address

EVERYWHERE = ("0.0.0.0", "::", "")


def covered(given: Sequence[str]) -> tuple[str, ...]:
    """What a certificate of this machine should cover: `given`, its host name, its addresses, loopback."""
    host = socket.gethostname()
    names = [*given, host, socket.getfqdn(host), *addresses(), "localhost", "127.0.0.1", "::1"]
    return tuple(dict.fromkeys(name for name in names if _is_a_name(name)))


def addresses() -> tuple[str, ...]:
    """The IP addresses of this machine's interfaces that others may reach, the IPv4 ones first."""
    found = [
        ipaddress.ip_address(address.address.partition("%")[0])
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]
    there = sorted({a for a in found if not (a.is_loopback or a.is_link_local)}, key=lambda a: (a.version, int(a)))
    return tuple(map(str, there))


def reachable(listen: str, given: Sequence[str], port: int) -> tuple[str, ...]:
    """host:port under which a new device may find the port for joining: `given` alone where there are any."""
    host, _ = host_and_port(listen)
    if given:
        hosts: tuple[str, ...] = tuple(name for name in given if name not in EVERYWHERE)
    elif host in EVERYWHERE:
        hosts = (*addresses(), "127.0.0.1")
    else:
        hosts = (host,)
    return tuple(joined_address(h, port) for h in dict.fromkeys(hosts))


def needs_tls(listen: str) -> bool:
    """Whether others than this machine may reach what listens on host:port."""
    return not is_loopback(host_and_port(listen)[0])


def _is_a_name(name: str) -> bool:
    """What cannot stand in a certificate, such as a host name with an underscore or none at all, is left out."""
    try:
        return not ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return name.isascii() and bool(name) and all(c.isalnum() or c in "-._" for c in name)
