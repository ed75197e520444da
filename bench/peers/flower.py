"""The same bytes through Flower: its deployment engine on loopback, its defaults, its newest release.

One flower-superlink and N flower-supernode processes, `flwr run` of `flower_app` (a ServerApp with
FedAvg, a ClientApp that returns what it was sent), app processes as Flower starts them by default.
Start-up of the federation, the upload of the app and the wait for nodes are not counted.

Flower lives in a virtual environment of its own, made on first use, because its pins conflict with
wattbed's. It is given loopback addresses only: telemetry, update checks and the installation of app
dependencies at run time are off, none of which is on the path of a round.
"""

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from processes import Processes, free_port, listening, peak_bytes
from provenance import ROOT

HOME = ROOT / ".venv-flower"
APP = Path(__file__).parent / "flower_app"


@dataclass(frozen=True)
class FlowerRun:
    """What one run gave: seconds of each round, peaks of the two server processes, all replies in."""

    version: str
    model_bytes: int
    agents: int
    round_s: list[float]
    superlink_peak_bytes: int
    serverapp_peak_bytes: int


def install() -> str:
    """Installs the newest flwr unless that has been done; returns its version."""
    python = HOME / "bin" / "python"
    if not (HOME / "bin" / "flower-superlink").exists():
        print(f"installing flwr in {HOME.name}", file=sys.stderr)
        venv.create(HOME, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "flwr", "numpy"], check=True)
    ask = "from importlib.metadata import version; print(version('flwr'))"
    return subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


def measure(
    model_bytes: int, tensors: int, agents: int, rounds: int, seed: int, folder: Path, timeout_s: float = 900.0
) -> FlowerRun:
    """Runs `rounds` rounds of `agents` clients; logs and state go to the empty `folder`."""
    version = install()
    link = f"127.0.0.1:{free_port()}"
    result = folder / "rounds.json"
    with Processes(folder) as processes:
        superlink = processes.start(
            "superlink",
            [
                str(HOME / "bin" / "flower-superlink"),
                "--insecure",
                "--disable-runtime-dependency-installation",
                *("--port", link.split(":")[1]),
            ],
            _environment(folder / "superlink"),
        )
        processes.wait_for("SuperLink", lambda: listening(link), 60)
        for i in range(agents):
            processes.start(
                f"supernode-{i}",
                [
                    str(HOME / "bin" / "flower-supernode"),
                    "--insecure",
                    *("--superlink", link),
                    *("--port", str(free_port())),
                ],
                _environment(folder / f"supernode-{i}"),
            )
        _run_app(
            folder,
            link,
            {
                "model-bytes": model_bytes,
                "tensors": tensors,
                "num-server-rounds": rounds,
                "nodes": agents,
                "seed": seed,
                "result-file": f'"{result}"',
            },
        )
        processes.wait_for("result of the ServerApp", result.exists, timeout_s)
        superlink_peak = peak_bytes(superlink)
    times = json.loads(result.read_text())
    if times["replies"] != [agents] * rounds:
        raise RuntimeError(f"Flower got {times['replies']} replies where {agents} each were due; see {folder}")
    opened, closed = times["opened_at_s"], times["closed_at_s"]
    return FlowerRun(
        version=version,
        model_bytes=model_bytes,
        agents=agents,
        round_s=[end - start for start, end in zip(opened, closed, strict=True)],
        superlink_peak_bytes=superlink_peak,
        serverapp_peak_bytes=times["peak_bytes"],
    )


def _environment(home: Path) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    return {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }


def _run_app(folder: Path, link: str, config: dict[str, object]) -> None:
    home = folder / "cli"
    environment = os.environ | _environment(home)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{link}"\ninsecure = true\n'
    )
    overrides = " ".join(f"{key}={value}" for key, value in config.items())
    done = subprocess.run(
        [HOME / "bin" / "flwr", "run", APP, "bench", "--run-config", overrides],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"flwr run ended with {done.returncode}:\n{done.stdout}{done.stderr}")
