"""`wattbed reproduce PAPER`: the published numbers computed anew, as a table, JSON, figures and CSV."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.options import Json, console, say_json

reproduce_app = typer.Typer(
    help="Compute a published result anew; runs nothing on the testbed.", no_args_is_help=True
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="DIR", help="Write figures as PNG and their data as CSV.", file_okay=False
    ),
]


@reproduce_app.command(name="green-quantized-fl")
def green_quantized_fl(
    eps: Annotated[float, typer.Option("--eps", help="The distance to the optimum to reach.")] = 0.1,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="With the slip in the authors' energy of the backward pass.")
    ] = False,
    cbar: Annotated[
        float | None, typer.Option("--cbar", help="Joules per bit of an upload; else the authors' draw.")
    ] = None,
    variance: Annotated[
        float | None, typer.Option("--variance", help="sum p^2 sigma^2; else the authors' draw.")
    ] = None,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Energy-optimal precision of quantised federated learning (Kim et al., arXiv 2207.09387)."""
    from cli import papers
    from optimizer import reproduce
    from optimizer.models.presets import GREEN_JOULES_PER_BIT

    found = reproduce.green_quantized_fl(
        eps,
        joules_per_bit=GREEN_JOULES_PER_BIT if cbar is None else cbar,
        variance=variance,
        as_published=as_published,
    )
    written = [] if folder is None else papers.write(papers.green_files(found), folder)
    if as_json:
        say_json(found)
        return
    out = console()
    table = Table("point", *papers.POINT)
    for name, point in papers.green_points(found):
        table.add_row(name, *(f"{point[key]:.6g}" for key in papers.POINT))
    out.print(table)
    out.print(f"saving of the Nash point against the same I and K at 32 bits: {found['saving']:.1%}")
    for name, saving in found["published"]["savings"].items():
        out.print(f"published, {name}: {saving:.0%}")
    _say_written(written)


@reproduce_app.command(name="on-demand-diffusion")
def on_demand_diffusion(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the devices' places and channels.")] = 0,
    devices: Annotated[int, typer.Option("--devices", min=1, help="How many devices.")] = 10,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """On-demand bits for federated diffusion: a reconstruction of Lai et al. (arXiv 2403.04430)."""
    from cli import papers
    from optimizer import reproduce

    found = reproduce.on_demand_diffusion(seed, devices)
    written = [] if folder is None else papers.write(papers.on_demand_files(found), folder)
    if as_json:
        say_json(found)
        return
    out = console()
    table = Table("scheme", "compute (J)", "radio (J)", "sent (Gbit)", "slowest (s)", "bits", "demands met")
    for name, s in found["schemes"].items():
        if not s["feasible"]:
            table.add_row(name, "-", "-", "-", "-", "-", s["reason"])
            continue
        numbers = (s["compute_joules"], s["radio_joules"], s["transmitted_bits"] / 1e9, s["seconds"])
        widths = ", ".join(map(str, sorted(set(s["bits"]))))
        table.add_row(name, *(f"{x:.4g}" for x in numbers), widths, "all" if s["every_demand_met"] else "not all")
    out.print(table)
    out.print("joules are estimates of the model; nothing was run")
    _say_written(written)


def _say_written(written: Iterable[Path]) -> None:
    for path in written:
        console().print(f"wrote {path}")
