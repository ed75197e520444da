"""Smart plugs: everything that the wall sees, about once a second, by HTTP.

A thread per plug asks, with a second's patience; who meters gets the last answer with the time it was made,
and an answer that has grown old is a failure and never carried on. A plug gives two sources. Its power,
integrated, is the wall's energy. Its counter moves in steps of joules to kilojoules and is right over
ten minutes and more, so it is shown beside the power as a rail and never added to it.
"""

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from edge_agent.energy.counter import RAIL, Raw, Rejected, SourceInfo
from edge_agent.energy.plug_answers import MODELS, Answer, Model, answer
from edge_agent.energy.reading import Clock, SourceFailed
from fleet.domain import Quality
from fleet.errors import BadRequest

PATIENCE_S = 1.0
INTERVAL_S = 1.0
STALE_S = 3.0
LONGEST_ANSWER_BYTES = 65536

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class PlugAddress:
    """One plug as it is configured: `shelly2:host`, `shelly1:host:port`, `tasmota:host`."""

    model: Model
    host: str

    @classmethod
    def parse(cls, plug: str) -> Self:
        """BadRequest when `plug` is not model:host or model:host:port."""
        name, _, host = plug.strip().partition(":")
        at, _, port = host.partition(":")
        if name not in MODELS or not at or "/" in host or (":" in host and not port.isdecimal()):
            known = ", ".join(MODELS)
            raise BadRequest(f"plug {plug!r}: not model:host or model:host:port with a model of {known}")
        return cls(MODELS[name], host)


def ask(address: PlugAddress, patience_s: float = PATIENCE_S) -> Answer:
    """What the plug says now; SourceFailed with timeout, unreachable, unauthorised, http or garbled."""
    failure: SourceFailed | None = None
    for path in address.model.paths:
        try:
            with _OPENER.open(f"http://{address.host}{path}", timeout=patience_s) as response:
                body = response.read(LONGEST_ANSWER_BYTES)
            return answer(address.model, body)
        except urllib.error.HTTPError as error:
            reason = "unauthorised" if error.code in (401, 403) else "http"
            failure = SourceFailed(reason, f"{address.host} answers {error.code} {error.reason}")
        except TimeoutError:
            raise SourceFailed("timeout", f"{address.host} is silent for {patience_s:g} s") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise SourceFailed("timeout", f"{address.host} is silent for {patience_s:g} s") from None
            raise SourceFailed("unreachable", f"{address.host}: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceFailed("unreachable", f"{address.host}: {error}") from None
        except SourceFailed as error:
            failure = error
    assert failure is not None  # every model has a path
    raise failure


class PlugPoller:
    """Asks one plug once a second from a thread of its own, and keeps the last answer."""

    def __init__(
        self, address: PlugAddress, clock: Clock = time.monotonic_ns, interval_s: float = INTERVAL_S
    ) -> None:
        self.address = address
        self.clock = clock
        self._interval_s = interval_s
        self._last: tuple[Answer, int] | None = None
        self._failure = SourceFailed("stale", f"{address.host} has not been asked yet")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def poll(self) -> None:
        """Asks once. The time of an answer is the middle of the asking; SourceFailed when there is none."""
        began_ns = self.clock()
        try:
            said = ask(self.address)
        except SourceFailed as error:
            self._failure = error
            raise
        self._last = said, (began_ns + self.clock()) // 2

    def start(self) -> None:
        """Goes on asking until `stop`."""
        self._thread = threading.Thread(target=self._run, name=f"plug {self.address.host}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; what is being asked is waited for."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def last(self) -> tuple[Answer, int]:
        """The last answer and when it was; SourceFailed("stale") when it is older than `STALE_S`."""
        if self._last is None or self.clock() - self._last[1] > STALE_S * 1e9:
            raise SourceFailed("stale", f"no answer for {STALE_S:g} s; the last try: {self._failure}")
        return self._last

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.poll()
            except SourceFailed:
                continue


class PlugPower:
    """Watts at the wall, as of the last answer."""

    def __init__(self, poller: PlugPoller) -> None:
        self._poller = poller
        address = poller.address
        self.info = SourceInfo(
            id=f"plug:{address.host}",
            kind="plug",
            component="wall",
            scope="wall",
            quality=Quality.MEASURED,
            min_window_s=10.0,
            detail=f"{address.model.name} at {address.host}, power once a second",
            max_gap_s=STALE_S,
        )

    def read(self) -> Raw:
        """Watts and when the plug said so; SourceFailed("stale")."""
        said, at_ns = self._poller.last()
        return Raw(said.watts, at_ns)


class PlugCounter:
    """The plug's own counter, for runs of ten minutes and more."""

    def __init__(self, poller: PlugPoller) -> None:
        self._poller = poller
        address = poller.address
        self.info = SourceInfo(
            id=f"plug:{address.host}/counter",
            kind="plug",
            component=RAIL,
            scope="wall",
            quality=Quality.MEASURED,
            min_window_s=600.0,
            detail=f"{address.model.name} at {address.host}, its own counter",
            unit_j=address.model.unit_j,
            max_gap_s=60.0,
            rail="counter",
        )

    def read(self) -> Raw:
        """Joules on the plug's counter and when it said so; SourceFailed("stale")."""
        said, at_ns = self._poller.last()
        return Raw(said.joules, at_ns)


def find(
    plugs: Sequence[str], clock: Clock = time.monotonic_ns
) -> tuple[list[PlugPower | PlugCounter], list[PlugPoller], list[Rejected]]:
    """Two sources per plug that answers, their pollers (started), and the plugs that do not."""
    found: list[PlugPower | PlugCounter] = []
    pollers, rejected = [], []
    for address in [PlugAddress.parse(plug) for plug in plugs]:
        poller = PlugPoller(address, clock)
        try:
            poller.poll()
        except SourceFailed as error:
            fix = (
                "Switch off the plug's password, or let nobody else reach it"
                if error.reason == "unauthorised"
                else ""
            )
            rejected.append(Rejected(f"plug:{address.host}", str(error), fix))
            continue
        poller.start()
        pollers.append(poller)
        found += [PlugPower(poller), PlugCounter(poller)]
    return found, pollers, rejected
