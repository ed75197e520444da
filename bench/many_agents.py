"""A thousand agents on one coordinator: how fast they attach, how long a heartbeat takes, what it costs.

Agents are simulated: each has a connection and an Attach stream of its own and sends the Hello and the
Heartbeats that fleet.wire makes of real ones, at the interval the coordinator asks for, but trains
nothing. They live in a few load processes, on the same machine as the coordinator, so a round trip
includes the wait for the cores they share. The coordinator is a process of its own, as `wattbed up
--local` starts it, and no run is going on.

    python many_agents.py load ADDRESS FIRST COUNT SECONDS FILE     (what a load process is started as)
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import grpc
from peers.ours import KIND
from processes import Processes
from provenance import Provenance, Spread, parser, publish, table
from round_overhead import scratch

from cli import local
from fleet import rpc, wire
from fleet.domain import Capabilities, Heartbeat, HeartbeatAck, Hello, Power, Quality, Welcome
from fleet.v1 import fleet_pb2_grpc

LOADS = 3
ATTACH_S = 30.0
P99_S = 0.25
MEMORY_BYTES = 600_000_000
CORES = 0.5
PACE_S = 0.002
"""A load process dials its agents this far apart: a fleet wakes in seconds, not in one instant."""

SETTLE_S = 4.0
"""Two heartbeats: what the attaching has piled up is gone by then."""


@dataclass(frozen=True)
class Load:
    """What the agents of one load process saw. Times are Unix seconds of the machine they share."""

    started_at_s: float
    attached_at_s: list[float]
    round_trips_s: list[float]
    failures: list[str]


@dataclass(frozen=True)
class Crowd:
    """What one coordinator with `agents` idle agents came to. `core_shares`: busy cores in each second."""

    agents: int
    attached: int
    attach_s: float
    round_trip_s: Spread
    round_trip_p99_s: float
    memory_bytes: int
    core_shares: Spread
    failures: list[str]


class Agent:
    """One simulated agent. `settled` once it is attached or has failed."""

    def __init__(self, address: str, device: str, load: Load, over: asyncio.Event) -> None:
        self._address = address
        self._device = device
        self._load = load
        self._over = over
        self.settled = asyncio.Event()

    async def live(self) -> None:
        """Attaches and beats until it is over; what goes wrong is kept in the load's failures."""
        channel = rpc.channel(self._address)
        try:
            stub: Any = fleet_pb2_grpc.FleetStub(channel)
            stream = stub.Attach()
            await stream.write(wire.envelope(hello(self._device)))
            welcome = await _read(stream, Welcome)
            self._load.attached_at_s.append(time.time())
            self.settled.set()
            await self._beat(stream, welcome.heartbeat_interval_s)
        except (grpc.aio.AioRpcError, EOFError, asyncio.InvalidStateError) as error:
            self._load.failures.append(f"{self._device}: {error!r}"[:300])
        finally:
            self.settled.set()
            await channel.close()

    async def _beat(self, stream: Any, interval_s: float) -> None:
        sequence = 0
        while not self._over.is_set():
            sequence += 1
            sent_s = time.perf_counter()
            await stream.write(wire.envelope(heartbeat(sequence)))
            ack = await _read(stream, HeartbeatAck)
            taken_s = time.perf_counter() - sent_s
            if ack.sequence != sequence:
                raise EOFError(f"heartbeat {sequence} was answered by {ack.sequence}")
            self._load.round_trips_s.append(taken_s)
            try:
                await asyncio.wait_for(self._over.wait(), max(0.0, interval_s - taken_s))
            except TimeoutError:
                continue


async def _read(stream: Any, kind: type) -> Any:
    while (message := await stream.read()) is not grpc.aio.EOF:
        if isinstance(said := wire.unwrap(message), kind):
            return said
    raise EOFError(f"the stream ended before a {kind.__name__}")


def hello(device: str) -> Hello:
    """What an agent says first."""
    capabilities = Capabilities(
        kind=KIND, cpu_model="simulated", cpu_cores=4, memory_bytes=2**33, machine="bench", agent_version="bench"
    )
    return Hello(rpc.PROTOCOL_VERSION, device, capabilities)


def heartbeat(sequence: int) -> Heartbeat:
    """A heartbeat with one power reading, as a CPU device sends."""
    power = (Power(watts=5.0, source="model", component="cpu", quality=Quality.ESTIMATED),)
    return Heartbeat(sequence, time.time(), cpu_seconds_total=0.0, memory_bytes=0, power=power)


