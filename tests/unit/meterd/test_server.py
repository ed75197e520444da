"""What agents say over the socket, what others may not say there, and what ends with a connection.

Time stands still here but for `host.spend`. A mark is on its way when a phase begins, so `meter.sample()` in a phase
waits for it: what is asked after it is answered after it.
"""

import os
import socket

import pytest

from edge_agent.energy.counter import SourceInfo
from edge_agent.energy.meter import Meter, MeterBusy
from edge_agent.energy.remote import RemoteMeter
from edge_agent.levers.remote import RemoteLevers
from edge_agent.meterd import messages, server
from edge_agent.meterd.link import Link, MeterLost
from fleet.domain import Phase, Quality
from fleet.errors import AddressInUse


def test_an_agent_gets_its_share_of_a_window(make_meter, host):
    meter, windows = make_meter(), []
    with meter.phase(Phase.TRAIN, windows.append):
        meter.sample()
        host.spend(2.0, 50.0, {"a": 1.0}, others_s=1.0)
    meter.settle()
    (reading,) = windows[0].readings
    assert (windows[0].phase, reading.source, reading.joules, reading.quality) == (
        Phase.TRAIN, "rapl:package-0", pytest.approx(15.0), Quality.DERIVED,
    )  # fmt: skip


def test_totals_and_power_are_the_agents_own(make_meter, host):
    meter = make_meter()
    meter.sample()
    with meter.phase(Phase.TRAIN, lambda _: None):
        meter.sample()
        host.spend(2.0, 50.0, {"a": 1.0}, others_s=1.0)
    meter.sample()
    totals = {t.phase: t.joules for t in meter.totals()}
    assert (totals[Phase.TRAIN], [p.watts > 0 for p in meter.power()], meter.up()) == (
        pytest.approx(15.0), [True], {"rapl:package-0": True},
    )  # fmt: skip


def test_a_meter_that_shows_the_joules_itself_is_left_to_do_so(make_service, host):
    service = make_service(serves_metrics=True)
    meter = RemoteMeter(service.path, "a", (), lambda _: Meter([]), 0.0, host.usage("a"))
    with meter.phase(Phase.TRAIN, lambda _: None):
        host.spend(2.0, 50.0, {"a": 1.0})
    totals = meter.totals()
    meter.close()
    assert ({t.joules for t in totals}, Phase.TRAIN in {t.phase for t in totals}) == ({None}, True)


def test_two_phases_at_once_are_an_error(make_meter):
    meter = make_meter()
    with (
        meter.phase(Phase.TRAIN, lambda _: None),
        pytest.raises(MeterBusy, match="phase upload begins while train is open"),
        meter.phase(Phase.UPLOAD, lambda _: None),
    ):
        pass


def test_what_an_agent_used_before_its_connection_broke_stays_its_own(make_meter, host, service):
    meter = make_meter()
    unclosed = meter.phase(Phase.TRAIN, lambda _: None)
    unclosed.__enter__()
    meter.sample()
    host.spend(2.0, 50.0, {"a": 1.0}, others_s=1.0)
    meter.close()
    service.until(lambda: ("a", "train") in host.rows())
    assert host.rows()["a", "train"] == pytest.approx(15.0)


def test_a_lost_meter_gives_none_and_no_model_speaks_for_it(make_meter, host, service):
    meter, windows = make_meter(), []
    with meter.phase(Phase.TRAIN, windows.append):
        host.spend(2.0, 50.0, {"a": 1.0})
        service.close()
    meter.settle()
    assert (
        [(r.source, r.joules, r.quality, r.flags) for r in windows[0].readings],
        meter.up(),
        [r.id for r in meter.rejected],
    ) == ([("rapl:package-0", None, Quality.DERIVED, ("meter_lost",))], {"rapl:package-0": False}, ["meter"])


