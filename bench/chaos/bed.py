"""A coordinator and agents as real processes, each agent behind a link of its own, and the means to hurt them."""

import asyncio
import os
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from chaos.relay import Relay
from chaos.witness import counted

from cli.client import Operator
from cli.local import Running, Spec, end, start
from fleet.errors import WattbedError
from fleet.experiment import Experiment, parse

PATIENCE_S = 60.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Bed:
    """`state` is the coordinator's folder, where a test may have mounted a small disk."""

    look_every_s = 0.05

    def __init__(self, folder: Path, agents: int, seed: int, state: Path | None = None) -> None:
        self.folder = folder
        self.state = state or folder / "coordinator"
        self.names = tuple(f"agent-{i + 1}" for i in range(agents))
        self.address, self.http = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.relay = Relay()
        self.ways = {n: self.relay.link(n, self.address, seed + i) for i, n in enumerate(self.names)}
        self.running: dict[str, Running] = {}

    def log_file(self) -> Path:
        return self.state / "log.sqlite"

    def happened(self, run: str) -> Counter[str]:
        return counted(self.log_file(), run)

    def start_all(self) -> None:
        self.start_coordinator()
        for name in self.names:
            self.start_agent(name)

    def start_coordinator(self, facts: Mapping[str, str] | None = None) -> None:
        listen = {"WATTBED_LISTEN": self.address, "WATTBED_HTTP": self.http, "WATTBED_STATE": str(self.state)}
        self.running["coordinator"] = start(
            self.folder, Spec("coordinator", "coordinator", listen | dict(facts or {}))
        )

    def start_agent(self, name: str) -> None:
        facts = {
            "WATTBED_COORDINATOR": self.ways[name],
            "WATTBED_DEVICE": name,
            "WATTBED_KIND": "mini-pc-n100",
            "WATTBED_STATE": str(self.folder / name),
            "WATTBED_THREADS": "1",
        }
        self.running[name] = start(self.folder, Spec(name, "edge_agent", facts))

    def process(self, name: str) -> psutil.Process:
        found = self.running[name].process()
        if found is None:
            raise AssertionError(f"{name} is gone; {self.said(name)[-2000:]}")
        return found

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self.process(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        del self.running[name]

    def start(self, name: str) -> None:
        if name == "coordinator":
            self.start_coordinator()
        else:
            self.start_agent(name)

    def terminate(self, name: str, within_s: float) -> tuple[int, float]:
        """SIGTERM; the exit code and the seconds it took. TimeoutExpired after `within_s`."""
        process, began_s = self.process(name), time.monotonic()
        process.terminate()
        code = process.wait(within_s)
        del self.running[name]
        return code, time.monotonic() - began_s

    def limit_files(self, name: str, most_bytes: int | None) -> None:
        """No file of the process may grow beyond `most_bytes`: to it, the disk is full. None: it is not."""
        unlimited = resource.RLIM_INFINITY
        soft = unlimited if most_bytes is None else most_bytes
        self.process(name).rlimit(psutil.RLIMIT_FSIZE, (soft, unlimited))

    def said(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        for running in self.running.values():
            if process := running.process():
                process.resume()
        end(list(self.running.values()), grace_s=5)
        self.relay.close()

    async def attached(self) -> None:
        try:
            await attached(self.address, self.names)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.said('coordinator')[-3000:]}") from None

    async def begin(self, experiment: Experiment) -> str:
        return await begin(self.address, experiment)


async def attached(address: str, names: tuple[str, ...]) -> None:
    """Waits until every one of `names` is attached. TimeoutError says who is not."""
    deadline, there = time.monotonic() + PATIENCE_S, set[str]()
    while time.monotonic() < deadline:
        with suppress(WattbedError):
            async with Operator(address) as operator:
                there = {d.device for d in await operator.devices() if d.attached}
            if set(names) <= there:
                return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"after {PATIENCE_S:g} s {sorted(set(names) - there)} are not attached")


async def begin(address: str, experiment: Experiment) -> str:
    """Starts a run."""
    async with Operator(address) as operator:
        return await operator.start(experiment, key=f"{experiment.name}/{time.monotonic_ns()}")


def noop(name: str, devices: int, rounds: int, seed: int = 11, **changes: object) -> Experiment:
    """Small rounds whose models depend on every update: 4 to 32 bits, error feedback, FedAdam."""
    round = {"mode": "sync", "min_devices": devices, "devices": devices, "quorum": devices}
    steps = {"train_steps": changes.pop("train_steps", 2)}
    options = {
        "model_bytes": changes.pop("model_bytes", 80_000),
        "tensors": 5,
        "step_s": changes.pop("step_s", 0.02),
    }
    bits = {"bits_up": [4, 8, 16, 32], "bits_down": 8, "precision": "fp32", "width": 1.0}
    return parse(
        Experiment,
        {
            "name": name,
            "seed": seed,
            "rounds": rounds,
            "shards": devices,
            "workload": {"name": "noop", "options": options},
            "policy": {"name": "fixed", "options": bits | steps},
            "round": round | {"deadline_s": 300, "lost_after_s": 120} | changes,
            "server": {"optimizer": "fedadam", "lr": 0.01, "beta1": 0.9, "beta2": 0.99, "tau": 0.001},
            "quantizer": {"block_size": 512, "error_feedback": True},
            "evaluate": {"every": 10},
        },
        where=name,
    )
