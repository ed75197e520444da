"""The commands that look at devices: the list, and one with all that it is and can."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import cells, options
from cli.client import ask
from cli.listings import clock_time
from cli.options import Coordinator, Json, State, address, console, refuse_misplaced, say_json
from cli.report import table
from cli.sheets import Sheet
from fleet.domain import Capabilities, DeviceSummary, LinkInfo

devices_app = typer.Typer(help="List devices, or show one.", invoke_without_command=True)


@devices_app.callback()
def devices(
    context: typer.Context,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """List devices, or show one."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    found = ask(address(coordinator, state), lambda operator: operator.devices())
    if as_json:
        say_json([asdict(d) for d in found])
    else:
        console().print(table(_devices_sheet(found)) if found else "no devices yet")


def _devices_sheet(devices: tuple[DeviceSummary, ...]) -> Sheet:
    rows = [
        (
            *(d.device, d.capabilities.kind, "attached" if d.attached else "away"),
            f"{d.run} round {d.round}" if d.run else "idle",
            _power(d),
            link(d.capabilities.link),
            str(d.capabilities.cpu_cores),
            quota(d.capabilities),
            cells.size(d.capabilities.memory_bytes),
        )
        for d in devices
    ]
    words = ("device", "kind", "stream", "works on", "power", "link")
    return Sheet("Devices", words, ("cores", "CPU quota", "memory"), tuple(rows))


def quota(able: Capabilities) -> str:
    """CPU seconds per second that a device may use."""
    return "none" if able.cpu_quota is None else f"{able.cpu_quota:g}"


def link(found: LinkInfo | None) -> str:
    """The emulated link in short: up and down, and the delay one way."""
    if found is None:
        return "its own"
    return f"{bits(found.rate_up_bps)}↑ {bits(found.rate_down_bps)}↓, {1000 * found.delay_s:g} ms"


def bits(per_second: float) -> str:
    """A rate of a link."""
    return f"{per_second / 1e9:g} Gbit/s" if per_second >= 1e9 else f"{per_second / 1e6:g} Mbit/s"


def emulated(found: LinkInfo | None) -> str:
    """The emulated link in full, with what emulates each of its properties."""
    if found is None:
        return "its own, not emulated"
    return (
        f"{bits(found.rate_up_bps)} up, {bits(found.rate_down_bps)} down (by {found.rate_by}), "
        f"delay {1000 * found.delay_s:g} ms one way, jitter {1000 * found.jitter_s:g} ms (by {found.delay_by}), "
        f"loss {100 * found.loss:g} % (by {found.loss_by}); rate over time: {found.trace}"
    )


def _power(device: DeviceSummary) -> str:
    each = [f"{p.watts:.1f} W {p.component} ({p.quality}: {p.source})" for p in device.power]
    return ", ".join(each) or cells.NOT_MEASURED


@devices_app.command(name="show")
def show_device(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device's name.")],
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show a device: what it is, what it can measure and what it does now."""
    found = ask(address(coordinator, state), lambda operator: operator.device(name))
    if as_json:
        say_json(asdict(found))
        return
    able = found.capabilities
    facts = {
        "kind": able.kind,
        "stream": f"{'attached' if found.attached else 'away'} since {clock_time(found.changed_at_s)}",
        "works on": f"{found.run} round {found.round}" if found.run else "idle",
        "processor": f"{able.cpu_model}, {able.cpu_cores} cores, {able.machine}",
        "CPU quota": quota(able),
        "memory": cells.size(able.memory_bytes),
        "link": emulated(able.link),
        "gpu": able.gpu_model or "none",
        "agent": able.agent_version,
        "metrics": found.metrics_address or "not served; the coordinator exposes its heartbeats",
        "power": _power(found),
    }
    meters = tuple((m.source, m.component, m.scope, m.quality, m.detail) for m in able.meters)
    rejected = tuple((m.source, m.reason) for m in able.rejected_meters)
    levers = tuple((v.lever, v.unit, v.detail, f"{v.minimum:g}", f"{v.maximum:g}") for v in able.levers)
    out = console()
    out.print(table(Sheet(found.device, ("", ""), (), tuple(facts.items()))))
    columns = ("source", "component", "scope", "quality", "detail")
    out.print(table(Sheet("Sources of joules", columns, (), meters)))
    if rejected:
        out.print(table(Sheet("Sources that cannot be read", ("source", "reason"), (), rejected)))
    if levers:
        out.print(table(Sheet("Levers", ("lever", "unit", "detail"), ("from", "to"), levers)))
    else:
        out.print("no lever: nothing of this device can be set")
