"""What metering costs: the sampler, the edges of a window, the daemon with its agents, and a scrape of it.

The counters are ordinary files in the shape of a two-socket server's powercap tree, so the kernel's part of a
reading (a few microseconds for an MSR, milliseconds for the I2C bus of a Jetson) is not in these figures.
On a machine that others use too, `nice -n -15` (as root) keeps them out of the percentiles.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import quantiles

import psutil
from meter_slowdown import KINDS, STRETCH_S, Slower, slowdown
from provenance import Provenance, Spread, parser, publish, table

from edge_agent.energy.discover import discover
from edge_agent.energy.meter import DeviceMeter, Meter
from edge_agent.energy.remote import RemoteMeter
from fleet.domain import Phase

HZ = 10.0
ZONES = ("package-0", "dram", "core", "package-1", "dram", "core")
AGENTS = (1, 8)
PACE_S = 0.1
"""Between two windows of an agent, on average; half of it inside, each drawn from half to one and a half."""

MOST_CORES = 0.01
MOST_EDGE_S = 0.001
MOST_RUNTIME = 0.005
MOST_SCRAPE_S = 0.05


@dataclass(frozen=True)
class Size:
    """Seconds per measurement of CPU time, windows per agent, repetitions, pairs of stretches of work."""

    sampling_s: float
    windows: int
    repeats: int
    pairs: int


FULL = Size(10.0, 600, 5, 100)
QUICK = Size(2.0, 100, 2, 10)


@dataclass(frozen=True)
class Edges:
    """Seconds that the caller waits at begin and end of a window, and seconds from its end until its joules are
    there, each as median and 99th percentile.
    """

    begin_p50_s: float
    begin_p99_s: float
    end_p50_s: float
    end_p99_s: float
    known_p50_s: float
    known_p99_s: float


@dataclass(frozen=True)
class Daemon:
    """One daemon with `agents` agents: CPU time while nobody works, edges of windows, seconds of a scrape."""

    agents: int
    idle_cores: Spread
    edges: Edges
    scrape_s: Spread


@contextmanager
def tree() -> Iterator[Path]:
    """A fake sysfs with two packages, whose counters go up twenty times a second."""
    with tempfile.TemporaryDirectory(prefix="wattbed-bench-") as folder:
        files = []
        for number, name in enumerate(ZONES):
            socket, part = divmod(number, 3)
            index = f"intel-rapl:{socket}" + (f":{part - 1}" if part else "")
            zone = Path(folder, "sys/class/powercap", index)
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{name}\n")
            (zone / "max_energy_range_uj").write_text("262143328850\n")
            files.append(os.open(zone / "energy_uj", os.O_CREAT | os.O_RDWR))
        stop = threading.Event()

        def advance() -> None:
            microjoules = 0
            while not stop.wait(0.05):
                microjoules += 500_000
                for number, file in enumerate(files):
                    os.pwrite(file, f"{microjoules + number * 1000:015d}\n".encode(), 0)

        for file in files:
            os.pwrite(file, b"000000000000001\n", 0)
        thread = threading.Thread(target=advance, daemon=True)
        thread.start()
        try:
            yield Path(folder)
        finally:
            stop.set()
            thread.join()
            for file in files:
                os.close(file)


def edges(meter: DeviceMeter, windows: int, seed: int = 0) -> Edges:
    """Marks `windows` windows, a little apart, as a device would. Of every other one the joules are asked for at
    once; those of the rest are collected at the marks after it.
    """
    begins, ends, knowns, random = [], [], [], Random(seed)
    for number in range(windows):
        began_s = time.perf_counter()
        window = meter.phase(Phase.TRAIN, lambda _: None)
        window.__enter__()
        inside_s = time.perf_counter()
        time.sleep(PACE_S / 2 * random.uniform(0.5, 1.5))
        leaving_s = time.perf_counter()
        window.__exit__(None, None, None)
        begins.append(inside_s - began_s)
        ends.append(time.perf_counter() - leaving_s)
        if number % 2:
            meter.settle()
            knowns.append(time.perf_counter() - leaving_s)
        time.sleep(PACE_S / 2 * random.uniform(0.5, 1.5))
    return Edges(*_percentiles(begins), *_percentiles(ends), *_percentiles(knowns))


def _percentiles(samples: list[float]) -> tuple[float, float]:
    found = quantiles(samples, n=100, method="inclusive")
    return found[49], found[98]


def own_meter(folder: Path) -> Meter:
    """A meter of this process over all counters of the tree."""
    return Meter(discover(folder / "sys", Path("/proc"), None).trackers)


def sampling(folder: Path, size: Size) -> Spread:
    """CPU seconds per second of the sampler's thread."""
    cores = []
    for _ in range(size.repeats):
        meter = own_meter(folder)
        meter.start(HZ)
        time.sleep(size.sampling_s)
        cores.append(meter.cpu_seconds() / size.sampling_s)
        meter.close()
    return Spread.of(cores)


