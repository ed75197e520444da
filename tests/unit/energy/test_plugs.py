import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edge_agent.energy import plugs
from edge_agent.energy.counter import Delta, Failed, First
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.unwrap import CounterTracker
from fleet.errors import BadRequest

SHELLY2 = {
    "id": 0,
    "output": True,
    "apower": 41.5,
    "voltage": 230.1,
    "aenergy": {"total": 2.5, "by_minute": [1, 2, 3]},
}
SHELLY1 = {"meters": [{"power": 41.5, "is_valid": True, "total": 150}]}
TASMOTA = {"StatusSNS": {"Time": "x", "ENERGY": {"Total": 0.0025, "Power": 41, "Voltage": 230, "Current": 0.2}}}


class Plug:
    """A plug on loopback: what it answers by path; `None` answers nothing until the test ends."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []
        self.ended = threading.Event()
        plug = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                plug.asked.append(self.path)
                said = plug.answers.get(self.path, 404)
                if said is None:
                    plug.ended.wait()
                    return
                body = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(said if isinstance(said, int) else 200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def plug():
    opened = []

    def open_(answers):
        opened.append(Plug(answers))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


RPC, STATUS = "/rpc/Switch.GetStatus?id=0", "/status"
NEW, OLD = "/cm?cmnd=Status%2010", "/cm?cmnd=Status%208"


@pytest.mark.parametrize(
    ("model", "answers", "watts"),
    [
        ("shelly2", {RPC: SHELLY2}, 41.5),
        ("shelly1", {STATUS: SHELLY1}, 41.5),
        ("tasmota", {NEW: TASMOTA}, 41),
        ("tasmota", {NEW: {"Command": "Unknown"}, OLD: TASMOTA}, 41),
    ],
)
def test_watt_hours_watt_minutes_and_kilowatt_hours_are_the_same_joules(plug, model, answers, watts):
    said = plugs.ask(plugs.PlugAddress.parse(f"{model}:{plug(answers).host}"))
    assert (said.watts, said.joules) == (watts, pytest.approx(9000.0))


def test_tasmota_with_two_channels_is_one_plug(plug):
    two = {"StatusSNS": {"ENERGY": {"Total": 1.0, "Power": [10, 5.5]}}}
    assert plugs.ask(plugs.PlugAddress.parse(f"tasmota:{plug({NEW: two}).host}")).watts == 15.5


def test_power_is_the_walls_energy_and_the_counter_is_shown_beside_it(host, plug):
    one = plug({RPC: SHELLY2})
    found = host.discover(plugs=[f"shelly2:{one.host}"])
    found.close()
    assert [(t.info.id, t.info.component, t.info.scope, t.info.min_window_s) for t in found.trackers] == [
        (f"plug:{one.host}", "wall", "wall", 10.0),
        (f"plug:{one.host}/counter", "rail", "wall", 600.0),
    ]


def test_power_is_integrated_over_the_plugs_own_time(host, plug):
    one = plug({RPC: SHELLY2})
    poller = plugs.PlugPoller(plugs.PlugAddress.parse(f"shelly2:{one.host}"), host.clock)
    trackers = [_power(poller), _counter(poller)]
    seen = []
    for watts, watt_hours in ((40.0, 2.5), (60.0, 2.52)):
        one.answers[RPC] = SHELLY2 | {"apower": watts, "aenergy": {"total": watt_hours}}
        poller.poll()
        seen.append([tracker.advance() for tracker in trackers])
        host.pass_(0.9)
        seen.append([tracker.advance() for tracker in trackers])
        host.pass_(0.1)
    assert seen == [
        [First(), First()],
        [Delta(0.0), Delta(0.0)],
        [Delta(pytest.approx(50.0)), Delta(pytest.approx(72.0))],
        [Delta(0.0), Delta(0.0)],
    ]


def _power(poller):
    return SensorTracker(plugs.PlugPower(poller))


def _counter(poller):
    return CounterTracker(plugs.PlugCounter(poller))


def test_a_stale_sample_is_a_failure_and_never_carried_on(host, plug):
    one = plug({RPC: SHELLY2})
    poller = plugs.PlugPoller(plugs.PlugAddress.parse(f"shelly2:{one.host}"), host.clock)
    poller.poll()
    tracker = _power(poller)
    seen = [tracker.advance()]
    host.pass_(3.1)
    seen.append(tracker.advance())
    poller.poll()
    seen.append(tracker.advance())
    assert seen == [First(), Failed("stale"), First()]


def test_a_plug_is_asked_by_a_thread_of_its_own(host, plug):
    one = plug({RPC: SHELLY2})
    poller = plugs.PlugPoller(plugs.PlugAddress.parse(f"shelly2:{one.host}"), host.clock, interval_s=0.01)
    poller.start()
    while len(one.asked) < 3:
        poller._stop.wait(0.01)
    poller.stop()
    assert _power(poller).source.read().value == 41.5


def test_a_plug_that_says_nothing_is_given_up_after_its_time(plug):
    with pytest.raises(plugs.SourceFailed, match=r"is silent for 0\.05 s"):
        plugs.ask(plugs.PlugAddress.parse(f"shelly2:{plug({RPC: None}).host}"), patience_s=0.05)


@pytest.mark.parametrize(
    ("answers", "reason", "said"),
    [
        ({RPC: 401}, "unauthorised", "answers 401"),
        ({RPC: 500}, "http", "answers 500"),
        ({RPC: b"<html>router</html>"}, "garbled", "no answer of a Shelly"),
        ({RPC: {"apower": 3}}, "garbled", "aenergy"),
        ({RPC: b'{"apower": NaN, "aenergy": {"total": 1}}'}, "garbled", "not finite"),
    ],
)
def test_a_plug_that_is_none_is_rejected_with_what_it_said(host, plug, answers, reason, said):
    one = plug(answers)
    with pytest.raises(plugs.SourceFailed) as raised:
        plugs.ask(plugs.PlugAddress.parse(f"shelly2:{one.host}"))
    rejected = next(r for r in host.discover(plugs=[f"shelly2:{one.host}"]).rejected if r.id.startswith("plug"))
    assert (raised.value.reason, said in rejected.reason) == (reason, True)


def test_nobody_there_is_a_reason(host):
    found = host.discover(plugs=["shelly2:127.0.0.1:9"])
    assert next(r for r in found.rejected if r.id == "plug:127.0.0.1:9").reason.startswith("127.0.0.1:9: ")


@pytest.mark.parametrize(
    "wrong", ["", "shelly3:host", "shelly2", "shelly2:", "tasmota:host:80a", "shelly2:host/x"]
)
def test_an_address_that_is_none_lists_the_models(wrong):
    with pytest.raises(BadRequest, match="model of shelly2, shelly1, tasmota"):
        plugs.PlugAddress.parse(wrong)
