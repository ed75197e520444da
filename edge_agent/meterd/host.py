"""The counters of a host, divided among the agents that work on it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_agent.energy.baseline import Baseline
from edge_agent.energy.counter import RAIL, Rejected, SourceInfo, Tracker
from edge_agent.energy.cpu_usage import HostBusy, UsageFile
from edge_agent.energy.meter import MeterBusy
from edge_agent.energy.shares import Division, OtherCpu, divide, divide_gpu
from edge_agent.energy.tally import Slice, SourceState, Tally, WindowSum
from fleet.domain import EnergyReading, Phase, PhaseTotal, Quality
from fleet.errors import BadRequest

IDLE_ROW = "_idle"
OTHER_ROW = "_other"
OTHER_PHASE = "other"
GPU = "gpu"

NO_BASELINE = "no_baseline"
"""The idle power of the host is not known yet: it is in the shares."""

GPU_SHARED = "gpu_shared"
"""Several agents trained on the GPU at once; each got the same."""

NO_CPU_TIME = "no_cpu_time"
"""The agent's CPU time could not be read for a while; its work went to `_other`."""

MOST_AGENTS = 256

Row = tuple[str, str, str]
"""Agent, phase, source."""


@dataclass
class _Member:
    """An agent that is here, and the window it has open."""

    agent: str
    usage: UsageFile
    cpu_s: float
    gpus: tuple[str, ...]
    phase: Phase
    began_s: float = 0.0
    sums: dict[str, WindowSum] | None = None
    flags: dict[str, set[str]] = field(default_factory=dict)


def share_info(info: SourceInfo) -> SourceInfo:
    """What a share of this source is: derived at best, and good to nobody knows what."""
    quality = Quality.DERIVED if info.quality is Quality.MEASURED else info.quality
    how = "trained on it" if info.component == GPU else "CPU time"
    return replace(info, quality=quality, interval=None, detail=f"share by {how} of: {info.detail}")


