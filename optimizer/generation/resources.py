"""Frequency and bandwidth for requests that are served at the same time.

    min sum_n E_n(W_n, T_n - L_n / r_n) + p_n L_n / r_n   s.t.  sum_n b_n <= B,   r = b log2(1 + p h / (N0 b))

E(W, s) is what W cycles cost that have s seconds: latency is tight, f = W / (T - L / r), unless the clock ends
first or a faster clock spends less. Each term is convex in b, so at a price per hertz each request buys by itself
(the inner bisection), and the price makes what they buy add up (the outer one). [R] of FlexGen.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import brentq, elementwise

from fleet.errors import BadRequest
from optimizer.generation.serving import EnergyLaw
from optimizer.models.checks import not_negative, positive

Vector = np.ndarray


class Infeasible(BadRequest):
    """No allocation holds all constraints. `requests` are those that break `constraint`; all of them together if
    there are several."""

    def __init__(self, constraint: str, requests: Iterable[int], message: str) -> None:
        super().__init__(message)
        self.constraint = constraint
        self.requests = tuple(int(r) for r in requests)


@dataclass(frozen=True)
class Clock:
    """A processor and the law of its joules.

    CONSTANT_POWER: (idle_watts + dyn_watts (f / max_hz)^exponent) t; exponent 0 is a processor that draws the
    same at any clock. KAPPA: kappa f^2 per cycle, in J s^2 / cycle.
    """

    law: EnergyLaw
    min_hz: float
    max_hz: float
    kappa: float = 0.0
    idle_watts: float = 0.0
    dyn_watts: float = 0.0
    exponent: float = 3.0

    def __post_init__(self) -> None:
        positive(self, "min_hz", "max_hz")
        not_negative(self, "kappa", "idle_watts", "dyn_watts", "exponent")
        positive(self, "kappa") if self.law is EnergyLaw.KAPPA else positive(self, "idle_watts")
        if self.min_hz > self.max_hz:
            raise BadRequest(f"Clock.min_hz {self.min_hz:g} is above max_hz {self.max_hz:g}")

    @property
    def thrifty_hz(self) -> float:
        """The clock of fewest joules per cycle."""
        if self.law is EnergyLaw.KAPPA:
            return self.min_hz
        if self.exponent <= 1 or self.dyn_watts == 0:
            return self.max_hz
        best = self.max_hz * (self.idle_watts / ((self.exponent - 1) * self.dyn_watts)) ** (1 / self.exponent)
        return float(np.clip(best, self.min_hz, self.max_hz))

    def hz(self, cycles: Vector, seconds: Vector) -> Vector:
        """The clock of fewest joules that does `cycles` within `seconds`; above max_hz where none does."""
        with np.errstate(divide="ignore"):
            return np.maximum(np.where(seconds > 0, cycles / seconds, np.inf), self.thrifty_hz)

    def joules_at(self, cycles: Vector, hz: Vector) -> Vector:
        """What `cycles` take at `hz`."""
        if self.law is EnergyLaw.KAPPA:
            return np.asarray(self.kappa * cycles * hz**2)
        watts = self.idle_watts + self.dyn_watts * (hz / self.max_hz) ** self.exponent
        return np.asarray(watts * cycles / hz)

    def saved_watts(self, cycles: Vector, seconds: Vector) -> Vector:
        """-dE/ds: what another second for computing saves; nothing once the thrifty clock does."""
        hz = self.hz(cycles, seconds)
        if self.law is EnergyLaw.KAPPA:
            slope = 2 * self.kappa * hz**3
        else:
            dynamic = self.dyn_watts * (hz / self.max_hz) ** self.exponent
            slope = (self.exponent - 1) * dynamic - self.idle_watts
        with np.errstate(divide="ignore"):
            tight = cycles / np.maximum(seconds, 1e-300) > self.thrifty_hz
        return np.where(tight, np.maximum(slope, 0.0), 0.0)


@dataclass(frozen=True)
class Demands:
    """Requests at once, (N,): cycles to compute, bits to bring to the client, seconds for both; the downlink."""

    cycles: Vector
    bits: Vector
    deadline_s: Vector
    gain: Vector
    watts: Vector
    noise_watts_per_hz: Vector

    def __post_init__(self) -> None:
        arrays = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(getattr(self, f.name), float)) for f in fields(self))
        )
        for field, array in zip(fields(self), arrays, strict=True):
            object.__setattr__(self, field.name, array)
        positive(self, *(f.name for f in fields(self)))

    def rate_bps(self, hz: Vector) -> Vector:
        """b log2(1 + p h / (N0 b))."""
        return np.asarray(hz * np.log2(1 + self.watts * self.gain / (self.noise_watts_per_hz * hz)))


@dataclass(frozen=True)
class Allocation:
    """Clock, band and joules of each request (N,); estimates of the model by `law`."""

    hz: Vector
    bandwidth_hz: Vector
    compute_s: Vector
    send_s: Vector
    compute_joules: Vector
    radio_joules: Vector
    law: EnergyLaw

    @property
    def joules(self) -> float:
        """Of all requests."""
        return float(self.compute_joules.sum() + self.radio_joules.sum())


def equal(demands: Demands, clock: Clock, total_hz: float) -> Allocation:
    """The same band for everybody; Infeasible names the request. The baseline."""
    return allocate(demands, clock, np.full(demands.cycles.size, total_hz / demands.cycles.size))


def allocate(demands: Demands, clock: Clock, bandwidth_hz: Vector) -> Allocation:
    """The clocks of fewest joules on `bandwidth_hz` (N,); Infeasible names the request."""
    _possible(demands, clock)
    send = demands.bits / demands.rate_bps(bandwidth_hz)
    hz = clock.hz(demands.cycles, demands.deadline_s - send)
    late = hz > clock.max_hz * (1 + 1e-9)
    if late.any():
        at = np.flatnonzero(late)
        left = demands.deadline_s[at[0]] - demands.cycles[at[0]] / clock.max_hz
        raise Infeasible(
            "download",
            at,
            f"request {at[0]} needs {send[at[0]]:.3g} s to send its images on {bandwidth_hz[at[0]]:.3g} Hz; "
            f"computing at the full clock leaves {left:.3g} s of its deadline",
        )
    hz = np.minimum(hz, clock.max_hz)
    radio = demands.watts * send
    compute = clock.joules_at(demands.cycles, hz)
    return Allocation(hz, bandwidth_hz, demands.cycles / hz, send, compute, radio, clock.law)


def share(demands: Demands, clock: Clock, total_hz: float) -> Allocation:
    """Band and clocks of fewest joules; Infeasible names the request, or says how much band the deadlines need."""
    left = _possible(demands, clock)
    least = _least_hz(demands, left)
    if least.sum() > total_hz:
        at = int(np.argmax(least))
        raise Infeasible(
            "bandwidth",
            range(least.size),
            f"the deadlines need {least.sum():.4g} Hz together, {total_hz:.4g} Hz are there; "
            f"request {at} alone needs {least[at]:.4g} Hz",
        )

    def excess(log_price: float) -> float:
        return float(_bought(demands, clock, least, total_hz, np.exp(log_price)).sum() / total_hz - 1)

    low, high = -80.0, 40.0
    if excess(low) <= 0:
        bought = _bought(demands, clock, least, total_hz, np.exp(low))
    elif excess(high) >= 0:
        bought = least
    else:
        price = brentq(excess, low, high, xtol=1e-9)
        bought = _bought(demands, clock, least, total_hz, np.exp(price))
    spare = np.maximum(bought - least, 0.0)
    if spare.sum() > 0:  # what bisection leaves over goes to all in proportion
        spare *= (total_hz - least.sum()) / spare.sum()
    return allocate(demands, clock, least + spare)


def _possible(demands: Demands, clock: Clock) -> Vector:
    """Seconds left of each deadline after computing at the full clock; Infeasible where none are."""
    needed = demands.cycles / clock.max_hz
    left = demands.deadline_s - needed
    if (left <= 0).any():
        at = np.flatnonzero(left <= 0)
        raise Infeasible(
            "computation",
            at,
            f"request {at[0]} needs {needed[at[0]]:.3g} s at the full clock; its deadline is "
            f"{demands.deadline_s[at[0]]:.3g} s",
        )
    return np.asarray(left)


def _least_hz(demands: Demands, left: Vector) -> Vector:
    """The band at which sending takes all that is `left`."""
    ceiling = demands.watts * demands.gain / demands.noise_watts_per_hz / np.log(2)
    if (ceiling * left <= demands.bits).any():
        at = np.flatnonzero(ceiling * left <= demands.bits)
        raise Infeasible(
            "download",
            at,
            f"request {at[0]} needs {demands.bits[at[0]] / ceiling[at[0]]:.3g} s to send its images even on a "
            f"band without end; {left[at[0]]:.3g} s are left of its deadline",
        )

    def missing(log_hz: Vector, bits: Vector, snr: Vector, seconds: Vector) -> Vector:
        hz = np.exp(log_hz)
        return np.asarray(np.log(hz * np.log1p(snr / hz) / np.log(2) * seconds / bits))

    snr = demands.watts * demands.gain / demands.noise_watts_per_hz
    low = np.full(left.shape, -20.0)
    high = np.full(left.shape, 60.0)
    found = elementwise.find_root(missing, (low, high), args=(demands.bits, snr, left))
    return np.asarray(np.exp(found.x) * (1 + 1e-9))


def _bought(demands: Demands, clock: Clock, least: Vector, total_hz: float, price: float) -> Vector:
    """Hertz (N,) that each buys at `price` joules per hertz, between what it needs and all there is."""
    snr = demands.watts * demands.gain / demands.noise_watts_per_hz
    terms = (demands.cycles, demands.bits, demands.deadline_s, snr, demands.watts)

    def slope(hz: Vector, cycles: Vector, bits: Vector, deadline_s: Vector, snr: Vector, watts: Vector) -> Vector:
        rate = hz * np.log1p(snr / hz) / np.log(2)
        faster = (np.log1p(snr / hz) - snr / (hz + snr)) / np.log(2)
        send = bits / rate
        return np.asarray(price - (clock.saved_watts(cycles, deadline_s - send) + watts) * send * faster / rate)

    top = np.full(least.shape, total_hz)
    hz = np.where(slope(least, *terms) >= 0, least, top)
    inside = (slope(least, *terms) < 0) & (slope(top, *terms) > 0)
    if inside.any():
        picked = tuple(term[inside] for term in terms)
        hz[inside] = elementwise.find_root(slope, (least[inside], top[inside]), args=picked).x
    return np.asarray(hz)
