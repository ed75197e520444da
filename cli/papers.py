"""Figures and CSV files of the published results that are computed anew."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from cli.plots import STYLE
from cli.report import write_files
from fleet.errors import BadRequest

POINT = ("I", "K", "m", "n", "rounds", "joules")


def write(contents: Mapping[str, bytes], folder: Path) -> tuple[Path, ...]:
    """Writes the files into `folder`; BadRequest names one that cannot be written."""
    return write_files({folder / name: content for name, content in contents.items()})


def green_points(found: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, float]]]:
    """(name, point): of the fast solvers, of brute force, as published, and the baselines."""
    yield from found["points"].items()
    yield from ((f"{name}, by brute force", p) for name, p in found["exhaustive"].items())
    yield "nash, over real numbers", found["relaxed_nash"]
    if found["published"]["nash"] is not None:
        yield "nash, as published", found["published"]["nash"]
    yield "one precision (n = m)", found["one_precision"]
    yield "32 bits", found["baseline_32bit"]


def green_files(found: Mapping[str, Any]) -> dict[str, bytes]:
    """The Pareto boundary with the points on it, as PNG and CSV by file name."""
    boundary = found["pareto"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot(xlabel="rounds", ylabel="joules", yscale="log")
        axes.plot([p["rounds"] for p in boundary], [p["joules"] for p in boundary], "-", label="Pareto boundary")
        for name, point in (*found["points"].items(), ("32 bits", found["baseline_32bit"])):
            axes.plot(point["rounds"], point["joules"], "o", label=name)
        axes.legend()
        png = _png(figure)
    rows = [(name, *(p[key] for key in POINT)) for name, p in green_points(found)]
    rows += [("pareto", *(p[key] for key in POINT)) for p in boundary]
    return {
        "green-quantized-fl.png": png,
        "green-quantized-fl.csv": _csv(("point", *POINT), rows),
    }


def on_demand_files(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Joules of the feasible schemes, as PNG and CSV by file name; BadRequest where there is none."""
    shown = {name: s for name, s in found["schemes"].items() if s["feasible"]}
    if not shown:
        raise BadRequest("no scheme is feasible for these devices: there is nothing to draw")
    names = list(shown)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.4 * len(names) + 1.4), layout="constrained")
        axes = figure.add_subplot(xlabel="joules (estimated)")
        compute = [shown[n]["compute_joules"] for n in names]
        axes.barh(names, compute, label="compute")
        axes.barh(names, [shown[n]["radio_joules"] for n in names], left=compute, label="radio")
        axes.invert_yaxis()
        axes.legend()
        png = _png(figure)
    head = ("scheme", "compute_joules", "radio_joules", "transmitted_bits", "seconds", "every_demand_met")
    rows = [(name, *(s[key] for key in head[1:])) for name, s in shown.items()]
    return {"on-demand-diffusion.png": png, "on-demand-diffusion.csv": _csv(head, rows)}


FLEXGEN = ("joules", "compute_joules", "radio_joules", "quality", "met", "steps", "width", "seconds")
OFFLOADING = ("utility", "joules", "quality", "seconds", "steps", "at_edge", "edge_s")


def flexgen_files(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Joules of the feasible schemes under each law of energy, as PNG and CSV; BadRequest where there is none."""
    laws = {law: {n: s for n, s in table.items() if s["feasible"]} for law, table in found["schemes"].items()}
    if not any(laws.values()):
        raise BadRequest("no scheme is feasible for these requests: there is nothing to draw")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4 * len(laws), 0.4 * max(map(len, laws.values())) + 1.6), layout="constrained")
        for axes, (law, shown) in zip(np.atleast_1d(figure.subplots(1, len(laws))), laws.items(), strict=True):
            axes.set(xlabel="joules (estimated)", title=law)
            compute = [s["compute_joules"] for s in shown.values()]
            axes.barh(list(shown), compute, label="compute")
            axes.barh(list(shown), [s["radio_joules"] for s in shown.values()], left=compute, label="radio")
            axes.invert_yaxis()
            axes.legend()
        png = _png(figure)
    rows = [(law, name, *(s[key] for key in FLEXGEN)) for law, shown in laws.items() for name, s in shown.items()]
    return {"flexgen.png": png, "flexgen.csv": _csv(("energy_law", "scheme", *FLEXGEN), rows)}


def offloading_files(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Utility and joules of feasible schemes, the error by steps, as PNG and CSV; BadRequest if there is none."""
    shown = {name: s for name, s in found["schemes"].items() if s["feasible"]}
    if not shown:
        raise BadRequest("no scheme is feasible for these users: there is nothing to draw")
    law = found["error_law"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.8, 0.4 * len(shown) + 1.6), layout="constrained")
        worth, spent, error = figure.subplots(1, 3)
        for axes, key, label in ((worth, "utility", "utility"), (spent, "joules", "joules (estimated)")):
            axes.barh(list(shown), [s[key] for s in shown.values()])
            axes.set(xlabel=label)
            axes.invert_yaxis()
        spent.set_yticklabels([])
        error.plot(list(law["published"]), list(law["published"].values()), "o", label="published (DDPM)")
        error.plot(list(law["points"]), list(law["points"].values()), "-", label="falling, convex fit")
        error.set(xlabel="steps", ylabel="average error")
        error.legend()
        png = _png(figure)
    rows = [(name, *(s[key] for key in OFFLOADING)) for name, s in shown.items()]
    return {"offloading.png": png, "offloading.csv": _csv(("scheme", *OFFLOADING), rows)}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _csv(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue().encode()
