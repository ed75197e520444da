"""What a round costs when nothing is trained: wattbed beside raw grpc.aio streaming and beside Flower.

The same model goes to every agent and an update of the same size comes back from each. All sides are
separate processes on loopback, in one run of this script, never two sides at once. The first round of
each is a warm-up and is not counted. Raw streaming is measured before and after wattbed, so that a
machine that is busy for a while shows in its spread.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers import flower, ours, raw_stream
from provenance import Provenance, Spread, parser, publish, table

TENSORS = 8
MB = 1_000_000
SECONDS_SMALL = 0.5
TIMES_RAW = 1.5
TIMES_FASTER = 5.0
MODELS_PER_AGENT = 0.1


@dataclass(frozen=True)
class Setting:
    """One size of model and fleet, and the rounds that each side runs, warm-up included."""

    model_bytes: int
    agents: int
    rounds: int
    flower_rounds: int

    def __str__(self) -> str:
        return f"{self.model_bytes / MB:g} MB x {self.agents} agents"


SMALL = Setting(1 * MB, 8, rounds=21, flower_rounds=6)
LARGE = Setting(100 * MB, 4, rounds=9, flower_rounds=6)
QUICK_SMALL = Setting(1 * MB, 2, rounds=6, flower_rounds=2)
QUICK_LARGE = Setting(10 * MB, 2, rounds=4, flower_rounds=0)


@dataclass(frozen=True)
class Comparison:
    """All sides at one setting; `flower` None: not measured."""

    setting: Setting
    raw: dict[str, list[float]]
    ours: ours.OurRun
    flower: flower.FlowerRun | None

    @property
    def round_s(self) -> Spread:
        """Seconds of our rounds."""
        return Spread.of(self.ours.round_s[1:])

    def raw_s(self, codec: str) -> Spread:
        """Seconds of the raw rounds with `codec`."""
        return Spread.of(self.raw[codec])

    @property
    def flower_s(self) -> Spread | None:
        """Seconds of Flower's rounds."""
        return Spread.of(self.flower.round_s[1:]) if self.flower else None


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, kept when the block fails, because its logs say why."""
    folder = Path(tempfile.mkdtemp(prefix="wattbed-bench-"))
    yield folder
    shutil.rmtree(folder)


def compare(setting: Setting, seed: int, with_flower: bool) -> Comparison:
    """Measures all sides at `setting`."""
    raw: dict[str, list[float]] = {codec: [] for codec in raw_stream.CODECS}
    _raw(setting, raw)
    with scratch() as folder:
        run = ours.measure(setting.model_bytes, TENSORS, setting.agents, setting.rounds, seed, folder)
    _raw(setting, raw)
    found = None
    if with_flower and setting.flower_rounds:
        with scratch() as folder:
            found = flower.measure(
                setting.model_bytes, TENSORS, setting.agents, setting.flower_rounds, seed, folder
            )
    return Comparison(setting, raw, run, found)


def _raw(setting: Setting, samples: dict[str, list[float]]) -> None:
    for codec in samples:
        with scratch() as folder:
            run = raw_stream.measure(codec, setting.model_bytes, setting.agents, setting.rounds, folder)
        samples[codec] += run.round_s[1:]


def main() -> None:
    line = parser(__doc__)
    line.add_argument("--without-flower", action="store_true", help="leave Flower out")
    options = line.parse_args()
    origin = Provenance.now(options.seed, ["grpcio", "protobuf", "numpy"])
    small, large = (QUICK_SMALL, QUICK_LARGE) if options.quick else (SMALL, LARGE)
    compared = [compare(s, options.seed, not options.without_flower) for s in (small, large)]
    with scratch() as folder:
        twice = ours.measure(large.model_bytes, TENSORS, 2 * large.agents, large.rounds, options.seed, folder)
    page = report(compared, twice)
    numbers = {"comparisons": compared, "twice_the_agents": twice, "models_per_agent": growth(compared[1], twice)}
    publish(options, "round_overhead", page, numbers, origin)


def growth(compared: Comparison, twice: ours.OurRun) -> float:
    """Peak memory that a further agent costs the coordinator, in models."""
    more = twice.peak_bytes - compared.ours.peak_bytes
    return more / (twice.agents - compared.setting.agents) / twice.model_bytes


def report(compared: list[Comparison], twice: ours.OurRun) -> str:
    """The page: seconds of a round, targets, where the time goes, memory."""
    seconds = table(
        ["", "wattbed (s)", "raw, protobuf (s)", "raw, bare bytes (s)", "Flower (s)"],
        [
            [c.setting, c.round_s, c.raw_s("protobuf"), c.raw_s("bytes"), c.flower_s or "not measured"]
            for c in compared
        ],
    )
    inside = table(
        [
            "",
            "until the last update (s)",
            "until the new model (s)",
            "phases of an agent (s)",
            "CPU of the coordinator (s)",
            "CPU of an agent (s)",
            "up (bytes)",
            "down (bytes)",
        ],
        [
            [
                c.setting,
                Spread.of(c.ours.arriving_s[1:]),
                Spread.of(c.ours.aggregating_s[1:]),
                ", ".join(f"{phase} {value:.3g}" for phase, value in c.ours.phase_s.items()),
                f"{c.ours.coordinator_cpu_s:.3g}",
                f"{c.ours.agent_cpu_s:.3g}",
                c.ours.wire_up_bytes,
                c.ours.wire_down_bytes,
            ]
            for c in compared
        ],
    )
    memory = table(
        [
            "",
            "coordinator idle (MB)",
            "coordinator peak (MB)",
            "Flower SuperLink peak (MB)",
            "Flower ServerApp peak (MB)",
        ],
        [
            [
                f"{run.model_bytes / MB:g} MB x {run.agents} agents",
                *(f"{n / MB:.0f}" for n in (run.idle_bytes, run.peak_bytes)),
                *_flower_memory(found),
            ]
            for run, found in [*((c.ours, c.flower) for c in compared), (twice, None)]
        ],
    )
    version = next((c.flower.version for c in compared if c.flower), None)
    beside = (
        f"Flower {version}, its deployment engine with its default settings" if version else "Flower: not measured"
    )
    return f"""# What a round costs when nothing is trained

