"""What runs come to while processes are killed and frozen, links are cut and disks fill up: nothing may be lost.

A coordinator and three agents as real processes, each agent behind a relay. A run of small rounds is left alone
once, and then disturbed: one fault after the other at instants that the seed decides, each kind once before any
again. After each run its log is examined by itself (bench/chaos/witness.py), and its models are compared with
those of the run that was left alone, byte for byte. A run that is in the file of --json already is not done again,
so a bench that was stopped goes on.
"""

import asyncio
import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import aside  # noqa: F401
from chaos.bed import Bed, noop
from chaos.clock import jumping
from chaos.disks import AS_ROOT, small_disk
from chaos.faults import ANYWHERE
from chaos.story import Outcome, disturbed, left_alone
from provenance import Provenance, parser, publish, table

from fleet.errors import WattbedError

AGENTS = 3
FAULTS, CLOCK = "faults", "clock"


@dataclass(frozen=True)
class Ran:
    """One run of `asked` rounds. `different`: rounds whose model is another than that of the run left alone."""

    kind: str
    seed: int
    asked: int
    rounds: int = 0
    different: int = 0
    acknowledged: int = 0
    windows: int = 0
    scrapes: int = 0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    commit: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return self.kind, self.seed, self.asked

    def became(self, outcome: Outcome, calm: dict[int, str]) -> "Ran":
        """With what came of it."""
        unfinished = [] if outcome.phase == "completed" else [f"{outcome.run} {outcome.phase}"]
        return Ran(
            *self.key,
            rounds=len(outcome.models),
            different=sum(outcome.models.get(r) != sha for r, sha in calm.items()),
            acknowledged=outcome.findings.acknowledged,
            windows=outcome.findings.windows,
            scrapes=outcome.scrapes,
            seconds=outcome.seconds,
            faults=dict(outcome.hurt.counts),
            broken=outcome.findings.broken + unfinished,
        )


async def under_faults(ran: Ran, folder: Path) -> Ran:
    with small_disk(folder / "disk") as disk:
        bed = Bed(folder, AGENTS, ran.seed, disk)
        try:
            bed.start_all()
            experiment = noop("chaos", AGENTS, ran.asked, ran.seed + 11, train_steps=4, step_s=0.05)
            calm = await left_alone(bed, experiment)
            outcome = await disturbed(bed, experiment, ANYWHERE | (AS_ROOT if disk else {}), ran.seed)
            return ran.became(outcome, calm)
        finally:
            bed.close()


async def under_a_jumping_clock(ran: Ran, folder: Path) -> Ran:
    bed = Bed(folder, AGENTS, ran.seed)
    try:
        experiment = noop("clock", AGENTS, ran.asked, train_steps=4, step_s=0.05, deadline_s=60)
        return ran.became(*await jumping(bed, experiment, ran.seed))
    finally:
        bed.close()


def carry_out(ran: Ran, folder: Path) -> Ran:
    """The run; one that stands still or never begins is one in which something did not hold."""
    work: Coroutine[Any, Any, Ran] = (under_faults if ran.kind == FAULTS else under_a_jumping_clock)(ran, folder)
    try:
        return asyncio.run(work)
    except (AssertionError, TimeoutError, WattbedError) as error:
        return Ran(*ran.key, broken=[f"seed {ran.seed}: {type(error).__name__}: {error}"])


def kept(file: Path | None) -> dict[tuple[str, int, int], Ran]:
    """What an earlier call did."""
    if file is None or not file.exists():
        return {}
    runs = [Ran(**values) for values in json.loads(file.read_text())["numbers"]]
    return {ran.key: ran for ran in runs}


def report(runs: list[Ran]) -> str:
    faults = sum((Counter(ran.faults) for ran in runs), Counter[str]())
    broken = [what for ran in runs for what in ran.broken]
    checked = [
        ("rounds completed", sum(ran.rounds for ran in runs), ""),
        ("rounds lost", lost(runs), "0"),
        ("models that differ from the undisturbed run's", sum(ran.different for ran in runs), "0"),
        (
            "updates that agents were told are taken, each once in its aggregate",
            sum(ran.acknowledged for ran in runs),
            "",
        ),
        ("windows of energy, each once in the log", sum(ran.windows for ran in runs), ""),
        ("looks at the counters of joules, none of which fell", sum(ran.scrapes for ran in runs), ""),
        ("things that did not hold", len(broken), "0"),
    ]
    listed = "".join(f"\n- {what}" for what in broken)
    commits = Counter(ran.commit or "no commit" for ran in runs)
    made = ", ".join(f"{count} at {commit}" for commit, count in sorted(commits.items()))
    rounds, seconds = sum(ran.rounds for ran in runs), sum(ran.seconds for ran in runs)
    return f"""# Reliability

{faults.total()} faults in {rounds} rounds of {len(runs)} runs over {seconds:.0f} s: lost {lost(runs)}.

{table(["", "found", "must be"], checked)}
{listed}

Checked after each run, from the log as a file: every update that an agent says was acknowledged is in exactly one
aggregate; no update and no window of energy is in the log twice; no round is open beyond its deadline (3 s are
allowed); the log's time never goes back; SQLite finds it whole; folded anew it gives the coordinator's state.

{table(["fault", "times"], sorted(faults.items()))}

`SIGKILL` and `SIGSTOP` are the real signals. `no file can grow` is RLIMIT_FSIZE set on the running coordinator.
Partition, delay, loss and reset are made by a relay on loopback, which can lose no bytes that TCP has taken: a
loss is a stall of a retransmission timeout. The clock is that of a coordinator in the process of the script; the
host's own is not touched. Where the script runs as root the coordinator's disk is a tmpfs that is filled and
remounted read-only. Not tried: a disk that lies about having written, a power cut, and netem.

Runs by commit: {made}."""


def lost(runs: list[Ran]) -> int:
    """Rounds that were asked for and never came to a model."""
    return sum(ran.asked - ran.rounds for ran in runs)


def main() -> int:
    line = parser(__doc__)
    line.add_argument("--folder", type=Path, metavar="DIR", help="keep logs and states of the testbeds there")
    options = line.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    origin = Provenance.now(options.seed, ["grpcio"])
    runs, rounds, clock_rounds = (1, 8, 6) if options.quick else (7, 30, 20)
    wanted = [Ran(FAULTS, options.seed + number, rounds) for number in range(runs)]
    wanted.append(Ran(CLOCK, options.seed, clock_rounds))
    done = kept(options.json)
    with tempfile.TemporaryDirectory(prefix="wattbed-chaos-") as temporary:
        for ran in wanted:
            if ran.key in done:
                continue
            folder = (options.folder or Path(temporary)).resolve() / f"{ran.kind}-{ran.seed}"
            done[ran.key] = found = replace(carry_out(ran, folder), commit=(origin.commit or "")[:12])
            if options.json:
                options.json.write_text(json.dumps({"numbers": [asdict(r) for r in done.values()]}, indent=1))
            said = f"{ran.kind} {ran.seed}: {found.rounds} rounds, {sum(found.faults.values())} faults"
            print(f"{said}, {found.seconds:.0f} s, {len(found.broken)} broken", file=sys.stderr, flush=True)
    ended = [done[ran.key] for ran in wanted]
    publish(options, "reliability", report(ended), [asdict(r) for r in ended], origin)
    return 1 if lost(ended) or any(ran.broken or ran.different for ran in ended) else 0


if __name__ == "__main__":
    sys.exit(main())
