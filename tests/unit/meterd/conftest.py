"""A host made of files: /proc/stat, a counter of joules, and agents that spend CPU time as the test says."""

import asyncio
import os
import socket
import threading

import pytest

from edge_agent.energy import cpu_usage
from edge_agent.energy.baseline import Baseline
from edge_agent.energy.counter import Raw, ReadFailed, SourceInfo
from edge_agent.energy.cpu_usage import UsageFile
from edge_agent.energy.meter import Meter
from edge_agent.energy.remote import RemoteMeter
from edge_agent.energy.unwrap import CounterTracker
from edge_agent.levers.board import Board
from edge_agent.levers.journal import Journal
from edge_agent.meterd import messages, server
from edge_agent.meterd.desk import LeverDesk
from edge_agent.meterd.host import HostMeter
from edge_agent.meterd.session import Daemon
from fleet.domain import LeverInfo, Quality

HERTZ = os.sysconf("SC_CLK_TCK")


class Counter:
    """Joules the test sets; None: it cannot be read."""

    def __init__(self, host, id, component, scope):
        self.host = host
        self.joules = 0.0
        self.info = SourceInfo(id, id.partition(":")[0], component, scope, Quality.MEASURED, 0.05, "")

    def read(self):
        if self.joules is None:
            raise ReadFailed("gone")
        return Raw(self.joules, round(self.host.now * 1e9))


class Host:
    """Time passes by `spend`, which says what everybody used meanwhile."""

    def __init__(self, folder, sources, idle_watts=None):
        self.folder = folder
        self.now = 1000.0
        self.busy_s = 500.0
        self.counters = {id: Counter(self, id, component, scope) for id, component, scope in sources}
        self.cpu_s = {}
        self._write()
        self.baseline = Baseline(idle_watts or {}, None)
        trackers = [CounterTracker(c) for c in self.counters.values()]
        self.meter = HostMeter(trackers, (), self.baseline, folder, lambda: self.now)

    def add(self, agent, gpus=()):
        self.cpu_s[agent] = 7.0
        self._write()
        path = self.folder / f"{agent}.usage"
        descriptor = os.open(path, os.O_RDONLY)
        self.meter.join(agent, UsageFile(descriptor, "cpuacct.usage", (0, path.stat().st_ino)), gpus)

    def usage(self, agent):
        """What opens the file that an agent of this host would hand over."""

        def open_usage():
            if agent not in self.cpu_s:
                self.cpu_s[agent] = 7.0
                self._write()
            folder = self.folder / agent
            folder.mkdir(exist_ok=True)
            link = folder / "cpuacct.usage"
            if not link.exists():
                os.link(self.folder / f"{agent}.usage", link)
            return os.open(link, os.O_RDONLY)

        return open_usage

    def remove(self, agent):
        self.meter.leave(agent)

    def spend(self, seconds, joules, cpu_s=None, others_s=0.0):
        """Joules by source, or of the only one; CPU seconds by agent, and of everybody else."""
        self.now += seconds
        if not isinstance(joules, dict):
            joules = dict.fromkeys(self.counters, joules)
        for id, more in joules.items():
            counter = self.counters[id]
            counter.joules = None if more is None else (counter.joules or 0.0) + more
        for agent, spent in (cpu_s or {}).items():
            self.cpu_s[agent] += spent
        self.busy_s += sum((cpu_s or {}).values()) + others_s
        self._write()

    def _write(self):
        (self.folder / "stat").write_text(
            f"cpu  {round(self.busy_s * HERTZ)} 0 0 99999 7 0 0 3 2 0\ncpu0 0 0 0 0\n"
        )
        for agent, spent in self.cpu_s.items():
            (self.folder / f"{agent}.usage").write_text(f"{round(spent * 1e9)}\n")

    def rows(self, source=None):
        """Joules by (agent, phase), of one source or of all."""
        found = {}
        for (agent, phase, id), joules in self.meter.snapshot()[1].items():
            if source in (None, id):
                found[agent, str(phase)] = found.get((agent, str(phase)), 0.0) + joules
        return found


PACKAGE = ("rapl:package-0", "cpu", "package")


@pytest.fixture
def make_host(tmp_path):
    made = []

    def make(sources=(PACKAGE,), idle_watts=None):
        folder = tmp_path / f"host-{len(made)}"
        folder.mkdir()
        made.append(Host(folder, sources, idle_watts))
        return made[-1]

    return make


@pytest.fixture
def host(make_host):
    return make_host(idle_watts={"rapl:package-0": 10.0})


class Lamp:
    """A lever whose state the test sees."""

    info = LeverInfo("lamp", "W", 1.0, 60.0)

    def __init__(self):
        self.watts = 40.0

    def original(self):
        return {"watts": str(self.watts)}

    def apply(self, value):
        self.watts = value
        return value

    def restore(self, original):
        self.watts = float(original["watts"])


class Service:
    """A server in a thread of its own, over the host of this test."""

    def __init__(self, folder, host, serves_metrics=False):
        self.path = folder / "meter.sock"
        self.host = host
        self.lamp = Lamp()
        self._serves_metrics = serves_metrics
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._started.wait(10)

    async def _run(self):
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        desk = LeverDesk(Board([self.lamp], ["lamp"], Journal(None)))
        devices = cpu_usage.cgroup_devices() | {os.stat(self.host.folder).st_dev}
        running = server.Server(Daemon(self.host.meter, desk, self._serves_metrics, devices), self.path)
        self._started.set()
        await running.run(self._stop, hz=1e-3)  # the test's clock ticks, not the server's

    def close(self):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @staticmethod
    def until(condition):
        for _ in range(2000):
            if condition():
                return
            threading.Event().wait(0.005)
        raise TimeoutError


@pytest.fixture
def make_service(tmp_path, host):
    made = []

    def make(**settings):
        made.append(Service(tmp_path, host, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def service(make_service):
    return make_service()


@pytest.fixture
def make_meter(service, host):
    made = []

    def make(agent="a", local=lambda sources: Meter([]), **settings):
        settings = {"clock": lambda: host.now} | settings
        made.append(RemoteMeter(service.path, agent, (), local, 0.0, host.usage(agent), **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def talk(service):
    """A raw connection: says packets with files, and hears answers."""
    made = []

    def connect():
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        raw.settimeout(10)
        raw.connect(str(service.path))
        made.append(raw)

        def say(packet, descriptors=()):
            socket.send_fds(raw, [packet], list(descriptors))
            return raw.recv(messages.MOST_BYTES)

        return say, raw

    yield connect
    for one in made:
        one.close()
