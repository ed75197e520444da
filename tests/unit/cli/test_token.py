"""Join tokens at the command line: times, lines to paste, credentials that are found again."""

import time

import pytest

from cli import credentials
from cli.administration import NewToken
from cli.token import lines, seconds
from coordinator.enrolment.authority import open_authority
from fleet.domain import TokenSummary
from fleet.errors import BadRequest
from fleet.identity import Role, new_key
from fleet.tls import Credentials, key_pem, pem, read_bundle


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("1.5m", 90), ("24h", 86400), ("7d", 604800)])
def test_a_time_is_read(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(BadRequest, match="not a time"):
        seconds(text)


def token(kind: str | None, *addresses: str) -> NewToken:
    return NewToken("wattbed1.x.y", TokenSummary("t", kind, 1, 0, 0.0, 1.0), addresses)


def test_the_lines_to_paste_give_a_container_no_more_than_it_needs():
    plain, docker = lines(token("raspberry-pi-5", "192.0.2.7:50552"))
    assert plain == "wattbed join wattbed1.x.y"
    assert docker.startswith("docker run -d ")
    for words in ("--read-only", "--cap-drop ALL", "no-new-privileges", "WATTBED_KIND=raspberry-pi-5"):
        assert words in docker
    assert "--network" not in docker


def test_a_coordinator_on_loopback_is_reached_from_the_networks_of_the_host():
    assert "--network host" in lines(token(None, "127.0.0.1:1", "[::1]:1"))[1]


@pytest.fixture
def authority(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return open_authority(tmp_path / "authority", None, None, time.time())


def test_credentials_are_kept_for_their_owner_alone_and_come_back_as_they_were(authority):
    own = authority.for_operator(Role.VIEWER, "viewer", time.time())
    kept = credentials.keep(own)
    assert read_bundle(kept.path) == own
    assert (kept.role, kept.authority_sha256) == (Role.VIEWER, authority.sha256)
    assert kept.path.stat().st_mode & 0o777 == 0o600


def test_the_credentials_of_a_device_are_not_kept_as_a_persons(authority):
    key, now_s = new_key(), time.time()
    made = authority.for_device("a", key.public_key(), now_s, now_s + 100)
    with pytest.raises(BadRequest, match="operator or a viewer"):
        credentials.keep(Credentials(pem(authority.certificate), made, key_pem(key)))
