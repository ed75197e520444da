"""What this host can measure; its raw readings in a file; and what such a file comes to.

python -m edge_agent.energy probe [--json]
python -m edge_agent.energy record FILE --seconds 60
python -m edge_agent.energy replay FILE [--json]
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_agent.energy import record, replay, trace
from edge_agent.energy.counter import ReadFailed, SourceInfo
from edge_agent.energy.discover import Found, discover
from edge_agent.energy.nvml import open_nvml
from edge_agent.energy.unwrap import CounterTracker
from fleet.errors import BadRequest, WattbedError
from fleet.kinds import kind

HIGHEST_HERTZ = 100.0


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The exit code: 0, 1 for what failed, 2 for wrong use."""
    options = _parser(environ).parse_args(arguments)
    try:
        if options.command == "probe":
            _probe(options)
        elif options.command == "record":
            _record(options)
        else:
            _replay(options)
    except BadRequest as error:
        print(f"edge_agent.energy: {error}", file=sys.stderr)
        return 2
    except (WattbedError, OSError) as error:
        print(f"edge_agent.energy: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """The variables of an agent are the defaults: where the host's trees are, its plugs, its kind."""
    host = argparse.ArgumentParser(add_help=False)
    for option, variable, usual in (("--sysfs", "HOST_SYS", "/sys"), ("--procfs", "HOST_PROC", "/proc")):
        default = Path(environ.get(f"WATTBED_{variable}") or environ.get(variable) or usual)
        host.add_argument(
            option, type=Path, metavar="DIR", default=default, help=f"else WATTBED_{variable}, {usual}"
        )
    plugs = (environ.get("WATTBED_PLUGS") or "").replace(",", " ").split()
    host.add_argument("--plug", action="append", default=plugs, dest="plugs", metavar="MODEL:HOST")
    kind_help = "also the energy model of this kind of device"
    host.add_argument("--kind", default=environ.get("WATTBED_KIND") or None, help=kind_help)
    parser = argparse.ArgumentParser(prog="python -m edge_agent.energy", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    probe = commands.add_parser("probe", parents=[host], help="what can be measured here, and what not and why")
    probe.add_argument("--json", action="store_true")
    recording = commands.add_parser("record", parents=[host], help="write raw readings to FILE")
    recording.add_argument("file", type=Path)
    recording.add_argument("--seconds", type=float, default=60.0)
    recording.add_argument("--hz", type=float, default=10.0)
    recording.add_argument("--note", default="", help="what was running; goes into the trace")
    replaying = commands.add_parser("replay", help="what the readings in FILE come to")
    replaying.add_argument("file", type=Path)
    replaying.add_argument("--json", action="store_true")
    return parser


def _found(options: argparse.Namespace) -> Found:
    device_kind = None if options.kind is None else kind(options.kind)
    return discover(options.sysfs, options.procfs, open_nvml(), options.plugs, device_kind)


def _probe(options: argparse.Namespace) -> None:
    found = _found(options)
    shown = probed(found)
    found.close()
    if options.json:
        print(json.dumps(shown, indent=1))
        return
    for source in shown["sources"]:
        total = "" if source["joules"] is None else f", {source['joules']:.6g} J"
        print(f"{source['id']}: {source['component']}, scope {source['scope']}, {source['quality']}{total}")
        print(f"    {source['detail']}")
    for rejected in shown["rejected"]:
        print(f"{rejected['name']}: not usable: {rejected['reason']}")
        for line in rejected["fix"].splitlines():
            print(f"    {line}")


def probed(found: Found) -> dict[str, list[dict[str, Any]]]:
    """Sources with what their counters stand at (None: it is a sensor), and rejected ones with reason and fix."""
    sources = [
        {
            "id": tracker.info.id,
            "kind": tracker.info.kind,
            "name": name(tracker.info),
            "component": tracker.info.component,
            "scope": tracker.info.scope,
            "quality": str(tracker.info.quality),
            "joules": _joules(tracker) if isinstance(tracker, CounterTracker) else None,
            "detail": tracker.info.detail,
        }
        for tracker in found.trackers
    ]
    rejected = [{"name": one.id, "reason": one.reason, "fix": one.fix} for one in found.rejected]
    return {"sources": sources, "rejected": rejected}


def name(info: SourceInfo) -> str:
    """The last part of a source's id: what the kernel or the driver calls it."""
    return info.id.partition(":")[2].rpartition("/")[2] or info.id


def _joules(tracker: CounterTracker) -> float | None:
    try:
        return tracker.source.read().value
    except (ReadFailed, OSError):
        return None


def _record(options: argparse.Namespace) -> None:
    if not (math.isfinite(options.seconds) and options.seconds > 0):
        raise BadRequest(f"--seconds {options.seconds:g}: not above 0")
    if not 0 < options.hz <= HIGHEST_HERTZ:
        raise BadRequest(f"--hz {options.hz:g}: not above 0 and at most {HIGHEST_HERTZ:g}")
    found = _found(options)
    if not found.trackers:
        reasons = "; ".join(f"{one.id}: {one.reason}" for one in found.rejected)
        raise WattbedError(f"nothing here can be measured: {reasons}")
    count = record.record_to(options.file, found, options.seconds, options.hz, options.note)
    found.close()
    print(f"{options.file}: {count} readings of {len(found.trackers)} sources")


def _replay(options: argparse.Namespace) -> None:
    replayed = replay.replay(trace.read(options.file))
    if options.json:
        print(json.dumps({"sources": {id: asdict(one) for id, one in replayed.items()}}, indent=1))
        return
    for id, one in replayed.items():
        joules = "no joules" if one.joules is None else f"{one.joules:.6g} J"
        errors = ", ".join(f"{count} {reason}" for reason, count in one.errors.items()) or "none"
        print(
            f"{id}: {joules} in {one.seconds:.3f} s from {one.readings} readings; "
            f"wraps {one.wraps}, resets {one.resets}, gaps {one.gaps}, errors {errors}"
        )


if __name__ == "__main__":
    sys.exit(main())
