"""Where a figure comes from: what every bench says beside its numbers, and how it says it.

A bench is `parser(__doc__)`, its measurements as `Spread`s, and `publish(...)`.
"""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import aside  # noqa: F401
import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of `count` samples, all in the unit of the samples."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        """The spread of at least one sample."""
        if not samples:
            raise ValueError("no samples were taken")
        return cls(median(samples), min(samples), max(samples), len(samples))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g}, n={self.count})"


@dataclass(frozen=True)
class Provenance:
    """What has to be the same for a figure to come out the same.

    `dirty` is the number of files that differ from `commit`; `commit` is None outside a git checkout.
    `load` is the one-minute load average when the bench began: what else kept the machine busy.
    """

    commit: str | None
    dirty: int | None
    cpu: str
    cores: int
    memory_bytes: int
    system: str
    load: float
    seed: int
    date: str
    versions: dict[str, str]

    @classmethod
    def now(cls, seed: int, packages: Iterable[str] = ()) -> "Provenance":
        """The provenance of a bench that starts now and rests on `packages`."""
        changed = _git("status", "--porcelain")
        return cls(
            commit=_git("rev-parse", "HEAD"),
            dirty=None if changed is None else len(changed.splitlines()),
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=psutil.virtual_memory().total,
            system=f"{platform.system()} {platform.release()}",
            load=os.getloadavg()[0],
            seed=seed,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={"python": platform.python_version()} | {p: version(p) for p in packages},
        )

    def markdown(self) -> str:
        """One paragraph for the foot of a result page."""
        commit = "no commit" if self.commit is None else f"commit {self.commit[:12]}"
        changed = f" with {self.dirty} changed files" if self.dirty else ""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"Measured {self.date} at {commit}{changed} on {self.cpu}, {self.cores} cores, "
            f"{self.memory_bytes / 2**30:.1f} GiB, {self.system}, load {self.load:.2f} at the start; "
            f"seed {self.seed}; {versions}."
        )


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    names = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return next(names, platform.machine()).split(":")[-1].strip()


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every bench has."""
    options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="a smaller measurement, in under a minute")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    options.add_argument("--write", action="store_true", help="write the page in docs/results")
    return options


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def publish(options: argparse.Namespace, name: str, page: str, numbers: Any, origin: Provenance) -> None:
    """Prints `page` with its provenance; with --json writes `numbers`, with --write docs/results/`name`.md.

    `numbers` may hold dataclasses. A --quick page says that it is one.
    """
    quick = "\n\nA `--quick` run: fewer repetitions, smaller sizes." if options.quick else ""
    page = f"{page.strip()}{quick}\n\n{origin.markdown()}\n"
    print(page)
    if options.json:
        content = {"bench": name, "quick": options.quick, "provenance": asdict(origin), "numbers": numbers}
        options.json.write_text(json.dumps(content, indent=1, default=asdict) + "\n")
    if options.write:
        results = ROOT / "docs" / "results"
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{name}.md").write_text(page)
