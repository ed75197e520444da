"""How far the CPU-time model is off: scored on load levels and on processors that its fit has not seen.

The model is watts = idle + slope * busy threads. Within a processor it is fitted to all load levels but one (steps
of ten per cent, both ways of loading together) and scored on that one. For a processor that nobody measured
it is fitted to the other processors, in shares of their thermal design power, and scored on all of its
readings. Least squares in closed form, so there is no seed; the figures are those of bench/data.

    python bench/model_error.py            print the table
    python bench/model_error.py --write    and put it into docs/energy.md
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from fit_kinds import AWAKE_PERCENT, DATA, fit
from provenance import ROOT, table

from fleet.kinds import kinds

PAGE = ROOT / "docs" / "energy.md"
BEGIN = "<!-- model error: written by bench/model_error.py --write -->"
END = "<!-- end of model error -->"

DESIGN_WATTS = {
    "AMD EPYC 8024P 8-Core Processor": 90.0,
    "Intel(R) Xeon(R) CPU E3-1240 V2 @ 3.40GHz": 69.0,
    "Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz": 170.0,
}
"""Thermal design power of all sockets, by the makers' data sheets; 24 threads of an E5-2620 v3 are two sockets."""

KINDS = {
    "AMD EPYC 8024P 8-Core Processor": "epyc-8024p",
    "Intel(R) Xeon(R) CPU E5-2620 v3 @ 2.40GHz": "xeon-e5-2620v3",
}


@dataclass(frozen=True)
class Reading:
    """One figure: `load` is the busy share of all threads."""

    cpu: str
    load: float
    watts: float


@dataclass(frozen=True)
class Score:
    """Relative error of predictions: half stay within `median`, nine in ten within `nine_in_ten`."""

    readings: int
    median: float
    nine_in_ten: float
    worst: float
    bias: float

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> "Score":
        """From (predicted, measured) watts."""
        predicted, measured = np.array(list(pairs)).T
        signed = predicted / measured - 1
        error = np.abs(signed)
        nine = float(np.quantile(error, 0.9))
        return cls(len(error), float(np.median(error)), nine, float(error.max()), float(np.median(signed)))


def readings(path: Path = DATA) -> list[Reading]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [Reading(row["cpu"], float(row["load_percent"]) / 100, float(row["rapl_watts"])) for row in rows]


def awake(found: Iterable[Reading]) -> list[Reading]:
    return [one for one in found if one.load * 100 >= AWAKE_PERCENT]


def line(pairs: Iterable[tuple[float, float]]) -> Callable[[float], float]:
    load, watts = np.array(list(pairs)).T
    slope, idle = np.polyfit(load, watts, 1)
    return lambda at: float(idle + slope * at)


def level_left_out(found: list[Reading]) -> Score:
    """Each ten per cent of load of one processor, predicted from its other loads."""
    pairs = []
    for level in {round(one.load, 1) for one in found}:
        rest = line((one.load, one.watts) for one in found if round(one.load, 1) != level)
        pairs += [(rest(one.load), one.watts) for one in found if round(one.load, 1) == level]
    return Score.of(pairs)


def processor_left_out(found: list[Reading], cpu: str) -> Score:
    """One processor, predicted from the others by thermal design power."""
    others = line((one.load, one.watts / DESIGN_WATTS[one.cpu]) for one in found if one.cpu != cpu)
    return Score.of((others(one.load) * DESIGN_WATTS[cpu], one.watts) for one in found if one.cpu == cpu)


def score() -> dict[str, dict[str, Score]]:
    """By processor, and by what was left out of the fit."""
    found = awake(readings())
    return {
        cpu: {
            "load level": level_left_out([one for one in found if one.cpu == cpu]),
            "processor": processor_left_out(found, cpu),
        }
        for cpu in DESIGN_WATTS
    }


def short(cpu: str) -> str:
    return cpu.partition(" @")[0].replace("(R)", "")


def page(scores: dict[str, dict[str, Score]]) -> str:
    rows = []
    for cpu, by in scores.items():
        published = f"{kinds()[KINDS[cpu]].energy.interval:.0%}" if cpu in KINDS else "no kind"
        for left_out, one in by.items():
            said = published if left_out == "load level" else ""
            rows.append(
                (
                    short(cpu),
                    left_out,
                    one.readings,
                    f"{one.median:.0%}",
                    f"{one.nine_in_ten:.0%}",
                    f"{one.worst:.0%}",
                    f"{one.bias:+.0%}",
                    said,
                )
            )
    head = (
        "processor",
        "left out of the fit",
        "readings",
        "median",
        "nine in ten within",
        "worst",
        "bias",
        "kind's interval",
    )
    rest = [one for one in readings() if one.load * 100 < AWAKE_PERCENT]
    idle = fit()
    at_rest = "; ".join(
        f"{short(cpu)} {np.mean([one.watts for one in rest if one.cpu == cpu]):.1f} W "
        f"against the model's {idle[cpu]['idle_watts']:.1f} W"
        for cpu in DESIGN_WATTS
    )
    return (
        f"{table(head, rows)}\n\n"
        f"Errors are relative to RAPL. Not scored: readings below {AWAKE_PERCENT:g} % load, where RAPL showed "
        f"{at_rest}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="accepted like in every bench; a fit takes no time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    parser.add_argument("--write", action="store_true", help="put the table into docs/energy.md")
    options = parser.parse_args()
    scores = score()
    text = page(scores)
    print(text)
    if options.json:
        numbers = {cpu: {what: asdict(one) for what, one in by.items()} for cpu, by in scores.items()}
        options.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
