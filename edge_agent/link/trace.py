"""What a link is like at a moment: constant, random walk, Rayleigh fading, or a CSV file.

A trace is a pure function of time: chance comes from a hash of the seed, the link's name and the step, so that any
moment can be asked for in any order. The kind's declared rates stay the ceiling of every trace.
"""

import math
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import NormalDist
from typing import Protocol

from fleet.errors import BadRequest
from fleet.kinds import Link


@dataclass(frozen=True)
class LinkState:
    """A link until `until_s`, later than the moment asked for. Delays are one way, `loss` is a probability."""

    rate_up_bps: float
    rate_down_bps: float
    delay_s: float
    jitter_s: float
    loss: float
    until_s: float = math.inf


class Trace(Protocol):
    """A link over time. Where `until_s` is infinite the rates are above 0."""

    def at(self, t_s: float) -> LinkState:
        """The link `t_s` seconds after the trace began."""
        ...


@dataclass(frozen=True)
class Constant:
    """The link as its kind declares it."""

    link: Link

    def at(self, t_s: float) -> LinkState:
        """The same at any time."""
        return _state(self.link, 1.0, 1.0, math.inf)


@dataclass
class RandomWalk:
    """Both rates times exp(x): x walks from 0 in steps of Normal(0, sigma), reflected at ln(low) and 0."""

    link: Link
    name: str
    sigma: float
    step_s: float = 1.0
    low: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self._walk = array("d", [0.0])

    def at(self, t_s: float) -> LinkState:
        """Work grows with the latest step asked for so far, once."""
        step, until_s = _step(t_s, self.step_s)
        normal, floor = NormalDist(0.0, self.sigma), math.log(self.low)
        while len(self._walk) <= step:
            x = self._walk[-1] + normal.inv_cdf(chance(self.seed, self.name, len(self._walk)))
            while not floor <= x <= 0:
                x = -x if x > 0 else 2 * floor - x
            self._walk.append(x)
        factor = math.exp(self._walk[step])
        return _state(self.link, factor, factor, until_s)


@dataclass(frozen=True)
class Rayleigh:
    """Shannon rate under path loss and block fading: B log2(1 + P h / (B N0)), h = Exp(1) distance^-exponent.

    The channel and its constants are those of Kim, Saad, Mozaffari, Debbah, "Green, Quantized Federated Learning
    over Wireless Networks" (arXiv 2207.09387). One fade serves both directions (the channel is reciprocal); the
    down-link has the power `power_down_watts`. A block lasts `coherence_s`: 0.423 over the Doppler frequency
    (Rappaport, Wireless Communications, 5.4), 53 ms for 1 m/s at 2.4 GHz.
    """

    link: Link
    name: str
    distance_m: float
    bandwidth_hz: float = 10e6
    power_watts: float = 0.1
    power_down_watts: float = 0.1
    noise_watts_per_hz: float = 4e-21
    exponent: float = 4.0
    coherence_s: float = 0.05
    seed: int = 0

    def at(self, t_s: float) -> LinkState:
        """Each block's fade is drawn from its number alone."""
        block, until_s = _step(t_s, self.coherence_s)
        gain = -math.log(chance(self.seed, self.name, block)) * self.distance_m**-self.exponent
        up, down = (self._rate_bps(p * gain) for p in (self.power_watts, self.power_down_watts))
        return _state(self.link, up / self.link.rate_up_bps, down / self.link.rate_down_bps, until_s)

    def _rate_bps(self, received_watts: float) -> float:
        noise_watts = self.bandwidth_hz * self.noise_watts_per_hz
        return self.bandwidth_hz * math.log2(1 + received_watts / noise_watts)


@dataclass(frozen=True)
class Recorded:
    """Rows of a CSV file: each holds from its time to the next one's, the last for ever."""

    times_s: tuple[float, ...]
    states: tuple[LinkState, ...]

    def at(self, t_s: float) -> LinkState:
        """The row in force."""
        return self.states[max(bisect_right(self.times_s, t_s) - 1, 0)]


def chance(*key: object) -> float:
    """A number above 0 and below 1 that depends on the key only."""
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52


def _step(t_s: float, step_s: float) -> tuple[int, float]:
    """The number of the step that holds `t_s`, and when it ends, which is later."""
    step = max(math.floor(t_s / step_s), 0)
    while (step + 1) * step_s <= t_s:
        step += 1
    return step, (step + 1) * step_s


def _state(link: Link, up: float, down: float, until_s: float) -> LinkState:
    rate_up_bps, rate_down_bps = link.rate_up_bps * min(up, 1), link.rate_down_bps * min(down, 1)
    return LinkState(rate_up_bps, rate_down_bps, link.delay_s, link.jitter_s, link.loss, until_s)


NEEDED = ("time_s", "rate_up_bps", "rate_down_bps")
OPTIONAL = ("delay_s", "loss")


