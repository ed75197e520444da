"""Fits watts = idle + slope * busy threads to published load and power figures, for fleet/kinds.toml.

Readings where the machine was idle are left out of the fit: they say 0.2 to 0.6 W for a whole server
processor, which is the reading of a tool at rest and not the power of a package that is awake.
The fit is least squares in closed form, so there is no seed. The interval is the relative error that
nine in ten of the fitted readings stay within.

    python bench/fit_kinds.py                        fit bench/data/cpu_load_power.csv
    python bench/fit_kinds.py --from FOLDER          copy the figures out of CodeCarbon's own CSV files first
"""

import argparse
import csv
import json
import platform
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data" / "cpu_load_power.csv"
COLUMNS = ("cpu", "load_type", "threads_loaded", "logical_cpus", "load_percent", "rapl_watts")
SOURCE = (
    "# Load and power of server processors, measured by the authors of CodeCarbon (mlco2/codecarbon at b05965e4,",
    "# MIT licence): RAPL power over 30 s, with p % load on all threads and with p % of the threads fully loaded.",
)
AWAKE_PERCENT = 3.0
"""Below this load a reading counts as idle and is left out."""


def copy_figures(folder: Path) -> None:
    lines = [*SOURCE, ",".join(COLUMNS)]
    for cpu, files in _by_cpu(folder).items():
        logical = max(int(row["cores_used"]) for rows in files for row in rows)
        for row in (row for rows in files for row in rows):
            lines.append(
                f"{cpu},{row['load_type']},{row['cores_used']},{logical},{float(row['cpu_load'])},"
                f"{float(row['rapl_power']):.3f}"
            )
    DATA.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _by_cpu(folder: Path) -> dict[str, list[list[dict[str, str]]]]:
    found: dict[str, list[list[dict[str, str]]]] = defaultdict(list)
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found[rows[0]["cpu_name"]].append(rows)
    if not found:
        raise SystemExit(f"{folder}: no CSV files")
    return found


def fit(path: Path = DATA) -> dict[str, dict[str, float]]:
    """By processor: idle_watts, watts_per_core (per busy logical CPU), interval, worst and readings."""
    readings = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            if float(row["load_percent"]) >= AWAKE_PERCENT:
                busy = float(row["load_percent"]) / 100 * int(row["logical_cpus"])
                readings[row["cpu"]].append((busy, float(row["rapl_watts"])))
    fits = {}
    for cpu, pairs in readings.items():
        busy, watts = np.array(pairs).T
        slope, idle = np.polyfit(busy, watts, 1)
        relative = np.abs(watts / (idle + slope * busy) - 1)
        fits[cpu] = {
            "idle_watts": float(idle),
            "watts_per_core": float(slope),
            "interval": float(np.quantile(relative, 0.9)),
            "worst": float(relative.max()),
            "readings": len(pairs),
        }
    return fits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--from", dest="folder", type=Path, help="folder of CodeCarbon's cpu_load_profiling CSV files"
    )
    parser.add_argument("--quick", action="store_true", help="accepted like in every bench; a fit takes no time")
    parser.add_argument("--json", type=Path, help="write the constants to this file too")
    arguments = parser.parse_args()
    if arguments.folder:
        copy_figures(arguments.folder)
    fits = fit()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        f"commit {commit.stdout.strip() or 'unknown'}, {platform.machine()}, no seed; joules from RAPL, not ours"
    )
    for cpu, found in fits.items():
        print(
            f"{cpu}: idle_watts {found['idle_watts']:.2f}, watts_per_core {found['watts_per_core']:.3f}, interval "
            f"{found['interval']:.2f} (worst {found['worst']:.2f}) from {found['readings']:.0f} readings"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(fits, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
