"""The testbed of docker-compose.yml, and what can be done to its containers and to their links.

A link is hurt from within the agent's network namespace, by a container that undoes what it did when it ends. The
log is asked of a process beside the coordinator, in the coordinator's container.
"""

import json
import sqlite3
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaos.bed import attached, begin
from chaos.faults import Fault, Hand
from docker import DockerClient
from docker.errors import APIError

from fleet.experiment import Experiment

LOG = "file:/var/lib/wattbed/state/log.sqlite?mode=ro"
COUNT = f"""
import json, sqlite3, sys
query = "SELECT kind, count(*) FROM events WHERE run = ? GROUP BY kind"
print(json.dumps(dict(sqlite3.connect({LOG!r}, uri=True).execute(query, sys.argv[1:]))))
"""
COPY = f"""
import sqlite3, sys
copy = sqlite3.connect(":memory:")
sqlite3.connect({LOG!r}, uri=True).backup(copy)
sys.stdout.buffer.write(copy.serialize())
"""


class Containers:
    """The first device of each of `kinds` in the compose project `project`; `folder` is for copies of the log.

    `unshaped` are the kinds whose container was started anew: what emulated its link is gone.
    """

    look_every_s = 0.5

    def __init__(
        self, engine: DockerClient, project: str, address: str, http: str, kinds: tuple[str, ...], folder: Path
    ) -> None:
        self._engine = engine
        self._project = project
        self.address, self.http = address, http
        self.names = tuple(f"{kind}-1" for kind in kinds)
        self.unshaped: set[str] = set()
        self._folder = folder

    def container(self, name: str) -> Any:
        """Of a device, or of a service."""
        service = kind(name) if name in self.names else name
        labels = [f"com.docker.compose.project={self._project}", f"com.docker.compose.service={service}"]
        found = self._engine.containers.list(all=True, filters={"label": labels})
        return min(found, key=lambda c: int(c.labels["com.docker.compose.container-number"]))

    def restart(self, name: str, after_s: float) -> None:
        """SIGKILL, and a new process in the same container after a while."""
        container = self.container(name)
        container.kill("SIGKILL")
        time.sleep(after_s)
        container.start()
        if name in self.names:
            self.unshaped.add(kind(name))

    def within_link(self, name: str, rules: tuple[str, ...], seconds: float) -> None:
        """`rules` of iptables, each with its chain, in the network namespace of a device, for so long."""
        agent = self.container(name)
        there, away = ("; ".join(f"iptables -w -t mangle -{do} {rule}" for rule in rules) for do in "AD")
        script = f"set -e; trap '{away}' EXIT; {there}; sleep {seconds}"
        self._engine.containers.run(
            agent.image.id,
            ["-c", script],
            entrypoint="sh",
            network_mode=f"container:{agent.id}",
            user="root",
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN"],
            # The image says it is that of a service of the project.
            labels={"com.docker.compose.service": "chaos"},
            remove=True,
        )

    def happened(self, run: str) -> Counter[str]:
        with suppress(APIError):  # the container is not running
            code, said = self.container("coordinator").exec_run(["python3", "-c", COUNT, run])
            if code == 0:
                return Counter(json.loads(said))
        return Counter()

    def log_file(self) -> Path:
        code, (content, said) = self.container("coordinator").exec_run(["python3", "-c", COPY], demux=True)
        if code:
            raise AssertionError(f"the log cannot be copied: {said.decode()}")
        copy = self._folder / "log.sqlite"
        copy.write_bytes(content)
        with sqlite3.connect(copy) as db:  # else whoever reads it needs to write beside it
            db.execute("PRAGMA journal_mode = DELETE")
        return copy

    def said(self, name: str) -> str:
        return str(self.container(name).logs().decode(errors="replace"))

    async def attached(self) -> None:
        await attached(self.address, self.names)

    async def begin(self, experiment: Experiment) -> str:
        return await begin(self.address, experiment)

    def mend(self) -> None:
        """Lets go on what a fault that did not come to its end has left frozen or killed."""
        for container in self._all():
            if container.status == "paused":
                container.unpause()
            container.start()

    def healthy(self) -> bool:
        """Whether every container is well, by its own check."""
        return all(c.attrs["State"]["Health"]["Status"] == "healthy" for c in self._all())

    def _all(self) -> list[Any]:
        return [self.container(name) for name in ("coordinator", "relay", *self.names)]


def kind(device: str) -> str:
    """The service of a device."""
    return device.rpartition("-")[0]


async def coordinator_killed(hand: Hand) -> None:
    """SIGKILL of the coordinator, and a new one at once or a little later."""
    hand.bed.restart("coordinator", hand.dice.uniform(0.0, 0.5))


async def agent_killed(hand: Hand) -> None:
    """SIGKILL of an agent, and a new one."""
    hand.bed.restart(hand.agent(), hand.dice.uniform(0.0, 0.5))


async def agent_frozen(hand: Hand) -> None:
    """The freezer holds an agent: it stops reading, and its socket stays open."""
    await _frozen(hand, hand.agent(), 5.0)


async def links_frozen(hand: Hand) -> None:
    """What passes through the relay stands still for a while."""
    await _frozen(hand, "relay", 2.0)


async def links_reset(hand: Hand) -> None:
    """SIGKILL of the relay: every connection that goes through it is reset."""
    hand.bed.restart("relay", 0.0)


async def partition(hand: Hand) -> None:
    """Nothing passes between an agent and the coordinator, and no connection ends."""
    rules = ("INPUT ! -i lo -j DROP", "OUTPUT ! -o lo -j DROP")
    hand.bed.within_link(hand.agent(), rules, hand.dice.uniform(0.5, 7.0))


async def loss(hand: Hand) -> None:
    """A packet in five that comes to an agent is lost."""
    rules = ("INPUT ! -i lo -m statistic --mode random --probability 0.2 -j DROP",)
    hand.bed.within_link(hand.agent(), rules, hand.dice.uniform(0.5, 2.0))


async def _frozen(hand: Hand, name: str, most_s: float) -> None:
    container = hand.bed.container(name)
    container.pause()
    await hand.hold(0.5, most_s)
    container.unpause()


FAULTS: dict[str, Fault] = {
    "coordinator: SIGKILL": coordinator_killed,
    "agent: SIGKILL": agent_killed,
    "agent: frozen for up to 5 s": agent_frozen,
    "link: partition for up to 7 s": partition,
    "link: loss": loss,
    "links: frozen for up to 2 s": links_frozen,
    "links: reset": links_reset,
}
