"""Four agents train a diffusion model on real images at four bit-widths, with every joule accounted for.

What `make demo` runs: the commands of docs/cli.md one after another, in a testbed of its own that is
brought down again whatever happens. Fails unless the FID fell and every phase of the ledger has joules
with a source.
"""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import aside  # noqa: F401

from cli import local, report
from cli.ledger_view import FID, ends, without_source
from cli.options import console
from cli.run import start, watch
from fleet.domain import RunReport
from fleet.errors import WattbedError
from fleet.experiment import read
from fleet.kinds import kinds

ROOT = Path(__file__).resolve().parent.parent
AGENTS = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", type=Path, default=ROOT / "experiments" / "demo.toml")
    parser.add_argument("--state", type=Path, default=Path(".wattbed-demo"))
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began_s = time.monotonic()
    try:
        return demo(asked.experiment, asked.state, began_s)
    except WattbedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        local.down(asked.state)


def in_testbed(file: Path, state: Path) -> tuple[RunReport, dict[str, bytes]] | int:
    """Runs an experiment in a fresh local testbed: its report and grids, or the exit code of a run that failed."""
    experiment = read(file)
    local.down(state)
    testbed, started = local.up(state, agents=AGENTS, kinds=list(kinds()), data=None, port=0, http_port=0)
    console().print(f"started {', '.join(started)} at {testbed.address}; logs in {state / 'logs'}")
    run = start(experiment, testbed.address)
    if (code := watch(run, testbed.address, as_json=False)) != 0:
        return code
    return asyncio.run(report.fetch(testbed.address, run, with_grids=True))


def demo(file: Path, state: Path, began_s: float) -> int:
    out = console()
    ran = in_testbed(file, state)
    if isinstance(ran, int):
        return ran
    found, grids = ran
    written = report.write(found, grids, state / "report")
    out.print(report.tables(found))
    out.print("\n" + "\n".join(f"wrote {path}" for path in written))

    fid, unsourced = ends(found, FID), without_source(found)
    if unsourced:
        print(f"demo: no source of joules for {'; '.join(unsourced)}", file=sys.stderr)
    if fid is None:
        print("demo: fewer than two models have a FID", file=sys.stderr)
        return 1
    out.print(
        f"\nFID {fid[0]:.1f} at the start, {fid[1]:.1f} at the end; {time.monotonic() - began_s:.0f} s in all"
    )
    if fid[1] >= fid[0]:
        print("demo: the FID did not fall", file=sys.stderr)
    return 0 if fid[1] < fid[0] and not unsourced else 1


if __name__ == "__main__":
    sys.exit(main())
