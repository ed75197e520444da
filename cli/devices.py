"""The commands that look at devices: the list, and one with all that it is and can."""

from typing import Annotated

import typer

from cli import calibrate, cells, device_care, options
from cli.client import Operator, ask
from cli.listings import clock_time
from cli.options import Coordinator, Json, State, address, console, refuse_misplaced, say_json
from cli.report import table
from cli.sheets import Sheet
from fleet.calibration import Calibration
from fleet.domain import Capabilities, DeviceSummary, LinkInfo

devices_app = typer.Typer(help="List devices, or look after one.", invoke_without_command=True)


@devices_app.callback()
def devices(
    context: typer.Context,
    coordinator: Coordinator = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """List devices."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    found = ask(address(coordinator, state), lambda operator: operator.devices())
    if as_json:
        say_json([device_care.values(d) for d in found])
    else:
        console().print(table(_devices_sheet(found)) if found else "no devices yet")


def _devices_sheet(devices: tuple[DeviceSummary, ...]) -> Sheet:
    rows = [
        (
            *(d.device, device_care.kind(d), device_care.stream(d)),
            f"{d.run} round {d.round}" if d.run else "idle",
            _power(d),
            *(_able(d.capabilities) if d.capabilities else (cells.NOT_MEASURED,) * 4),
        )
        for d in devices
    ]
    words = ("device", "kind", "stream", "works on", "power", "link")
    return Sheet("Devices", words, ("cores", "CPU quota", "memory"), tuple(rows))


def _able(able: Capabilities) -> tuple[str, str, str, str]:
    return link(able.link), str(able.cpu_cores), quota(able), cells.size(able.memory_bytes)


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
    """Show a device: what it is, what it can measure, what work costs it and what it does now."""
    found, calibrations = ask(address(coordinator, state), lambda operator: _device(operator, name))
    if as_json:
        say_json(device_care.values(found))
        return
    able = found.capabilities
    facts = {
        "kind": device_care.kind(found),
        "stream": f"{device_care.stream(found)} since {clock_time(found.changed_at_s)}",
        "certificate": device_care.certificate(found),
    }
    out = console()
    if able is None:
        out.print(table(Sheet(found.device, ("", ""), (), tuple(facts.items()))))
        out.print("it joined and never attached: what it is and can is not known yet")
        return
    facts |= {
        "clock": device_care.clock(found),
        "works on": f"{found.run} round {found.round}" if found.run else "idle",
        "processor": f"{able.cpu_model}, {able.cpu_cores} cores, {able.machine}",
        "CPU quota": quota(able),
        "memory": cells.size(able.memory_bytes),
        "link": emulated(able.link),
        "gpu": gpu(able),
        "kernel modules": " ".join(able.kernel_modules) or "none of those that are looked for",
        "versions": ", ".join(f"{v.what} {v.version}" for v in able.versions) or cells.NOT_MEASURED,
        "agent": able.agent_version,
        "metrics": found.metrics_address or "not served; the coordinator exposes its heartbeats",
        "power": _power(found),
    }
    meters = tuple((m.source, m.component, m.scope, m.quality, m.detail) for m in able.meters)
    rejected = tuple((m.source, m.reason) for m in able.rejected_meters)
    levers = tuple((v.lever, v.unit, v.detail, f"{v.minimum:g}", f"{v.maximum:g}") for v in able.levers)
    out.print(table(Sheet(found.device, ("", ""), (), tuple(facts.items()))))
    columns = ("source", "component", "scope", "quality", "detail")
    out.print(table(Sheet("Sources of joules", columns, (), meters)))
    if rejected:
        out.print(table(Sheet("Sources that cannot be read", ("source", "reason"), (), rejected)))
    if levers:
        out.print(table(Sheet("Levers", ("lever", "unit", "detail"), ("from", "to"), levers)))
    else:
        out.print("no lever: nothing of this device can be set")
    for calibration in calibrations:
        for sheet in calibrate.sheets(calibration):
            out.print(table(sheet))


async def _device(operator: Operator, name: str) -> tuple[DeviceSummary, tuple[Calibration, ...]]:
    found = await operator.device(name)
    return found, await operator.calibrations(name) if found.capabilities else ()


def gpu(able: Capabilities) -> str:
    """Its GPU, its memory and its compute capability, as far as the driver tells."""
    if able.gpu_model is None:
        return "none"
    memory = [] if able.gpu_memory_bytes is None else [cells.size(able.gpu_memory_bytes)]
    computes = [] if able.compute_capability is None else [f"compute capability {able.compute_capability}"]
    return ", ".join([able.gpu_model, *memory, *computes])


devices_app.command(name="drain")(device_care.drain)
devices_app.command(name="revoke")(device_care.revoke)
devices_app.command(name="rename")(device_care.rename)
