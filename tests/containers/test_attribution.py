"""Agents in containers, the meter in another, real load, and a powercap tree that goes up with what this host computes."""

import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
import uuid

import pytest
from docker.errors import NotFound

from edge_agent.energy.cpu_usage import host_busy_seconds

IMAGE = "wattbed-agent:0.1.0"
IDLE_WATTS = 6.0
WATTS_PER_CORE = 25.0
AGENTS_GROUP = 10001

WORKER = """
import sys, time
from pathlib import Path
from edge_agent.energy.meter import Meter
from edge_agent.energy.remote import RemoteMeter
from fleet.domain import Phase
meter = RemoteMeter(Path("/run/wattbed/meter.sock"), sys.argv[1], (), lambda sources: Meter([]), wait_s=30.0)
while True:
    for phase, cpu_s in ((Phase.TRAIN, 0.5), (Phase.QUANTIZE, 0.1)):
        with meter.phase(phase, lambda window: print(window, flush=True)):
            until_s = time.process_time() + cpu_s
            while time.process_time() < until_s:
                sum(range(1000))
    time.sleep(0.1)
"""


class Rapl:
    """A package whose counter goes up by its idle power and by what the host is busy; its memory by a constant."""

    def __init__(self, root):
        self.root = root
        self._began_s, self._began_busy_s = time.monotonic(), host_busy_seconds()
        self._files = {}
        for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram"), ("intel-rapl:0:1", "core")):
            folder = root / "class/powercap" / zone
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"{name}\n")
            (folder / "max_energy_range_uj").write_text("262143328850\n")
            self._files[name] = os.open(folder / "energy_uj", os.O_CREAT | os.O_RDWR, 0o400)
        self._stop = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _write(self):
        seconds, busy_s = time.monotonic() - self._began_s, host_busy_seconds() - self._began_busy_s
        package = IDLE_WATTS * seconds + WATTS_PER_CORE * busy_s
        for name, joules in (("package-0", package), ("dram", 2.0 * seconds), ("core", package * 0.8)):
            os.pwrite(self._files[name], f"{round(joules * 1e6):015d}\n".encode(), 0)

    def _run(self):
        while not self._stop.wait(0.01):
            self._write()

    def close(self):
        self._stop.set()
        self._thread.join()
        for file in self._files.values():
            os.close(file)


class Bench:
    """The meter and the agents of one test, in containers with names of their own."""

    def __init__(self, engine, folder):
        self.engine = engine
        self.prefix = f"wattbed-attribution-{uuid.uuid4().hex[:8]}"
        self.containers = {}
        self.socket = folder / "run"
        self.socket.mkdir(mode=0o755)
        self.tree = folder / "sys"
        self.rapl = Rapl(self.tree)

    def start_meter(self):
        mounts = {str(self.socket): {"bind": "/run/wattbed", "mode": "rw"}}
        mounts[str(self.tree)] = {"bind": "/host/sys", "mode": "ro"}
        self._run(
            "meter",
            ["python3", "-m", "edge_agent.meterd"],
            mounts,
            user=f"0:{AGENTS_GROUP}",
            tmpfs={"/tmp": "", "/state": ""},
            ports={"9465/tcp": ("127.0.0.1", None)},
            environment={
                "WATTBED_STATE": "/state",
                "WATTBED_HOST_SYS": "/host/sys",
                "WATTBED_METRICS": "0.0.0.0:9465",
                "WATTBED_BASELINE": f"rapl:package-0={IDLE_WATTS}",
            },
        )
        meter = self.containers["meter"]
        meter.reload()
        self.port = meter.ports["9465/tcp"][0]["HostPort"]
        self.until("the meter answers", self.totals)

    def start_agent(self, name, cpus):
        mounts = {str(self.socket): {"bind": "/run/wattbed", "mode": "ro"}}
        quota = {"cpu_period": 100_000, "cpu_quota": round(cpus * 100_000)}
        self._run(name, ["python3", "-c", WORKER, name], mounts, network_mode="none", tmpfs={"/tmp": ""}, **quota)

    def _run(self, name, command, mounts, **settings):
        self.containers[name] = self.engine.containers.run(
            IMAGE,
            entrypoint=command,
            name=f"{self.prefix}-{name}",
            detach=True,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            volumes=mounts,
            **settings,
        )

    def cpu_seconds(self, name):
        """CPU time of a container, as the engine knows it."""
        stats = self.containers[name].stats(stream=False)
        return stats["cpu_stats"]["cpu_usage"]["total_usage"] * 1e-9

    def totals(self):
        """Joules of the host, and by (agent, phase), of one scrape; None while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return None
        host, agents = 0.0, {}
        for line in text.splitlines():
            if not line.startswith(("wattbed_host_energy_joules_total", "wattbed_agent_energy_joules_total")):
                continue
            name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
            labels = json.loads("{" + re.sub(r'(\w+)=("[^"]*")', r'"\1":\2', labels) + "}")
            if name.startswith("wattbed_host"):
                host += float(value)
            else:
                key = labels["agent"], labels["phase"]
                agents[key] = agents.get(key, 0.0) + float(value)
        return host, agents

    def until(self, what, true, within_s=120):
        deadline = time.monotonic() + within_s
        while not true():
            logs = {name: c.logs(tail=20).decode() for name, c in self.containers.items()}
            assert time.monotonic() < deadline, f"waited {within_s} s until {what}: {logs}"
            time.sleep(0.2)

    def close(self):
        for container in self.containers.values():
            try:
                container.remove(force=True)
            except NotFound:
                continue
        self.rapl.close()


@pytest.fixture
def bench(stack, engine, tmp_path):
    """`stack` has built the image."""
    made = Bench(engine, tmp_path)
    yield made
    made.close()


def joules_of(agents, name):
    return sum(joules for (agent, _), joules in agents.items() if agent == name)


def test_agents_the_idle_host_and_the_others_are_the_host(bench):
    bench.start_meter()
    for name, cpus in (("small", 0.2), ("middle", 0.4), ("doomed", 0.4)):
        bench.start_agent(name, cpus)

    def worked(*names):
        return all(joules_of(bench.totals()[1], name) > 15.0 for name in names)

    bench.until("every agent has worked", lambda: worked("small", "middle", "doomed"))
    bench.containers["doomed"].kill()
    _, agents = bench.totals()
    at_death = joules_of(agents, "doomed")
    scrapes = []
    for _ in range(10):
        scrapes.append(bench.totals())
        time.sleep(0.3)
    spent = {name: WATTS_PER_CORE * bench.cpu_seconds(name) for name in ("small", "middle")}
    _, agents = bench.totals()

    assert [sum(by_agent.values()) for _, by_agent in scrapes] == [
        pytest.approx(host, rel=0.01) for host, _ in scrapes
    ]
    assert {agent for agent, _ in agents} == {"small", "middle", "doomed", "_idle", "_other"}
    assert joules_of(agents, "doomed") >= at_death > 15.0
    for name, joules in spent.items():
        # What a process used before it joined, imports above all, is not its agent's; what the memory draws is.
        assert 0.5 * joules < joules_of(agents, name) < 1.4 * joules, (name, joules, agents)


def test_the_phases_of_an_agent_get_what_was_spent_in_them(bench):
    bench.start_meter()
    bench.start_agent("worker", 0.5)

    def trained():
        return bench.totals()[1].get(("worker", "train"), 0.0) > 60.0

    bench.until("the agent has trained", trained)
    _, agents = bench.totals()
    assert 3.0 < agents["worker", "train"] / agents["worker", "quantize"] < 8.0  # five to one by CPU time
