"""The command `doctor`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from cli import cells, energy_process, options
from cli.checks import Check, Finding
from cli.energy_commands import Procfs, Sysfs
from cli.options import FAILED, Coordinator, Data, Json, State, address, console, say_json
from cli.report import table
from cli.sheets import Sheet
from fleet.errors import WattbedError


def doctor(
    coordinator: Coordinator = None,
    sysfs: Sysfs = None,
    procfs: Procfs = None,
    state: State = options.DEFAULT_STATE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say what can be measured, reached and run here, and what not and why."""
    other_host = sysfs is not None or procfs is not None
    checks = () if other_host else _checks(address(coordinator, state), state, data)
    try:
        energy = energy_process.probe(sysfs, procfs)
    except WattbedError as error:
        if other_host:
            raise
        energy = energy_process.Probe((), ())
        checks = (*checks, Check("energy counters", Finding.BROKEN, str(error)))
    if as_json:
        say_json({"checks": [asdict(c) for c in checks], **asdict(energy)})
    else:
        _show(checks, energy)
    if any(c.finding is Finding.BROKEN for c in checks):
        raise typer.Exit(FAILED)


def _checks(at: str, state: Path, data: Path | None) -> tuple[Check, ...]:
    from cli.doctor import examine

    return tuple(examine(at, state, data))


def _show(checks: tuple[Check, ...], energy: energy_process.Probe) -> None:
    out = console()
    if checks:
        rows = tuple((c.subject, c.finding, c.detail) for c in checks)
        out.print(table(Sheet("Checks", ("subject", "finding", "detail"), (), rows)))
    if energy.sources:
        out.print(table(_sources(energy.sources)))
    else:
        out.print("no energy counter can be read here: joules would be estimated")
    for source in energy.rejected:
        out.print(f"\n{source['name']} cannot be read: {source['reason']}")
        if source.get("fix"):
            out.print("\n".join(f"    {line}" for line in str(source["fix"]).splitlines()), soft_wrap=True)


def _sources(sources: tuple[Mapping[str, Any], ...]) -> Sheet:
    words = ("kind", "name", "component", "scope", "quality", "detail")
    rows = tuple((*(str(s.get(word, "")) for word in words), cells.joules(s["joules"])) for s in sources)
    return Sheet("Sources of joules", words, ("counter now",), rows)