class HostMeter:
    """Owns the trackers of a host. The rows of `joules` always add up to the sources. Safe to use from several
    threads; every mark reads all sources, so that its edge is when it arrives."""

    def __init__(
        self,
        trackers: Sequence[Tracker],
        rejected: Sequence[Rejected],
        baseline: Baseline,
        procfs: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._baseline = baseline
        self._host_busy = HostBusy(procfs)
        self._clock = clock
        self._lock = threading.RLock()
        self._members: dict[str, _Member] = {}
        self._joules: dict[Row, float] = {}
        self._seconds: dict[tuple[str, Phase], float] = {}
        self._other_cpu = OtherCpu()
        self.rejected = tuple(rejected)
        self._last_s = clock()
        self._tallies = [Tally(tracker, self._last_s) for tracker in trackers]
        self._other_cpu.slice(self._last_s, 0.0, self._busy(), 0.0)

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """What is read, rails too."""
        return tuple(tally.info for tally in self._tallies)

    # What agents do

    def join(self, agent: str, usage: UsageFile, gpus: tuple[str, ...] = (), phase: Phase = Phase.IDLE) -> None:
        """An agent is here from now on; BadRequest when its name or its CPU time is another's."""
        with self._lock:
            for member in self._members.values():
                if member.agent == agent:
                    raise BadRequest(f"an agent called {agent!r} is here already")
                if member.usage.identity == usage.identity:
                    raise BadRequest(f"the CPU time handed over is counted for {member.agent!r} already")
            known = {name for name, _ in self._seconds} | set(self._members)
            if agent not in known and len(known) >= MOST_AGENTS:
                raise BadRequest(f"{len(known)} agents were here since the meter started; it takes no more")
            self.tick()
            self._members[agent] = _Member(agent, usage, usage.seconds(), gpus, phase)

    def leave(self, agent: str) -> None:
        """The agent is gone; what it used until now is its own."""
        with self._lock:
            self.tick()
            del self._members[agent]

    def begin(self, agent: str, phase: Phase) -> None:
        """MeterBusy when the agent has a window open."""
        with self._lock:
            member = self._members[agent]
            if member.sums is not None:
                raise MeterBusy(f"phase {phase} begins while {member.phase} is open")
            edges = self.tick()
            member.phase, member.began_s = phase, self._last_s
            member.sums = {t.info.id: WindowSum(t.info, edge) for t, edge in self._divided(edges)}
            member.flags = {}

    def end(self, agent: str) -> tuple[float, tuple[EnergyReading, ...]]:
        """Seconds of the agent's window and its share of each source; BadRequest when none is open."""
        with self._lock:
            member = self._members[agent]
            if member.sums is None:
                raise BadRequest(f"no phase of {agent!r} is open")
            self.tick()
            seconds = self._last_s - member.began_s
            readings = []
            for tally, window in zip(self._shared(), member.sums.values(), strict=True):
                flags = sorted(member.flags.get(tally.info.id, ()))
                readings.append(window.reading(seconds, share_info(tally.info), tuple(flags)))
            member.phase, member.sums = Phase.IDLE, None
            return seconds, tuple(readings)

    # What time does

    def tick(self) -> list[Slice]:
        """Reads every source and divides what came since the time before."""
        with self._lock:
            now = self._clock()
            seconds, self._last_s = now - self._last_s, now
            slices = [tally.advance(now) for tally in self._tallies]
            cpu_s = {agent: self._cpu_of(member) for agent, member in self._members.items()}
            agents_s = sum(cpu_s.values())
            other_s = self._other_cpu.slice(now, seconds, self._busy(), agents_s)
            for agent, member in self._members.items():
                key = agent, member.phase
                self._seconds[key] = self._seconds.get(key, 0.0) + seconds
            for tally, part in self._divided(slices):
                agents: Mapping[str, float] = {}
                if part.joules is not None:
                    idle_watts = self._baseline.watts(tally.info.id)
                    division = self._divide(tally.info, part.joules, seconds, idle_watts, cpu_s, other_s)
                    self._add(tally.info.id, division, idle_watts is not None)
                    agents = division.agents
                for member in self._members.values():
                    if member.sums is not None:
                        member.sums[tally.info.id].add(part, agents.get(member.agent, 0.0))
            quiet = all(member.phase is Phase.IDLE for member in self._members.values())
            found = {tally.info.id: part.joules for tally, part in self._divided(slices)}
            self._baseline.feed(seconds, quiet, agents_s, found)
            return slices

    def _divide(
        self,
        info: SourceInfo,
        joules: float,
        seconds: float,
        idle_watts: float | None,
        cpu_s: dict[str, float],
        other_s: float,
    ) -> Division:
        if info.component != GPU:
            return divide(joules, seconds, idle_watts, cpu_s, other_s)
        training = [
            member.agent
            for member in self._members.values()
            if member.phase is Phase.TRAIN and any(uuid in info.id or uuid in info.detail for uuid in member.gpus)
        ]
        if len(training) > 1:
            for agent in training:
                self._members[agent].flags.setdefault(info.id, set()).add(GPU_SHARED)
        return divide_gpu(joules, seconds, idle_watts, training)

    def _add(self, source: str, division: Division, idle_known: bool) -> None:
        rows = [(OTHER_ROW, OTHER_PHASE, source, division.other_joules)]
        if idle_known:
            rows.append((IDLE_ROW, Phase.IDLE.value, source, division.idle_joules))
        rows += [(a, self._members[a].phase.value, source, joules) for a, joules in division.agents.items()]
        for agent, phase, source_id, joules in rows:
            key = agent, phase, source_id
            self._joules[key] = self._joules.get(key, 0.0) + joules
        if not idle_known:
            for agent in division.agents:
                self._members[agent].flags.setdefault(source, set()).add(NO_BASELINE)

    def _cpu_of(self, member: _Member) -> float:
        try:
            now_s = member.usage.seconds()
        except OSError:
            for tally in self._shared():
                member.flags.setdefault(tally.info.id, set()).add(NO_CPU_TIME)
            return 0.0
        spent, member.cpu_s = now_s - member.cpu_s, now_s
        return max(0.0, spent)

    def _busy(self) -> float | None:
        try:
            return self._host_busy.seconds()
        except (OSError, ValueError):
            return None

    def _shared(self) -> list[Tally]:
        """The sources that are divided: rails overlap and are not."""
        return [tally for tally in self._tallies if tally.info.component != RAIL]

    def _divided(self, slices: list[Slice]) -> list[tuple[Tally, Slice]]:
        pairs = zip(self._tallies, slices, strict=True)
        return [(tally, part) for tally, part in pairs if tally.info.component != RAIL]

    # How things stand

    def sample(self) -> None:
        """Takes mean power of every source from the sample before until now."""
        with self._lock:
            self.tick()
            for tally in self._tallies:
                tally.sample(self._last_s)

    def states(self) -> tuple[SourceState, ...]:
        """Every source as it stands, rails too."""
        with self._lock:
            now = self._clock()
            return tuple(tally.state(now) for tally in self._tallies)

    def snapshot(self) -> tuple[tuple[SourceState, ...], dict[Row, float], dict[tuple[str, Phase], float]]:
        """Sources, joules by row and seconds by agent and phase, all of the last tick.

        The rows of a source, with those of the idle host and of everybody else, add up to the source.
        """
        with self._lock:
            return self.states(), dict(self._joules), dict(self._seconds)

    def idle_watts(self) -> dict[str, float]:
        """The idle power of each source for which it is known."""
        with self._lock:
            known = {tally.info.id: self._baseline.watts(tally.info.id) for tally in self._shared()}
            return {source: watts for source, watts in known.items() if watts is not None}

    def totals(self, agent: str) -> tuple[PhaseTotal, ...]:
        """The agent's seconds and joules by phase and source, since the meter started."""
        with self._lock:
            infos = [share_info(tally.info) for tally in self._shared()]
            return tuple(
                PhaseTotal(
                    phase,
                    seconds,
                    info.component,
                    info.quality,
                    self._joules.get((agent, phase.value, info.id)),
                    info.id,
                    info.scope,
                )
                for (name, phase), seconds in self._seconds.items()
                if name == agent
                for info in infos
            )
