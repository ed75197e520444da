"""What Fashion-MNIST costs in joules: the experiment, its curve of FID against joules, its last grid.

Runs experiments/fashion-mnist.toml in a local testbed of four agents. With --write the page, the curve and the
grid go to docs/results. --quick runs the demo's digits instead, to try the script itself.
"""

import sys
from pathlib import Path
from typing import Any

from demo import AGENTS, ROOT, in_testbed
from provenance import Provenance, parser, publish, table

from cli import local
from cli.ledger_view import FID, as_json, counted, curve, energy, metric, readings
from cli.plots import metric_against_joules
from fleet.domain import RunReport
from fleet.experiment import read

NAME = "fashion-mnist"


def main() -> int:
    options = parser(__doc__).parse_args()
    file = ROOT / "experiments" / ("demo.toml" if options.quick else f"{NAME}.toml")
    state = Path(f".wattbed-{NAME}")
    experiment = read(file)
    origin = Provenance.now(experiment.seed, ("torch", "diffusers", "torchmetrics", "numpy"))
    try:
        ran = in_testbed(file, state)
    finally:
        local.down(state, purge=True)
    if isinstance(ran, int):
        return ran
    report, grids = ran
    publish(options, NAME, page(report, file), as_json(report), origin)
    if options.write:
        results = ROOT / "docs" / "results"
        (results / f"{NAME}.svg").write_text(metric_against_joules(report, FID) or "")
        (results / f"{NAME}.png").write_bytes(grids[last(report).grid_sha256 or ""])
    return 0


def last(report: RunReport) -> Any:
    """The last round that was evaluated."""
    return next(r for r in reversed(report.rounds) if r.metrics)


def page(report: RunReport, file: Path) -> str:
    """The result as Markdown."""
    question = file.read_text().splitlines()[0].removeprefix("# ")
    names = [m.name for m in report.rounds[0].metrics]
    spent: dict[int, str] = {}
    for p in curve(report, FID):
        said = f"{p.joules:,.0f} ({p.quality}, {p.scope})"
        spent[p.round] = f"{spent[p.round]}, {said}" if p.round in spent else said
    rows = [
        (r.round, spent.get(r.round, "—"), *(f"{metric(r, n):.4g}" for n in names), (r.model_sha256 or "")[:12])
        for r in report.rounds
        if r.metrics
    ]
    devices = []
    for d in report.rounds[-1].devices:
        all_of = [x for r in report.rounds for x in r.devices if x.device == d.device]
        sums = "; ".join(f"{s.joules:,.0f} {s.quality} by {s.source}" for s in energy(readings(all_of)))
        bytes_ = counted(all_of)
        devices.append(
            (d.device, d.kind, d.bits_up, f"{bytes_.wire_up_bytes:,}", f"{bytes_.wire_down_bytes:,}", sums)
        )
    notes = "\n".join(f"- {m.name}: {m.detail}" for m in last(report).metrics)
    took_s = (report.run.ended_at_s or 0) - report.run.started_at_s
    return f"""# Fashion-MNIST: FID against joules

{question} Answered by `experiments/{file.name}`: {report.run.rounds} rounds, {AGENTS} agents as processes
on loopback, {took_s:,.0f} s. Joules are summed over all devices; where they are estimated, they are the
CPU-time model of the device's kind, on the CPU time of this machine.

![FID against joules]({NAME}.svg)

Samples after the last round:

![samples]({NAME}.png)

{table(["round", "joules until then", *names, "model"], rows)}

{notes}

{table(["device", "kind", "bits up", "bytes up on the wire", "bytes down on the wire", "joules"], devices)}
"""


if __name__ == "__main__":
    sys.exit(main())
