"""The meter of a host as a process of its own: real sockets, real CPU time, real SIGKILLs, a fake sysfs."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace

import pytest

from cli import local, report
from cli.run import start
from edge_agent.energy.cpu_usage import host_busy_seconds
from edge_agent.energy.meter import Meter
from edge_agent.energy.remote import RemoteMeter
from edge_agent.meterd import messages
from edge_agent.meterd.link import Link, MeterLost
from fleet.domain import Phase, Quality

WATTS_PER_CORE = 20.0
IDLE_WATTS = 5.0


class Rapl:
    """A powercap tree whose package counter goes up with the time and with what this machine computes."""

    def __init__(self, root):
        self.root = root
        zone = root / "class/powercap/intel-rapl:0"
        zone.mkdir(parents=True)
        (zone / "name").write_text("package-0\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")
        self._file = os.open(zone / "energy_uj", os.O_CREAT | os.O_RDWR, 0o400)
        self._stop = threading.Event()
        self._began = time.monotonic(), host_busy_seconds()
        self._write()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _write(self):
        seconds, busy_s = time.monotonic() - self._began[0], host_busy_seconds() - self._began[1]
        joules = IDLE_WATTS * seconds + WATTS_PER_CORE * busy_s
        os.pwrite(self._file, f"{round(joules * 1e6):015d}\n".encode(), 0)

    def _run(self):
        while not self._stop.wait(0.01):
            self._write()

    def close(self):
        self._stop.set()
        self._thread.join()
        os.close(self._file)


@pytest.fixture
def tree(tmp_path):
    rapl = Rapl(tmp_path / "sys")
    policy = rapl.root / "devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    for name, value in (
        ("cpuinfo_min_freq", 400_000),
        ("cpuinfo_max_freq", 3_000_000),
        ("scaling_min_freq", 400_000),
        ("scaling_max_freq", 2_800_000),
    ):
        (policy / name).write_text(f"{value}\n")
    yield rapl.root
    rapl.close()


class Meterd:
    """One process; `say` is its environment."""

    def __init__(self, folder, tree):
        self.folder = folder
        self.socket = folder / "run/meter.sock"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("WATTBED_")
        } | {
            "WATTBED_METER": str(self.socket),
            "WATTBED_STATE": str(folder / "state"),
            "WATTBED_HOST_SYS": str(tree),
            "WATTBED_METRICS": "127.0.0.1:0",
            "WATTBED_LEVERS": "cpufreq",
            "WATTBED_BASELINE": f"rapl:package-0={IDLE_WATTS}",
        }
        self.process = None

    def start(self):
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent.meterd"], env=self.environment, stderr=self.log
        )
        until(self.answers, f"{self.said()}")

    def answers(self):
        assert self.process.poll() is None, self.said()
        link = Link(self.socket, lambda: (messages.Levers("me"), []), timeout_s=5.0)
        try:
            link.connect()
        except MeterLost:
            return False
        link.close()
        return True

    def run(self, *arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "edge_agent.meterd", *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def end(self, number):
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.process = None
        self.log.close()
        return code

    def said(self):
        return (self.folder / "log").read_text()

    def metrics(self):
        """Value by (name, labels)."""
        port = re.findall(r"metrics on port (\d+)", self.said())[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            if not line.startswith("#"):
                name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
                found[name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels or "")))] = float(value)
        return found

    def agents(self):
        """Joules by agent, and of the host, of one scrape."""
        by_agent, host = {}, 0.0
        for (name, labels), value in self.metrics().items():
            if name == "wattbed_agent_energy_joules_total":
                agent = dict(labels)["agent"]
                by_agent[agent] = by_agent.get(agent, 0.0) + value
            elif name == "wattbed_host_energy_joules_total":
                host += value
        return by_agent, host


@pytest.fixture
def meterd(tmp_path, tree):
    service = Meterd(tmp_path, tree)
    service.start()
    yield service
    if service.process is not None:
        service.end(signal.SIGTERM)


def until(condition, what="", within_s=60.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def burn(cpu_seconds):
    until_s = time.process_time() + cpu_seconds
    while time.process_time() < until_s:
        sum(range(1000))


WORKER = """
import sys, time
from pathlib import Path
from edge_agent.energy.meter import Meter
from edge_agent.energy.remote import RemoteMeter
from edge_agent.levers.remote import RemoteLevers
from fleet.domain import Phase, Quality
socket, name = Path(sys.argv[1]), sys.argv[2]
levers = RemoteLevers(socket, name)
print(levers.set("cpufreq", 1e9).applied, flush=True)
meter = RemoteMeter(socket, name, (), lambda sources: Meter([]))
with meter.phase(Phase.TRAIN, lambda window: None):
    while True:
        sum(range(1000))
"""


@pytest.fixture
def worker(meterd):
    """Another process that trains without end, and holds the processor's clock."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(meterd.socket), "worker"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "1000000000.0\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def clock_khz(tree):
    return int((tree / "devices/system/cpu/cpufreq/policy0/scaling_max_freq").read_text())


def test_a_window_of_an_agent_is_its_share_of_the_hosts_dynamic_energy(meterd):
    meter, windows = RemoteMeter(meterd.socket, "me", (), lambda _: Meter([])), []
    before = time.process_time()
    with meter.phase(Phase.TRAIN, windows.append):
        burn(1.0)
    expected = WATTS_PER_CORE * (time.process_time() - before)
    meter.close()
    (reading,) = windows[0].readings
    assert reading.flags == ()
    assert reading.joules == pytest.approx(expected, rel=0.25)


