"""The answers are recorded: Linux 6.18, a namespace that the shaper had shaped for a Raspberry Pi 5."""

import base64
import struct
import zlib

import pytest

from edge_agent.link.qdiscs import Qdisc, parse, qdiscs

SHAPED = zlib.decompress(
    base64.b85decode(
        "c-ou7z`&rwz{J1^q;s7az<?1#G5iMtCLqlN6v@jkEKMy<WncyJK)`^3ok0Yy5&<L_m>IAE9US7=z#c4aVgi#}%Rz1enZyB<"
        "ElElPn#;tX0a6Kd$^un26ti-anHUxpLL}+o_8B<c{{R0+pxYUt;hCA2UX)r~%)kPa9jGwn1(Tb~VeyPBOa<cNQOt@_V`WhJ"
        "!a%n$-GIgId}wKuA1GUpmYJ3xpO#o$0<xD0Yy%?`6B8p)0V5QkyVs2YHO=F5FS=S>003jfHf8"
    )
)
DONE = zlib.decompress(base64.b85decode("c-j+TU|?WoU}9hd(z(tIU;qFIIRMK"))


def test_a_recorded_answer_tells_kind_handle_interface_and_rate():
    assert parse(SHAPED) == (
        [
            Qdisc(1, "noqueue", 0),
            Qdisc(2, "tbf", 0x77B5, 20e6),
            Qdisc(2, "ingress", 0xFFFF),
            Qdisc(13, "tbf", 0x77B2, 50e6),
            Qdisc(14, "pfifo_fast", 0),
        ],
        False,
    )


def test_the_answer_ends_with_done():
    assert parse(DONE) == ([], True)


def test_a_refusal_is_an_error_that_names_the_request():
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    with pytest.raises(PermissionError, match="RTM_GETQDISC: Operation not permitted"):
        parse(refusal)


def test_a_cut_answer_is_an_error_and_not_half_an_answer():
    with pytest.raises(OSError, match="netlink message of"):
        parse(SHAPED[:-7])


def test_a_rate_above_32_bits_is_read_from_its_attribute():
    rate64 = struct.pack("=HHQ", 12, 4, 5_000_000_000)
    options = struct.pack("=HH", 4 + len(rate64), 2) + rate64
    kind = struct.pack("=HH4s", 8, 1, b"tbf\0")
    body = struct.pack("=BxxxiIII", 0, 3, 0x77B1 << 16, 0, 0) + kind + options
    message = struct.pack("=IHHII", 16 + len(body), 36, 2, 1, 0) + body
    assert parse(message) == ([Qdisc(3, "tbf", 0x77B1, 40e9)], False)


def test_this_kernel_tells_of_its_own_without_privilege():
    assert all(isinstance(found, Qdisc) and found.kind for found in qdiscs())
