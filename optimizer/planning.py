"""What a policy would do in a round, what that is expected to cost, and what the usual would cost instead."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleet.domain import Phase, Quality
from fleet.errors import BadRequest
from optimizer.fitting import Choice, Constant, Cost, DeviceFit, FleetFit, Job, QualityFit, Setting, constants
from optimizer.models.presets import GREEN_RADIO
from optimizer.policies.base import FittedPolicy
from optimizer.policies.precision import PrecisionPolicy
from optimizer.policy import Candidate, Decision, Policy, Told, load
from optimizer.precision.problem import Point

BASELINES = {"fp32": (32, 32), "fixed 16": (16, 32), "fixed 8": (8, 32), "fixed 6": (6, 32), "fixed 4": (4, 32)}
"""Bits up and down of what every plan is held against, at full width and precision and as many steps."""

RADIO = GREEN_RADIO.power_watts
"""[P] arXiv 2207.09387: what a radio takes while it sends. A modelled figure, apart from all others."""


@dataclass(frozen=True)
class Total:
    """Joules of all devices of one quality and scope; None if one of them is not known."""

    quality: Quality | None
    scope: str | None
    joules: float | None
    devices: int


@dataclass(frozen=True)
class Price:
    """What a round of some devices costs. `seconds` are those of the slowest; None: some are not known.

    `radio_joules` are modelled: RADIO for as long as uploads take.
    """

    totals: tuple[Total, ...]
    seconds: float | None
    up_bytes: float | None
    down_bytes: float | None
    radio_joules: float | None


@dataclass(frozen=True)
class DevicePlan:
    """One device in the round. `decision` None: it does not take part, and `cost` is None too."""

    candidate: Candidate
    decision: Decision | None
    cost: Cost | None
    constants: tuple[Constant, ...]
    baselines: Mapping[str, Cost]


@dataclass(frozen=True)
class RoundPlan:
    """A round that nobody runs. `mac_joules`: of a step by n, on the paper's chip, for policies that plan it."""

    round: int
    devices: tuple[DevicePlan, ...]
    price: Price
    baselines: Mapping[str, Price]
    quality: tuple[QualityFit, ...]
    mac_joules: Mapping[int, float]
    point: Point | None


def plan(
    name: str,
    options: Mapping[str, object],
    candidates: Sequence[Candidate],
    history: Iterable[Told],
    job: Job | None = None,
    round: int = 1,
) -> RoundPlan:
    """What the policy called `name` decides in `round` after `history`. `job`: for presets, where no data is.

    BadRequest for an empty fleet and for whatever the policy refuses.
    """
    if not candidates:
        raise BadRequest("an empty fleet has no plan")
    policy, fits = load(name, options), FleetFit(job)
    for told in history:
        policy.tell(told)
        fits.add(told)
    fits.meet(candidates)
    decisions = {d.device: d for d in policy.ask(round, candidates)}
    if isinstance(policy, FittedPolicy) and job is None:
        fits = policy.fits
    steps = max(d.train_steps for d in decisions.values())
    devices = tuple(_device(c, decisions.get(c.device), fits.device(c), steps) for c in candidates)
    taking_part = [(fits.device(d.candidate), d) for d in devices if d.decision]
    return RoundPlan(
        round,
        devices,
        _price([(fit, _choice(d.decision), d.cost) for fit, d in taking_part if d.decision and d.cost]),
        {
            which: _price(
                [(fit, _baseline(which, d.decision, steps), d.baselines[which]) for fit, d in taking_part]
            )
            for which in BASELINES
        },
        tuple(q for m in fits.metrics if (q := fits.quality(m)) is not None),
        *_of_precision(policy),
    )


def _device(candidate: Candidate, decision: Decision | None, fit: DeviceFit, steps: int) -> DevicePlan:
    shown = _choice(decision) if decision else _baseline("fp32", None, steps)
    return DevicePlan(
        candidate,
        decision,
        fit.cost(shown) if decision else None,
        tuple(constants(fit, shown)),
        {name: fit.cost(_baseline(name, decision, steps)) for name in BASELINES},
    )


def _choice(d: Decision) -> Choice:
    setting = Setting(d.width, d.precision, d.frequency_hz, d.power_limit_watts)
    return Choice(setting, d.train_steps, d.bits_up, d.bits_down)


def _baseline(name: str, decision: Decision | None, steps: int) -> Choice:
    """As many steps as the plan asks of the device, at full width and precision."""
    up, down = BASELINES[name]
    return Choice(Setting(1.0, "fp32"), decision.train_steps if decision else steps, up, down)


def _price(parts: Sequence[tuple[DeviceFit, Choice, Cost]]) -> Price:
    groups: dict[tuple[Quality, str] | None, list[Cost]] = {}
    for _, _, cost in parts:
        groups.setdefault(cost.kind, []).append(cost)
    totals = []
    for kind, costs in groups.items():
        quality, scope = kind or (None, None)
        totals.append(Total(quality, scope, _sum([c.joules for c in costs]), len(costs)))
    seconds = [cost.seconds for _, _, cost in parts]
    sending_s = _sum([cost.of(Phase.UPLOAD).seconds for _, _, cost in parts])
    return Price(
        tuple(sorted(totals, key=lambda t: (str(t.quality), str(t.scope)))),
        None if None in seconds else max((s for s in seconds if s is not None), default=None),
        _sum([fit.upload_bytes(choice.bits_up) for fit, choice, _ in parts]),
        _sum([fit.download_bytes(choice.bits_down) for fit, choice, _ in parts]),
        None if sending_s is None else RADIO * sending_s,
    )


def _of_precision(policy: Policy) -> tuple[dict[int, float], Point | None]:
    if not isinstance(policy, PrecisionPolicy) or policy.point is None:
        return {}, None
    shown = sorted({4, 8, 16, 32, int(policy.point.n)}, reverse=True)
    return {n: policy.mac_level(n) for n in shown}, policy.point


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None