async def load(address: str, first: int, count: int, seconds: float) -> Load:
    """Attaches `count` agents, then lets them beat for `seconds`; round trips before that are dropped."""
    found = Load(time.time(), [], [], [])
    over = asyncio.Event()
    agents = [Agent(address, f"sim-{i:04}", found, over) for i in range(first, first + count)]
    lives = []
    for agent in agents:
        lives.append(asyncio.create_task(agent.live()))
        await asyncio.sleep(PACE_S)
    for agent in agents:
        await agent.settled.wait()
    await asyncio.sleep(SETTLE_S)
    found.round_trips_s.clear()
    await asyncio.sleep(seconds)
    measured = list(found.round_trips_s)
    over.set()
    await asyncio.gather(*lives)
    return Load(found.started_at_s, found.attached_at_s, measured, found.failures)


def measure(agents: int, seconds: float, folder: Path) -> Crowd:
    """`agents` agents on a fresh coordinator, watched for `seconds` once all are attached."""
    testbed, _ = local.up(folder / "testbed", agents=0, kinds=[KIND], data=None, port=0, http_port=0)
    try:
        coordinator = next(p.process() for p in testbed.processes if p.name == local.COORDINATOR)
        if coordinator is None:
            raise RuntimeError(f"the coordinator has ended; logs are in {folder}")
        with Processes(folder) as processes:
            results = _start_loads(processes, testbed.address, agents, seconds)
            shares: list[float] = []
            memories: list[int] = []

            def done() -> bool:
                coordinator.cpu_percent()
                time.sleep(1.0)
                shares.append(coordinator.cpu_percent() / 100)
                memories.append(coordinator.memory_info().rss)
                return all(r.exists() for r in results)

            processes.wait_for("end of the load", done, ATTACH_S * 4 + SETTLE_S + seconds)
        loads = [Load(**json.loads(r.read_text())) for r in results]
    finally:
        local.end(testbed.processes)
    attached = [at_s for part in loads for at_s in part.attached_at_s]
    trips = [s for part in loads for s in part.round_trips_s]
    idle = shares[-round(seconds) : -1]
    return Crowd(
        agents=agents,
        attached=len(attached),
        attach_s=max(attached) - min(part.started_at_s for part in loads),
        round_trip_s=Spread.of(trips),
        round_trip_p99_s=quantiles(trips, n=100)[98],
        memory_bytes=max(memories),
        core_shares=Spread.of(idle),
        failures=[f for part in loads for f in part.failures],
    )


def _start_loads(processes: Processes, address: str, agents: int, seconds: float) -> list[Path]:
    results = []
    for i in range(LOADS):
        first, end = agents * i // LOADS, agents * (i + 1) // LOADS
        results.append(processes.folder / f"load-{i}.json")
        command = [sys.executable, __file__, "load", address, str(first), str(end - first), str(seconds)]
        processes.start(f"load-{i}", [*command, str(results[-1])], {})
    return results


def report(crowd: Crowd) -> str:
    """The page: targets beside what was measured."""
    rows = [
        (
            f"{crowd.agents} agents attached",
            f"{crowd.attached}",
            f"{crowd.agents}",
            crowd.attached == crowd.agents,
        ),
        ("until the last is attached (s)", f"{crowd.attach_s:.3g}", f"{ATTACH_S:g}", crowd.attach_s <= ATTACH_S),
        (
            "round trip of a heartbeat, p99 (s)",
            f"{crowd.round_trip_p99_s:.3g}",
            f"{P99_S:g}",
            crowd.round_trip_p99_s < P99_S,
        ),
        (
            "coordinator's memory (MB)",
            f"{crowd.memory_bytes / 1e6:.0f}",
            f"{MEMORY_BYTES / 1e6:.0f}",
            crowd.memory_bytes < MEMORY_BYTES,
        ),
        (
            "coordinator's busy cores, median second",
            f"{crowd.core_shares.median:.3g}",
            f"{CORES:g}",
            crowd.core_shares.median < CORES,
        ),
        ("streams that failed", str(len(crowd.failures)), "0", not crowd.failures),
    ]
    shown = table(["", "measured", "target", "held"], [(*row[:3], "yes" if row[3] else "no") for row in rows])
    return f"""# {crowd.agents} agents on one coordinator

{shown}

Round trips of heartbeats: {crowd.round_trip_s} s. Busy cores of the coordinator while only heartbeats come:
{crowd.core_shares}. Memory is the largest resident set size seen, looked at every second."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if sys.argv[1:2] == ["load"]:
        address, first, count, length, result = sys.argv[2:]
        found = asyncio.run(load(address, int(first), int(count), float(length)))
        partial = Path(result).with_suffix(".partial")
        partial.write_text(json.dumps(vars(found)))
        partial.rename(result)
        return
    line = parser(__doc__)
    line.add_argument("--agents", type=int, default=1000)
    options = line.parse_args()
    origin = Provenance.now(options.seed, ["grpcio", "protobuf"])
    agents, seconds = (min(200, options.agents), 8.0) if options.quick else (options.agents, 30.0)
    with scratch() as folder:
        crowd = measure(agents, seconds, folder)
    publish(options, "many_agents", report(crowd), crowd, origin)


if __name__ == "__main__":
    main()