class Agent:
    """An agent as a process: joins at once, marks windows when it is told to."""

    def __init__(self, socket: Path, name: str, windows: int) -> None:
        command = [sys.executable, __file__, "agent", str(socket), name, str(windows)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def joined(self) -> None:
        """Returns when the daemon knows it."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "joined\n":
            raise RuntimeError("an agent did not join its meter")

    def begin(self) -> None:
        """It marks its windows from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write("begin\n")
        self._process.stdin.flush()

    def edges(self) -> Edges:
        """What it found, when it is done. It stays until it is closed: to end would hold up the others."""
        assert self._process.stdout is not None
        return Edges(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def be_agent(socket: Path, name: str, windows: int) -> None:
    """What an Agent's process does."""
    meter = RemoteMeter(socket, name, (), lambda _: Meter([]), 10.0)
    print("joined" if meter.sources else "lost", flush=True)
    sys.stdin.readline()
    print(json.dumps(asdict(edges(meter, windows, seed=sum(name.encode())))), flush=True)
    sys.stdin.readline()


def daemon(folder: Path, agents: int, size: Size) -> Daemon:
    """Measures a daemon process with that many agents, each a process too."""
    socket = folder / "meter.sock"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WATTBED_")} | {
        "WATTBED_METER": str(socket),
        "WATTBED_STATE": str(folder / "state"),
        "WATTBED_HOST_SYS": str(folder / "sys"),
        "WATTBED_METRICS": "127.0.0.1:0",
        "WATTBED_SAMPLE_HZ": str(HZ),
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "edge_agent.meterd"], env=environment, stderr=log)
    crowd: list[Agent] = []
    try:
        port = _port(folder / "log", process)
        crowd = [Agent(socket, f"agent-{number}", size.windows) for number in range(agents)]
        for agent in crowd:
            agent.joined()
        idle = []
        for _ in range(size.repeats):
            before_s = _cpu_s(process.pid)
            time.sleep(size.sampling_s)
            idle.append((_cpu_s(process.pid) - before_s) / size.sampling_s)
        scrapes = _scrapes(port, size.repeats * 10)
        for agent in crowd:
            agent.begin()
        found = [agent.edges() for agent in crowd]
        worst = {name: max(asdict(e)[name] for e in found) for name in asdict(found[0])}
        return Daemon(agents, Spread.of(idle), Edges(**worst), scrapes)
    finally:
        for agent in crowd:
            agent.close()
        process.send_signal(signal.SIGTERM)
        process.wait()


def _port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    for _ in range(600):
        if found := re.search(r"metrics on port (\d+)", log.read_text()):
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the meter did not start: {log.read_text()}")


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _scrapes(port: int, count: int) -> Spread:
    seconds = []
    for _ in range(count):
        began_s = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            answer.read()
        seconds.append(time.perf_counter() - began_s)
    return Spread.of(seconds)


