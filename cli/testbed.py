"""The commands that start and end a testbed: up, down, logs, scale."""

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from cli import last_up, local, options
from cli.compose import GRPC_TARGET, HTTP_TARGET, Compose, project_name
from cli.engine import Client, connect, engine_address, is_here
from cli.last_up import LastUp
from cli.options import Data, Json, State, console, say_json
from fleet.errors import BadRequest, WattbedError

DEFAULT_PROJECT = "wattbed"
ONLY_COMPOSE = ("project", "file", "without", "build", "timeout")
ONLY_LOCAL = ("data", "tls")

Project = Annotated[
    str | None,
    typer.Option("--project", metavar="NAME", help="The compose project; without it the file's own name."),
]


def up(
    context: typer.Context,
    as_processes: Annotated[
        bool, typer.Option("--local", help="As processes on loopback, not in containers.")
    ] = False,
    agents: Annotated[
        list[str] | None,
        typer.Option("--agents", metavar="N|KIND=N", help="N agents in all, or N of a kind (several times)."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Only this device kind; given several times, the agents take turns."),
    ] = None,
    build: Annotated[
        bool | None,
        typer.Option("--build/--no-build", help="Build images anew, or none; without it those missing."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="SERVICE", help="Leave a service out.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file", metavar="FILE", help="An overlay of the compose file.", dir_okay=False, exists=True
        ),
    ] = None,
    project: Project = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="For gRPC; 0 picks a free one. Standard: 50551."),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option("--http-port", min=0, max=65535, help="For /metrics; 0 picks a free one. Standard: 9464."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="S", min=1, help="How long to wait. Standard: 300 s.")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="With certificates also on loopback, so that devices can join.")
    ] = False,
    state: State = options.DEFAULT_STATE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Start a testbed in containers, or as processes with --local, and wait until all of it is ready."""
    _refuse_other_mode(context, ONLY_COMPOSE if as_processes else ONLY_LOCAL, as_processes)
    if as_processes:
        _up_local(tuple(agents or ()), tuple(kind or ()), port, http_port, state, data, as_json, tls=tls)
        return
    from cli import compose_up, starting

    last = last_up.load(state)
    compose = last_up.compose(last, os.environ, project, tuple(file or ()))
    chosen = _chosen_ports(compose, {GRPC_TARGET: port, HTTP_TARGET: http_port})
    compose = replace(compose, environment={**compose.environment, **chosen})
    wish = compose_up.Wish(
        tuple(agents or ()), tuple(kind or ()), tuple(without or ()), build, timeout or compose_up.READY_TIMEOUT_S
    )
    client = connect()
    here = is_here(engine_address(os.environ))
    with starting.display(console(stderr=True), silent=as_json) as shown:
        found = compose_up.up(
            client,
            compose,
            wish,
            shown,
            here=here,
            on_start=lambda stack: last_up.save(state, last_up.note(compose, stack)),
        )
    if as_json:
        say_json(asdict(found))
        return
    out = console()
    if found.mended:
        out.print(f"mended: {'; '.join(found.mended)}", soft_wrap=True)
    parts = (f"{name} x{n}" if n > 1 else name for name, n in found.services.items())
    out.print(f"{', '.join(parts)}: ready", soft_wrap=True)
    for what, where in found.addresses.items():
        words = f" (user admin, password in {', '.join(found.secrets)})" if found.secrets else ""
        out.print(f"{what:<12} {where}{words if what == 'grafana' else ''}")
    out.print("`wattbed run FILE` starts a run, `wattbed logs` shows what they say, `wattbed down` ends it")


def _up_local(
    agents: tuple[str, ...],
    kind: tuple[str, ...],
    port: int | None,
    http_port: int | None,
    state: Path,
    data: Path | None,
    as_json: bool,
    *,
    tls: bool,
) -> None:
    from cli import counts
    from fleet.kinds import kind as kind_named
    from fleet.kinds import kinds

    turns = [kind_named(k).name for k in kind or kinds()]
    asked = counts.asked(agents or ("4",), turns, {})
    names = counts.in_turn({kind_named(k).name: n for k, n in asked.items()})
    if not names:
        raise BadRequest("a testbed without agents trains nothing; ask for at least one with --agents")
    testbed, started = local.up(
        state, agents=len(names), kinds=names, data=data, port=port, http_port=http_port, tls=tls
    )
    if as_json:
        say_json(asdict(testbed) | {"started": started})
        return
    out = console()
    out.print(f"started {', '.join(started)}" if started else "everything runs already")
    out.print(f"coordinator at {testbed.address}, metrics at http://{testbed.http_address}/metrics")
    out.print(f"logs in {state / 'logs'}; `wattbed down` ends it")


def _refuse_other_mode(context: typer.Context, names: tuple[str, ...], as_processes: bool) -> None:
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            other = "is for the compose testbed, not for --local" if as_processes else "needs --local"
            raise BadRequest(f"{option} {other}")


def _chosen_ports(compose: Compose, asked: dict[int, int | None]) -> dict[str, str]:
    chosen = {}
    for target, port in asked.items():
        if port is not None:
            variable, _ = compose.variable(target)
            if not variable:
                raise BadRequest(f"the compose file has no variable for port {target}")
            chosen[variable] = str(local.claim(local.LOOPBACK, 0) if port == 0 else port)
    return chosen


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Delete runs, models and volumes too.")] = False,
    project: Project = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """End what `up` started, whole or half: processes, or containers and their network."""
    from cli.compose_down import Ended
    from cli.compose_down import down as down_compose

    last = last_up.load(state)
    local_here = local.load(state) is not None
    processes = local.down(state, purge=purge)
    ended = Ended()
    if project or last or not local_here:
        try:
            client = connect()
        except WattbedError as error:
            if project or last:
                raise
            console(stderr=True).print(f"only processes were looked for: {error}")
        else:
            ended = down_compose(client, _project_to_end(client, project, last), purge=purge)
            last_up.forget(state)
    names = (*processes, *ended.containers)
    if as_json:
        say_json({"ended": names, "networks": ended.networks, "volumes": ended.volumes, "purged": purge})
        return
    out = console()
    out.print(f"ended {', '.join(names)}" if names else "nothing was running", soft_wrap=True)
    if ended.networks or ended.volumes:
        out.print(f"removed {', '.join((*ended.networks, *ended.volumes))}", soft_wrap=True)


def _project_to_end(client: Client, project: str | None, last: LastUp | None) -> str:
    """The project that is named or was noted; the file's own, but only if it was started from this file."""
    from cli import parts

    if project or last:
        return project or (last.project if last else DEFAULT_PROJECT)
    try:
        compose = last_up.compose(None, os.environ)
    except BadRequest:
        return DEFAULT_PROJECT
    name = project_name(compose)
    parts.refuse_foreign(parts.parts(client, name), name, compose.files[0].parent)
    return name