def test_a_meter_that_was_lost_and_is_back_gives_no_joules_for_the_window_in_between(
    make_meter, host, service, make_service, monkeypatch
):
    monkeypatch.setattr("edge_agent.energy.remote.RETRY_S", 0.0)
    meter, windows = make_meter(), []
    with meter.phase(Phase.TRAIN, windows.append):
        service.close()
        make_service()
        meter.sample()
    with meter.phase(Phase.TRAIN, windows.append):
        meter.sample()
        host.spend(2.0, 50.0, {"a": 1.0}, others_s=1.0)
    meter.settle()
    assert [w.readings[0].joules for w in windows] == [None, pytest.approx(15.0)]


def test_a_meter_that_hangs_costs_the_figures_and_not_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.energy.remote.TIMEOUT_S", 0.01)
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    deaf.bind(str(tmp_path / "meter.sock"))
    deaf.listen()
    meter, trained = RemoteMeter(tmp_path / "meter.sock", "a", (), lambda sources: Meter([]), 0.0), []
    with meter.phase(Phase.TRAIN, trained.append):
        pass
    meter.close()
    deaf.close()
    assert (trained[0].readings, "does not answer: timed out" in meter.rejected[0].reason) == ((), True)


def test_an_agent_starts_without_its_meter_and_says_so(tmp_path):
    meter = RemoteMeter(tmp_path / "nowhere.sock", "a", (), lambda sources: Meter([]), 0.0)
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        pass
    assert (windows[0].readings, meter.sources, "cannot be reached" in meter.rejected[0].reason) == ((), (), True)


def test_the_model_is_asked_for_only_by_what_the_host_measures(make_meter):
    seen = []

    def local(sources):
        seen.extend(sources)
        return Meter([])

    make_meter(local=local)
    assert [(s.id, s.component) for s in seen] == [("rapl:package-0", "cpu")]
    assert isinstance(seen[0], SourceInfo)


def test_only_the_owner_and_the_group_may_open_the_socket(service):
    assert service.path.stat().st_mode & 0o777 == 0o660


def test_a_second_meter_on_a_socket_is_an_error(tmp_path):
    held = server.lock(tmp_path / "meter.sock")
    with pytest.raises(AddressInUse, match="another meter serves"):
        server.lock(tmp_path / "meter.sock")
    os.close(held)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    (tmp_path / "meter.sock").write_text("mine")
    with pytest.raises(AddressInUse, match="is there and is no socket"):
        server._listen(tmp_path / "meter.sock")


def test_levers_are_offered_set_and_put_back(service):
    levers = RemoteLevers(service.path, "a")
    outcome, lit = levers.set("lamp", 15.0), service.lamp.watts
    levers.release()
    released = service.lamp.watts
    levers.close()
    assert ([i.lever for i in levers.infos], outcome.applied, lit, released) == (["lamp"], 15.0, 15.0, 40.0)


def test_levers_are_put_back_when_a_connection_ends(service):
    levers = RemoteLevers(service.path, "a")
    levers.set("lamp", 15.0)
    levers.close()
    service.until(lambda: service.lamp.watts == 40.0)
    assert service.lamp.watts == 40.0


def test_levers_are_put_back_when_the_meter_ends(service):
    levers = RemoteLevers(service.path, "a")
    levers.set("lamp", 15.0)
    service.close()
    assert service.lamp.watts == 40.0


def test_a_refused_lever_says_why_and_the_connection_goes_on(service):
    levers = RemoteLevers(service.path, "a")
    refused, applied = levers.set("lamp", 900.0), levers.set("lamp", 9.0)
    levers.close()
    assert (refused.applied, refused.reason, applied.applied) == (None, "900 W is outside 1 to 60", 9.0)


def test_without_the_meter_a_lever_is_refused(tmp_path):
    outcome = RemoteLevers(tmp_path / "nowhere.sock", "a").set("lamp", 9.0)
    assert (outcome.applied, "cannot be reached" in outcome.reason) == (None, True)


def test_a_connection_for_levers_marks_no_phases(service):
    link = Link(service.path, lambda: (messages.Levers("a"), []), 5.0)
    link.connect()
    with pytest.raises(MeterLost, match="begin on a connection for levers"):
        link.ask(messages.Begin(Phase.TRAIN))