def main() -> None:
    """Measures and writes the page."""
    if sys.argv[1:2] == ["agent"]:
        be_agent(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return
    options = parser(__doc__).parse_args()
    origin = Provenance.now(options.seed, ["pydantic", "prometheus-client"])
    size = QUICK if options.quick else FULL
    with tree() as folder:
        sampler = sampling(folder, size)
        slower = [slowdown(own_meter(folder), kind, size.pairs, HZ) for kind in KINDS]
        inside = edges(own_meter(folder), size.windows)
        daemons = [daemon(folder, agents, size) for agents in AGENTS]
    page = report(sampler, slower, inside, daemons)
    numbers = {"sampler_cores": sampler, "slowdown": slower, "own_edges": inside, "daemons": daemons}
    publish(options, "meter_overhead", page, numbers, origin)


def report(sampler: Spread, slower: list[Slower], inside: Edges, daemons: list[Daemon]) -> str:
    """The page."""
    figures = ("begin", "end", "joules known")
    costs = table(
        ["", "processors at rest", *(f"{what}, {part} (us)" for what in figures for part in ("median", "p99"))],
        [
            ["in the agent", sampler, *_us(inside)],
            *([f"daemon, {d.agents} agents", d.idle_cores, *_us(d.edges)] for d in daemons),
        ],
    )
    scrapes = ", ".join(f"{d.scrape_s.median * 1e3:.1f} ms with {d.agents} agents" for d in daemons)
    return f"""# What metering costs

{HZ:g} samples a second of {len(ZONES)} counters (two packages with memory and cores), all in files. Processors:
CPU seconds per second, as median (smallest to largest, repetitions), with nobody at work.

Begin and end are what a caller waits at the edges of a phase. In the agent all counters are read meanwhile. With
a daemon the agent process sends a mark and goes on; the daemon reads all counters when the mark arrives. "Joules
known" is the time from the end of a phase until its joules are there for a caller that asks for them at once, as
after every other window here; those of the rest are collected when the next phase begins, which is part of that
begin. An edge lies between its mark and the answer, so no edge is later than this time. Of several agents at
once the worst is shown. Agents mark a window every {PACE_S * 1e3:g} ms or so, each at times of its own and far
more often than a device does. Whoever marks an edge waits for a processor when all are busy: the load is at the
foot of this page, and everything here ran at nice {os.nice(0)}.

{costs}

Work beside the sampler is slower by {" and ".join(f"{one} {one.kind}" for one in slower)}: by the clock,
the median of {slower[0].pairs} pairs of {STRETCH_S:g} s with sampler and without, in turn first, and the 95 %
interval of that median (bootstrap over pairs). Work in C, as training is, lets go of the interpreter's lock; a
loop in Python never does, which is the worst there is. A scrape of the daemon takes {scrapes}.

{table(["target", "measured", "held"], targets(sampler, slower, inside, daemons))}"""


def _us(e: Edges) -> list[str]:
    return [f"{s * 1e6:.0f}" for s in asdict(e).values()]


def _percent(part: float) -> str:
    return f"{part:.2%}"


def targets(
    sampler: Spread, slower: list[Slower], inside: Edges, daemons: list[Daemon]
) -> list[tuple[str, str, str]]:
    """What was wanted, what was found, and whether it was held."""
    held = {True: "yes", False: "no"}
    cores = sampler.median
    rows = [("sampler in the agent: below 1 % of a core", _percent(cores), held[cores < MOST_CORES])]
    for d in daemons:
        cores = d.idle_cores.median
        rows.append(
            (f"daemon with {d.agents} agents: below 1 % of a core", _percent(cores), held[cores < MOST_CORES])
        )
    for name, found in [("in the agent", inside), *((f"daemon with {d.agents} agents", d.edges) for d in daemons)]:
        worst_s = max(found.begin_p99_s, found.end_p99_s)
        edge = f"{name}: begin and end below 1 ms at p99"
        rows.append((edge, f"{worst_s * 1e3:.2f} ms", held[worst_s < MOST_EDGE_S]))
    rows += [(f"work {one.kind} slower by less than 0.5 %", str(one), one.held(MOST_RUNTIME)) for one in slower]
    scrape_s = max(d.scrape_s.median for d in daemons)
    rows.append(("a scrape below 50 ms", f"{scrape_s * 1e3:.1f} ms", held[scrape_s < MOST_SCRAPE_S]))
    return rows


if __name__ == "__main__":
    main()