def test_agents_the_idle_host_and_the_others_are_the_host_also_when_an_agent_is_killed_in_a_window(meterd, worker):
    meter = RemoteMeter(meterd.socket, "me", (), lambda _: Meter([]))
    with meter.phase(Phase.TRAIN, lambda _: None):
        burn(0.5)
        until(lambda: meterd.agents()[0].get("worker", 0.0) > 2.0)
        worker.kill()
        worker.wait()
        at_death = meterd.agents()[0]["worker"]
        burn(0.5)
    meter.close()
    by_agent, host = meterd.agents()
    assert set(by_agent) == {"me", "worker", "_idle", "_other"}
    assert sum(by_agent.values()) == pytest.approx(host, rel=0.01)
    assert by_agent["worker"] >= at_death > 2.0


def the_next_window_is_whole(meter, windows):
    """Of two windows the first is lost."""
    until(lambda: meter.sample() or all(meter.up().values()))
    with meter.phase(Phase.TRAIN, windows.append):
        burn(0.2)
    meter.close()
    lost, whole = (w.readings[0] for w in windows)
    assert (lost.joules, lost.flags) == (None, ("meter_lost",))
    assert whole.joules > 0


def test_a_meter_that_is_killed_in_a_window_costs_the_window_and_no_more(meterd):
    meter, windows = RemoteMeter(meterd.socket, "me", (), lambda _: Meter([])), []
    with meter.phase(Phase.TRAIN, windows.append):
        meterd.end(signal.SIGKILL)
    meter.settle()
    meterd.start()
    the_next_window_is_whole(meter, windows)


def test_a_meter_that_is_stopped_in_a_window_costs_the_window_and_no_more(meterd):
    meter, windows = RemoteMeter(meterd.socket, "me", (), lambda _: Meter([])), []
    with meter.phase(Phase.TRAIN, windows.append):
        meterd.process.send_signal(signal.SIGSTOP)
    meter.settle()
    meterd.process.send_signal(signal.SIGCONT)
    the_next_window_is_whole(meter, windows)


def test_the_levers_of_an_agent_that_is_killed_are_put_back(meterd, worker, tree):
    moved = clock_khz(tree)
    worker.kill()
    until(lambda: clock_khz(tree) == 2_800_000)
    assert moved == 1_000_000


@pytest.mark.parametrize("how", ["started again", "--restore"])
def test_the_levers_of_a_meter_that_is_killed_are_put_back(meterd, worker, tree, how):
    meterd.end(signal.SIGKILL)
    moved = clock_khz(tree)
    if how == "--restore":
        assert meterd.run("--restore").returncode == 0
    else:
        meterd.start()
    assert (moved, clock_khz(tree)) == (1_000_000, 2_800_000)


def test_a_meter_that_is_told_to_end_puts_levers_back_and_removes_its_socket(meterd, worker, tree):
    assert (meterd.end(signal.SIGTERM), clock_khz(tree), meterd.socket.exists()) == (0, 2_800_000, False)


def test_a_second_meter_of_the_same_counters_refuses_them(meterd, tmp_path):
    other = Meterd(tmp_path / "other", meterd.environment["WATTBED_HOST_SYS"])
    other.folder.mkdir()
    other.start()
    labels = [dict(labels) for (name, labels), _ in other.metrics().items() if "rejected" in name]
    other.end(signal.SIGTERM)
    assert {found["source"]: found["reason"] for found in labels}[
        "rapl:package-0"
    ] == "another process of this host owns its counters"


def test_a_second_meter_on_the_same_socket_does_not_start(meterd):
    second = meterd.run()
    assert (second.returncode, second.stderr.splitlines()[-1]) == (
        1,
        f"meterd: another meter serves {meterd.socket}",
    )


def test_check_says_whether_a_meter_answers(meterd):
    there = meterd.run("--check")
    meterd.end(signal.SIGTERM)
    gone = meterd.run("--check")
    assert (there.returncode, gone.returncode, "cannot be reached" in gone.stderr) == (0, 1, True)


def test_a_wrong_environment_is_exit_code_2_and_one_line(tmp_path):
    ended = Meterd(tmp_path, tmp_path).run(WATTBED_METRICS="9465")
    assert (ended.returncode, ended.stderr) == (2, "meterd: WATTBED_METRICS = '9465': not host:port\n")


def test_agents_of_a_local_testbed_share_the_counters_of_their_host(tree, lone):
    def dressed(spec):
        facts = {"WATTBED_HOST_SYS": str(tree)} if spec.name == local.METER else {}
        return replace(spec, facts=spec.facts | facts)

    state = lone.folder / "testbed"
    asked = {"agents": 2, "kinds": ["mini-pc-n100"], "data": None, "port": 0, "http_port": 0}
    testbed, started = local.up(state, **asked, each=dressed, counters=lambda: True)
    try:
        run = start(lone.noop("shared", model_bytes=100_000, devices=2, rounds=2), testbed.address)
        until(
            lambda: asyncio.run(report.fetch(testbed.address, run, with_grids=False))[0].run.phase == "completed"
        )
        found, _ = asyncio.run(report.fetch(testbed.address, run, with_grids=False))
    finally:
        local.down(state)
    readings = [r for x in found.rounds for d in x.devices for p in d.phases for r in p.readings]
    assert local.METER in started
    assert {(r.source, r.quality) for r in readings} == {("rapl:package-0", Quality.DERIVED)}
    assert sum(r.joules for r in readings if r.joules is not None) > 0
