"""What runs come to while processes are killed and frozen, links are cut and disks fill up: nothing may be lost.

A coordinator and three agents as real processes, each agent behind a relay. A run of small rounds is left alone
once, and then disturbed: one fault after the other at instants that the seed decides, each kind once before any
again. After each run its log is examined by itself (bench/chaos/witness.py), and its models are compared with
those of the run that was left alone, byte for byte.
"""

import asyncio
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aside  # noqa: F401
from chaos.bed import Bed, noop
from chaos.clock import jumping
from chaos.disks import AS_ROOT, small_disk
from chaos.faults import ANYWHERE
from chaos.story import Outcome, disturbed, left_alone
from provenance import Provenance, parser, publish, table

AGENTS = 3


@dataclass
class Total:
    """All runs together. `different`: rounds whose model is another than that of the run left alone."""

    rounds: int = 0
    lost: int = 0
    different: int = 0
    acknowledged: int = 0
    windows: int = 0
    scrapes: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome, calm: dict[int, str], rounds: int) -> None:
        """Enters one run of `rounds` rounds."""
        self.rounds += len(outcome.models)
        self.lost += rounds - len(outcome.models)
        self.different += sum(outcome.models.get(r) != sha for r, sha in calm.items())
        self.acknowledged += outcome.findings.acknowledged
        self.windows += outcome.findings.windows
        self.scrapes += outcome.scrapes
        self.seconds += outcome.seconds
        self.faults += outcome.hurt.counts
        self.broken += outcome.findings.broken
        if outcome.phase != "completed":
            self.broken.append(f"{outcome.run} {outcome.phase}")


async def measure(folder: Path, seed: int, runs: int, rounds: int, clock_rounds: int) -> Total:
    total = Total()
    for number in range(runs):
        with small_disk(folder / f"disk-{number}") as disk:
            faults = ANYWHERE | (AS_ROOT if disk else {})
            bed = Bed(folder / f"run-{number}", AGENTS, seed + number, disk)
            try:
                bed.start_all()
                experiment = noop("chaos", AGENTS, rounds, seed + 11, train_steps=4, step_s=0.05)
                calm = await left_alone(bed, experiment)
                total.add(await disturbed(bed, experiment, faults, seed + number), calm, rounds)
            finally:
                bed.close()
        print(
            f"run {number + 1}: {total.rounds} rounds, {total.faults.total()} faults", file=sys.stderr, flush=True
        )
    bed = Bed(folder / "clock", AGENTS, seed)
    try:
        experiment = noop("clock", AGENTS, clock_rounds, train_steps=4, step_s=0.05, deadline_s=60)
        total.add(*await jumping(bed, experiment, seed), clock_rounds)
    finally:
        bed.close()
    return total


def report(total: Total) -> str:
    rows = [(name, count) for name, count in sorted(total.faults.items())]
    checked = [
        ("rounds completed", total.rounds, ""),
        ("rounds lost", total.lost, "0"),
        ("models that differ from the undisturbed run's", total.different, "0"),
        ("updates that agents were told are taken, each once in its aggregate", total.acknowledged, ""),
        ("windows of energy, each once in the log", total.windows, ""),
        ("looks at the counters of joules, none of which fell", total.scrapes, ""),
        ("things that did not hold", len(total.broken), "0"),
    ]
    broken = "".join(f"\n- {what}" for what in total.broken)
    return f"""# Reliability

{total.faults.total()} faults in {total.rounds} rounds over {total.seconds:.0f} s: lost {total.lost}.

{table(["", "found", "must be"], checked)}
{broken}

Checked after each run, from the log as a file: every update that an agent says was acknowledged is in exactly one
aggregate; no update and no window of energy is in the log twice; no round is open beyond its deadline (3 s are
allowed); the log's time never goes back; SQLite finds it whole; folded anew it gives the coordinator's state.

{table(["fault", "times"], rows)}

`SIGKILL` and `SIGSTOP` are the real signals. `no file can grow` is RLIMIT_FSIZE set on the running coordinator.
Partition, delay, loss and reset are made by a relay on loopback, which can lose no bytes that TCP has taken: a
loss is a stall of a retransmission timeout. The clock is that of a coordinator in the process of the script; the
host's own is not touched. Where the script runs as root the coordinator's disk is a tmpfs that is filled and
remounted read-only. Not tried: a disk that lies about having written, a power cut, and netem."""


def main() -> None:
    options = parser(__doc__).parse_args()
    origin = Provenance.now(options.seed, ["grpcio"])
    runs, rounds, clock_rounds = (1, 8, 6) if options.quick else (8, 30, 20)
    with tempfile.TemporaryDirectory(prefix="wattbed-chaos-") as folder:
        total = asyncio.run(measure(Path(folder), options.seed, runs, rounds, clock_rounds))
    numbers = vars(total) | {"faults": dict(total.faults)}
    publish(options, "reliability", report(total), numbers, origin)
    if total.broken or total.lost or total.different:
        sys.exit(1)


if __name__ == "__main__":
    main()