def logs(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="SERVICE", help="Services or containers; all without any.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="The last N lines of each.")
    ] = None,
    project: Project = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show what the parts of a testbed say."""
    from cli import logs as lines_of

    last, here = last_up.load(state), local.load(state)
    lines: Iterator[lines_of.Line]
    if here is not None and project is None and (here.alive or last is None):
        lines = lines_of.of_processes(here.processes, services or (), tail, follow=follow)
    else:
        client = connect()
        name = project or (last.project if last else project_name(last_up.compose(last, os.environ, project)))
        lines = lines_of.of_project(client, name, services or (), tail, follow=follow)
    out = console()
    try:
        for line in lines:
            if as_json:
                say_json_line(asdict(line))
            else:
                out.print(f"{line.part:<24} {line.text}", soft_wrap=True)
    except KeyboardInterrupt:
        raise typer.Exit(options.INTERRUPTED) from None


def say_json_line(value: dict[str, str]) -> None:
    """Prints one JSON object on one line."""
    import json

    typer.echo(json.dumps(value, ensure_ascii=False))


def scale(
    counts: Annotated[list[str], typer.Argument(metavar="KIND=N", help="How many agents of a kind.")],
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", min=1, help="How long to wait.")] = 300.0,
    project: Project = None,
    state: State = options.DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Bring a kind of a running compose testbed to N agents, each behind its emulated link."""
    from cli import compose_up, starting

    compose = last_up.compose(last_up.load(state), os.environ, project)
    client = connect()
    with starting.display(console(stderr=True), silent=as_json) as shown:
        now, shaped = compose_up.scale(client, compose, counts, shown, timeout)
    if as_json:
        say_json({"agents": now, "shapers": shaped})
        return
    console().print(", ".join(f"{n} x {name}" for name, n in now.items()) + ": ready")
