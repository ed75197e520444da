"""A testbed of real processes on loopback, and the means to hurt it."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from cli.client import Operator
from cli.local import Running, Spec, end, start
from fleet.domain import LoggedEvent
from fleet.experiment import Experiment, parse

CREDIT_S = 60.0


class Testbed:
    """One coordinator and some agents. `address` is where agents and operators reach it."""

    __test__ = False

    def __init__(self, folder: Path, facts: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.address, self.http = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.running: dict[str, Running] = {}
        self._facts = facts or {}

    def start_coordinator(self) -> None:
        state = str(self.folder / "coordinator")
        facts = {"WATTBED_LISTEN": self.address, "WATTBED_HTTP": self.http, "WATTBED_STATE": state}
        self.running["coordinator"] = start(self.folder, Spec("coordinator", "coordinator", facts | self._facts))

    def start_agent(self, name: str, address: str | None = None) -> None:
        facts = {
            "WATTBED_COORDINATOR": address or self.address,
            "WATTBED_DEVICE": name,
            "WATTBED_KIND": "mini-pc-n100",
            "WATTBED_STATE": str(self.folder / name),
            "WATTBED_THREADS": "1",
        }
        self.running[name] = start(self.folder, Spec(name, "edge_agent", facts | self._facts))

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self.running.pop(name).process()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)

    @staticmethod
    def noop(name: str, **settings) -> Experiment:
        return noop(name, **settings)

    def stop(self) -> None:
        end(list(self.running.values()), grace_s=5)

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    async def attached(self, *names: str) -> None:
        """Waits until the coordinator answers and exactly these devices, at least, are attached."""
        async with Operator(self.address) as operator:
            deadline = time.monotonic() + CREDIT_S
            while time.monotonic() < deadline:
                if await operator.healthy(1.0):
                    there = {d.device for d in await operator.devices() if d.attached}
                    if set(names) <= there:
                        return
                await asyncio.sleep(0.05)
        raise TimeoutError(f"{names} did not attach; {self.log('coordinator')[-2000:]}")

    async def begin(self, experiment: Experiment) -> str:
        async with Operator(self.address) as operator:
            return await operator.start(experiment, key=f"{experiment.name}/{time.monotonic_ns()}")

    async def until(self, run: str, kind: str, contains: str = "", after_seq: int = 0) -> LoggedEvent:
        """The first event of this kind, told the moment it is in the log."""
        async with Operator(self.address) as operator:
            async with asyncio.timeout(CREDIT_S):
                async for message in operator.watch(run, after_seq):
                    if isinstance(message, LoggedEvent) and message.kind == kind and contains in message.json:
                        return message
        raise AssertionError(f"{run} ended without {kind} {contains}")

    async def finished(self, run: str):
        """The report of a run that has ended, and the kinds of all its events."""
        await self.until(run, "RunEnded")
        async with Operator(self.address) as operator:
            return await operator.report(run)

    async def story(self, run: str) -> list[LoggedEvent]:
        async with Operator(self.address) as operator:
            return [m async for m in operator.watch(run) if isinstance(m, LoggedEvent)]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def noop(name: str, model_bytes: int, devices: int, rounds: int = 3, **settings) -> Experiment:
    """Moves bytes: devices send at 4, 8, 16 and 32 bits in turn, with error feedback and FedAdam."""
    bits = settings.pop("bits_up", [4, 8, 16, 32])
    round = {"mode": "sync", "min_devices": devices, "devices": devices, "quorum": devices, "deadline_s": 60}
    return parse(
        Experiment,
        {
            "name": name,
            "seed": 11,
            "rounds": rounds,
            "shards": devices,
            "workload": {"name": "noop", "options": {"model_bytes": model_bytes, "tensors": 5, "step_s": settings.pop("step_s", 0.0)}},
            "policy": {
                "name": "fixed",
                "options": {"bits_up": bits, "bits_down": settings.pop("bits_down", 8), "precision": "fp32",
                            "width": 1.0, "train_steps": settings.pop("train_steps", 1)},
            },
            "round": round | settings,
            "server": {"optimizer": "fedadam", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 0.001},
            "quantizer": {"block_size": 512, "error_feedback": True},
            "evaluate": {"every": 1},
        },
        where=name,
    )  # fmt: skip


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    """A coordinator with three agents, shared by the tests of a file."""
    bed = Testbed(tmp_path_factory.mktemp("testbed"))
    bed.start_coordinator()
    for name in ("agent-1", "agent-2", "agent-3"):
        bed.start_agent(name)
    yield bed
    bed.stop()


@pytest.fixture
def lone(tmp_path):
    """A testbed that nothing runs in yet, for one test."""
    bed = Testbed(tmp_path)
    yield bed
    bed.stop()
