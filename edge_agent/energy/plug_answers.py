"""What smart plugs answer over HTTP: where their watts and their counter are, and in which unit."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.energy.reading import SourceFailed

WATT_HOUR_J = 3600.0
WATT_MINUTE_J = 60.0
KILOWATT_HOUR_J = 3.6e6


@dataclass(frozen=True)
class Answer:
    """Power now and the plug's own counter."""

    watts: float
    joules: float


@dataclass(frozen=True)
class Model:
    """One family of plugs: the paths to try in turn, how to read the answer, the counter's usual step."""

    name: str
    paths: tuple[str, ...]
    parse: Callable[[Any], Answer]
    unit_j: float


def shelly2(body: Any) -> Answer:
    """Shelly Gen2 and later, Switch.GetStatus: W and Wh."""
    return Answer(float(body["apower"]), float(body["aenergy"]["total"]) * WATT_HOUR_J)


def shelly1(body: Any) -> Answer:
    """Shelly Gen1, /status: W and watt-minutes."""
    meter = body["meters"][0]
    return Answer(float(meter["power"]), float(meter["total"]) * WATT_MINUTE_J)


def tasmota(body: Any) -> Answer:
    """Tasmota, Status 10 (Status 8 of old): W and kWh; several channels are one plug."""
    energy = body["StatusSNS"]["ENERGY"]
    power = energy["Power"]
    watts = sum(float(part) for part in power) if isinstance(power, list) else float(power)
    return Answer(watts, float(energy["Total"]) * KILOWATT_HOUR_J)


MODELS: Mapping[str, Model] = {
    "shelly2": Model("Shelly Gen2+", ("/rpc/Switch.GetStatus?id=0",), shelly2, 0.001 * WATT_HOUR_J),
    "shelly1": Model("Shelly Gen1", ("/status",), shelly1, WATT_MINUTE_J),
    "tasmota": Model("Tasmota", ("/cm?cmnd=Status%2010", "/cm?cmnd=Status%208"), tasmota, 0.001 * KILOWATT_HOUR_J),
}


def answer(model: Model, body: bytes) -> Answer:
    """What `body` says; SourceFailed("garbled") when it is not an answer of this model."""
    try:
        said = model.parse(json.loads(body))
        if not (math.isfinite(said.watts) and math.isfinite(said.joules)):
            raise ValueError(f"{said}: not finite")
        return said
    except (ValueError, KeyError, IndexError, TypeError) as error:
        start = body[:60].decode("utf-8", errors="replace")
        raise SourceFailed("garbled", f"no answer of a {model.name}: {start!r} ({error!r})") from None
