"""The queueing disciplines of this network namespace: asked of the kernel by rtnetlink(7), without privilege."""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

RTM_NEWQDISC, RTM_GETQDISC = 36, 38
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST_DUMP = 0x301
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_TBF_PARMS, TCA_TBF_RATE64 = 1, 4

_HEADER = struct.Struct("=IHHII")
_TCMSG = struct.Struct("=BxxxiIII")
_ATTRIBUTE = struct.Struct("=HH")
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Qdisc:
    """One discipline. `major` is the number before the colon of its handle; `rate_bps` is what a tbf holds."""

    interface: int
    kind: str
    major: int
    rate_bps: float | None = None


def qdiscs() -> tuple[Qdisc, ...]:
    """All of this namespace; OSError where the kernel does not tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(1.0)
        body = _TCMSG.pack(0, 0, 0, 0, 0)
        length = _HEADER.size + len(body)
        kernel.send(_HEADER.pack(length, RTM_GETQDISC, NLM_F_REQUEST_DUMP, 1, 0) + body)
        found: list[Qdisc] = []
        while True:
            more, done = parse(kernel.recv(_READ_BYTES))
            found += more
            if done:
                return tuple(found)


def parse(answer: bytes) -> tuple[list[Qdisc], bool]:
    """The disciplines in one answer, and whether it was the last; OSError when the kernel refused."""
    found: list[Qdisc] = []
    while len(answer) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(answer)
        if not _HEADER.size <= length <= len(answer):
            raise OSError(f"netlink message of {length} bytes in {len(answer)}")
        body = answer[_HEADER.size : length]
        if kind == NLMSG_DONE:
            return found, True
        if kind == NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", body)
            raise OSError(-code, f"RTM_GETQDISC: {os.strerror(-code)}")
        if kind == RTM_NEWQDISC:
            found.append(_qdisc(body))
        answer = answer[_aligned(length) :]
    return found, False


def _qdisc(body: bytes) -> Qdisc:
    _, interface, handle, _, _ = _TCMSG.unpack_from(body)
    attributes = dict(_attributes(body[_TCMSG.size :]))
    kind = attributes.get(TCA_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    rate_bps = _tbf_rate_bps(attributes.get(TCA_OPTIONS, b"")) if kind == "tbf" else None
    return Qdisc(interface, kind, handle >> 16, rate_bps)


def _tbf_rate_bps(options: bytes) -> float | None:
    """Rate of struct tc_tbf_qopt, whose tc_ratespec ends in bytes per second; above 34 Gb/s it is an attribute."""
    attributes = dict(_attributes(options))
    if TCA_TBF_RATE64 in attributes:
        return float(struct.unpack("=Q", attributes[TCA_TBF_RATE64])[0] * 8)
    if TCA_TBF_PARMS not in attributes:
        return None
    return float(struct.unpack_from("=8xI", attributes[TCA_TBF_PARMS])[0] * 8)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
