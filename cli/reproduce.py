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


@reproduce_app.command(name="flexgen")
def flexgen(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the requests and their channels.")] = 0,
    requests: Annotated[int, typer.Option("--requests", min=1, help="How many requests.")] = 20,
    laws: Annotated[
        Path | None,
        typer.Option("--laws", metavar="FILE", help="Measured quality laws as JSON.", exists=True, dir_okay=False),
    ] = None,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Green generation with flexible width: a reconstruction of FlexGen (Li et al., IEEE TCCN 2024)."""
    from cli import papers
    from optimizer import reproduce_service

    known = None if laws is None else reproduce_service.read_laws(laws)
    found = reproduce_service.flexgen(seed, requests, known)
    written = [] if folder is None else papers.write(papers.flexgen_files(found), folder)
    if as_json:
        say_json(found)
        return
    out = console()
    for law, schemes in found["schemes"].items():
        table = Table(
            "scheme", "compute (J)", "radio (J)", "mean quality", "demands met", "steps", "width", title=law
        )
        for name, s in schemes.items():
            if not s["feasible"]:
                table.add_row(name, *"-" * 5, s["reason"])
                continue
            spent = (f"{s[key]:.4g}" for key in ("compute_joules", "radio_joules", "quality"))
            met = f"{s['met']} of {found['requests']}"
            table.add_row(name, *spent, met, f"{s['steps']:.4g}", f"{s['width']:.3g}")
        out.print(table)
        for what, times in (
            ("at the qualities demanded", found["saving"][law]),
            ("at equal quality", found["equal_quality"][law]),
        ):
            said = "not feasible" if times is None else f"{times:.2f} times less energy than full width"
            out.print(f"{what}, {law}: {said}")
    out.print(f"published: up to {found['published']['saving_up_to']:g} times less energy at equal quality")
    out.print(f"quality laws: {found['laws']}")
    out.print("joules are estimates of the model; nothing was run")
    _say_written(written)


@reproduce_app.command(name="offloading")
def offloading(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the users, their devices and channels.")] = 0,
    users: Annotated[int, typer.Option("--users", min=1, max=100, help="How many users.")] = 20,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Offloading and quality control for generation: a reconstruction of Wang et al. (arXiv 2312.06203)."""
    from cli import papers
    from optimizer import reproduce_service

    found = reproduce_service.offloading(seed, users)
    written = [] if folder is None else papers.write(papers.offloading_files(found), folder)
    if as_json:
        say_json(found)
        return
    out = console()
    table = Table("scheme", "utility", "joules", "mean error", "mean delay (s)", "mean steps", "at the edge")
    for name, s in found["schemes"].items():
        if not s["feasible"]:
            table.add_row(name, *"-" * 5, s["reason"])
            continue
        numbers = (f"{s[key]:.4g}" for key in ("utility", "joules", "quality", "seconds", "steps"))
        table.add_row(name, *numbers, f"{s['at_edge']} of {found['users']}")
    out.print(table)
    out.print("joules are estimates of the model; nothing was run")
    _say_written(written)


def _say_written(written: Iterable[Path]) -> None:
    for path in written:
        console().print(f"wrote {path}")
