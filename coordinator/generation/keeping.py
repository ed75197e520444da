"""Which device keeps which models: the slow decision. Where a batch is made is the fast one, and follows it.

A kept model saves its download each time it is asked for: rate x bytes, so per byte of room its rate alone. Each
device keeps what is asked for most, as long as there is room for it; what it is told to keep and lacks it fetches
when it has nothing else to do. Rates are images per second, forgotten over MEMORY_S.
"""

from collections.abc import Mapping
from math import exp

from coordinator.events import Event, ModelsKept, ModelsReviewed
from coordinator.machine.state import State
from fleet.generation import ModelRef

MEMORY_S = 600.0
LEAST_RATE = 1e-5
"""Images per second below which a model is no longer counted."""


def review(state: State, now_s: float, since_s: float) -> list[Event]:
    """What every device should keep from now on: an event for each that this changes something for."""
    now = state.generations
    rates = remembered(now.rates, now.asked_since, now_s - since_s)
    ranked = sorted((m for m in rates if m in now.models), key=lambda m: (-rates[m], m))
    events: list[Event] = []
    for name, device in sorted(state.devices.items()):
        storage_bytes = device.capabilities.model_storage_bytes
        if device.session is None or not storage_bytes or name in state.register.drained:
            continue
        models = chosen([now.models[m] for m in ranked], storage_bytes)
        if models != now.kept.get(name, ()):
            events.append(ModelsKept(now_s, name, models))
    return [*events, ModelsReviewed(now_s, tuple(rates.items()))]


def remembered(rates: Mapping[str, float], asked: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Images per second by model, after `seconds` in which `asked` images were asked for."""
    kept = exp(-max(seconds, 0.0) / MEMORY_S)
    found = {m: rates.get(m, 0.0) * kept + asked.get(m, 0) / MEMORY_S for m in sorted({*rates, *asked})}
    return {m: rate for m, rate in found.items() if rate >= LEAST_RATE}


def chosen(ranked: list[ModelRef], storage_bytes: int) -> tuple[ModelRef, ...]:
    """The first of `ranked` that fit, each where it still does."""
    left, models = storage_bytes, list[ModelRef]()
    for model in ranked:
        if model.size_bytes <= left:
            models.append(model)
            left -= model.size_bytes
    return tuple(models)
