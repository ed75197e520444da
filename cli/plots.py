"""The report's plots as inline SVG. Every plot of joules names their quality, scope and source."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cli import cells
from cli.ledger_view import all_devices, choices, comparisons, curve, totals
from fleet.domain import Quality, RunReport
from fleet.energy import Total

INK, GRID = "#22303c", "#d9dfe5"
COLOURS = ("#0f6f8c", "#d1782b", "#5b8c3a", "#8a4f9e", "#b8403f", "#7a6a4f", "#3b64b0", "#96862a")
MARKERS = {Quality.MEASURED: "o", Quality.DERIVED: "s", Quality.ESTIMATED: "D"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_LEGEND_ABOVE = 6
"""More devices than this make a legend taller than the plot."""


@contextmanager
def _axes(name: str, out: list[str]) -> Iterator[Axes]:
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        yield figure.add_subplot()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        out.append(_inline(buffer.getvalue(), name))


def _inline(svg: str, name: str) -> str:
    """An SVG file as an element of a page: no prologue, no metadata, and ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)


def metric_against_joules(report: RunReport, name: str) -> str | None:
    """A metric against the joules spent until then, a line per quality and scope; None without two points."""
    points = curve(report, name)
    out: list[str] = []
    lines = [t for t in _totals(report) if sum((p.quality, p.scope) == (t.quality, t.scope) for p in points) > 1]
    if not lines:
        return None
    with _axes(f"curve-{re.sub('[^a-z0-9]+', '-', name.lower())}", out) as axes:
        for i, t in enumerate(lines):
            mine = [p for p in points if (p.quality, p.scope) == (t.quality, t.scope)]
            xs, ys = [p.joules for p in mine], [p.value for p in mine]
            look: dict[str, Any] = {"marker": MARKERS[t.quality], "color": COLOURS[i % len(COLOURS)]}
            axes.plot(xs, ys, markersize=5, linewidth=1.8, label=cells.named(t), **look)
        axes.set_xlabel("joules spent by all devices until then")
        axes.set_ylabel(name.upper() if len(name) <= 3 else name)
        axes.set_ylim(bottom=0)
        axes.legend()
    return out[0]


def _totals(report: RunReport) -> tuple[Total, ...]:
    return tuple(t for t in totals(all_devices(report), choices(report)) if t.joules is not None)


def joules_by_device(report: RunReport) -> Iterable[tuple[str, str]]:
    """Joules of each round, stacked by device: one plot per quality and scope, for these are never stacked."""
    chosen = choices(report)
    devices = sorted({d.device for d in all_devices(report)})
    rounds = [r for r in report.rounds if r.devices]
    for whole in _totals(report):
        spent = {
            (r.round, d.device): t.joules
            for r in rounds
            for d in r.devices
            for t in totals([d], chosen)
            if (t.quality, t.scope) == (whole.quality, whole.scope) and t.joules is not None
        }
        out: list[str] = []
        with _axes(f"devices-{whole.quality}-{whole.scope}", out) as axes:
            _stack(axes, [r.round for r in rounds], devices, spent)
            axes.set_xlabel("round")
            axes.set_ylabel(f"joules ({cells.named(whole)})")
        yield f"{whole.quality} {whole.scope}", out[0]


def _stack(axes: Axes, rounds: Sequence[int], devices: Sequence[str], spent: dict[tuple[int, str], float]) -> None:
    heights = dict.fromkeys(rounds, 0.0)
    for i, device in enumerate(devices):
        mine = [spent.get((r, device), 0.0) for r in rounds]
        colour = COLOURS[i % len(COLOURS)]
        axes.bar(rounds, mine, 0.72, [heights[r] for r in rounds], color=colour, label=device)
        heights = {r: heights[r] + j for r, j in zip(rounds, mine, strict=True)}
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")
    if len(devices) <= _LEGEND_ABOVE:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(4, len(devices)))


def predicted_beside_measured(report: RunReport) -> str | None:
    """Predicted joules of every assignment against what it took; None without any pair."""
    pairs = [
        (c.device, (c.quality, c.scope), c.predicted_joules, c.joules)
        for c in comparisons(report)
        if c.predicted_joules is not None and c.joules is not None and c.quality is not None
    ]
    if not pairs:
        return None
    out: list[str] = []
    devices = sorted({device for device, *_ in pairs})
    with _axes("predicted", out) as axes:
        top = 1.1 * max(max(predicted, joules) for _, _, predicted, joules in pairs)
        axes.plot([0, top], [0, top], color=INK, linewidth=1, linestyle="--", label="as predicted")
        for i, device in enumerate(devices):
            for quality, scope in sorted({of for d, of, *_ in pairs if d == device}):
                xs = [p for d, of, p, _ in pairs if (d, of) == (device, (quality, scope))]
                ys = [j for d, of, _, j in pairs if (d, of) == (device, (quality, scope))]
                label = f"{device} ({quality}, {scope})" if len(devices) <= _LEGEND_ABOVE else None
                colour = COLOURS[i % len(COLOURS)]
                axes.scatter(xs, ys, s=28, color=colour, marker=MARKERS[quality], label=label)
        axes.set_xlabel("joules predicted")
        axes.set_ylabel("joules the assignment took")
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.legend()
    return out[0]