def read_csv(path: Path, link: Link) -> Recorded:
    """Columns time_s, rate_up_bps, rate_down_bps and, if given, delay_s and loss; the link's own else.

    Times begin at 0 and rise; a rate of 0 is an outage and must end. BadRequest names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: cannot be read: {error}") from None
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    columns = {*header}
    if not {*NEEDED} <= columns <= {*NEEDED, *OPTIONAL} or len(columns) != len(header):
        known = f"{', '.join(NEEDED)}[, {', '.join(OPTIONAL)}]"
        raise BadRequest(f"{path}:1: columns are {', '.join(header) or 'missing'}; expected {known}")
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        rows.append(_row(header, line.split(","), where))
        _check_row(rows, where)
    if not rows:
        raise BadRequest(f"{path}: no rows")
    if min(rows[-1]["rate_up_bps"], rows[-1]["rate_down_bps"]) == 0:
        raise BadRequest(f"{path}:{len(lines)}: the last row holds for ever, its rates must be above 0")
    times_s = tuple(row["time_s"] for row in rows)
    untils_s = (*times_s[1:], math.inf)
    return Recorded(times_s, tuple(_recorded(link, row, until) for row, until in zip(rows, untils_s, strict=True)))


def _row(header: Sequence[str], cells: Sequence[str], where: str) -> dict[str, float]:
    if len(cells) != len(header):
        raise BadRequest(f"{where}: {len(cells)} values for {len(header)} columns")
    return {name: _number(cell.strip(), f"{where}: {name}") for name, cell in zip(header, cells, strict=True)}


def _check_row(rows: Sequence[Mapping[str, float]], where: str) -> None:
    row = rows[-1]
    for name, value in row.items():
        if value < 0:
            raise BadRequest(f"{where}: {name} = {value:g} is below 0")
    if row.get("loss", 0) >= 1:
        raise BadRequest(f"{where}: loss = {row['loss']:g} is not below 1")
    if len(rows) == 1 and row["time_s"] != 0:
        raise BadRequest(f"{where}: time_s begins at {row['time_s']:g}, not at 0")
    if len(rows) > 1 and row["time_s"] <= rows[-2]["time_s"]:
        raise BadRequest(f"{where}: time_s = {row['time_s']:g} is not after {rows[-2]['time_s']:g}")


def _recorded(link: Link, row: Mapping[str, float], until_s: float) -> LinkState:
    up, down = min(row["rate_up_bps"], link.rate_up_bps), min(row["rate_down_bps"], link.rate_down_bps)
    delay_s, loss = row.get("delay_s", link.delay_s), row.get("loss", link.loss)
    return LinkState(up, down, delay_s, link.jitter_s, loss, until_s)


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadRequest(f"{where} = {text!r} is not a number") from None
    if not math.isfinite(number):
        raise BadRequest(f"{where} = {text} is not finite")
    return number


def spec_for(kind: str, specs: str) -> str:
    """One kind's trace out of WATTBED_LINK_TRACE: one spec for all, or `KIND=SPEC;KIND=SPEC`, else constant."""
    chosen = "constant"
    for part in filter(None, (part.strip() for part in specs.split(";"))):
        named = re.match(r"([^:=,]+)=(.*)", part)
        if named is None:
            chosen = part
        elif named[1] == kind:
            return named[2]
    return chosen


def parse(spec: str, link: Link, name: str) -> Trace:
    """`constant`, `walk:sigma=0.2,...`, `rayleigh:distance_m=120,seed=3,...` or `csv:FILE`.

    `name` sets links of the same seed apart. BadRequest says what is unknown, missing or out of range.
    """
    how, _, rest = spec.partition(":")
    match how:
        case "constant" if not rest:
            return Constant(link)
        case "csv" if rest:
            return read_csv(Path(rest), link)
        case "walk":
            return _made(RandomWalk, ("sigma", "step_s", "low", "seed"), ("sigma",), rest, link, name, spec)
        case "rayleigh":
            known = tuple(field for field in Rayleigh.__dataclass_fields__ if field not in ("link", "name"))
            return _made(Rayleigh, known, ("distance_m",), rest, link, name, spec)
    raise BadRequest(f"link trace {spec!r}: not constant, walk:..., rayleigh:... or csv:FILE")


def _made(
    make: Callable[..., Trace],
    known: Sequence[str],
    needed: Sequence[str],
    rest: str,
    link: Link,
    name: str,
    spec: str,
) -> Trace:
    values: dict[str, float] = {}
    for part in filter(None, rest.split(",")):
        key, _, text = part.partition("=")
        if key not in known:
            raise BadRequest(f"link trace {spec!r}: unknown {key!r}; known are {', '.join(known)}")
        values[key] = _number(text, f"link trace {spec!r}: {key}")
        if key == "seed":
            values[key] = int(values[key])
        elif values[key] <= 0 or (key == "low" and values[key] >= 1):
            raise BadRequest(f"link trace {spec!r}: {key} = {text} is out of range")
    missing = [key for key in needed if key not in values]
    if missing:
        raise BadRequest(f"link trace {spec!r}: {', '.join(missing)} is missing")
    return make(link, name, **values)