Seconds of a round, as median (smallest to largest, number of rounds). Every agent fetches the model and
sends an update of the same size, at 32 bits. The first round of each side is not counted.

{seconds}

{beside}. What each side does and leaves out is written at the head of its file in bench/peers.

{table(["target", "measured", "held"], targets(compared, twice))}

## Where a round of wattbed goes

{inside}

Phases are medians over devices and rounds; agents share the cores of this machine.

## Memory

{memory}

Peaks are VmHWM of /proc, the coordinator's from just before the run began."""


def _flower_memory(run: flower.FlowerRun | None) -> tuple[str, str]:
    if run is None:
        return "not measured", "not measured"
    return f"{run.superlink_peak_bytes / MB:.0f}", f"{run.serverapp_peak_bytes / MB:.0f}"


def targets(compared: list[Comparison], twice: ours.OurRun) -> list[tuple[str, str, str]]:
    """(target, measured, yes or no) of each; settings of a --quick run are held to the same."""
    small, large = compared
    rows = [
        _row(f"{small.setting}: at most {SECONDS_SMALL} s", small.round_s.median, "s", SECONDS_SMALL),
        *(
            _row(
                f"{large.setting}: at most {TIMES_RAW} times raw streaming of {what}",
                large.round_s.median / large.raw_s(codec).median,
                "times",
                TIMES_RAW,
            )
            for codec, what in (("protobuf", "the same messages"), ("bytes", "bare bytes"))
        ),
        _row(
            f"{large.setting.model_bytes / MB:g} MB: coordinator's peak grows by at most {MODELS_PER_AGENT} model "
            f"per further agent, {large.setting.agents} to {twice.agents}",
            growth(large, twice),
            "models",
            MODELS_PER_AGENT,
        ),
    ]
    for c in compared:
        if c.flower_s:
            faster = c.flower_s.median / c.round_s.median
            held = "yes" if faster >= TIMES_FASTER else "no"
            rows.append(
                (f"{c.setting}: at least {TIMES_FASTER:g} times faster than Flower", f"{faster:.3g} times", held)
            )
    return rows


def _row(target: str, measured: float, unit: str, limit: float) -> tuple[str, str, str]:
    return target, f"{measured:.3g} {unit}", "yes" if measured <= limit else "no"


if __name__ == "__main__":
    main()
