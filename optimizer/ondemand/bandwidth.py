"""Shared bandwidth: each device buys hertz at one price, and the price makes them add up. [R]

With x = S / (b t), the spectral efficiency, the energy of the radio is S g (2^x - 1) / x with g = N0 / h, and
a device that pays lambda per hertz minimises

    S g (2^x - 1) / x + kappa C^3 / (T - t)^2 + lambda S / (x t)

For a given t the best x solves g t (2^x (x ln 2 - 1) + 1) = lambda, and full power holds it below the
solution of (2^x - 1) / x = p_max t / (S g): both by the Lambert function. What is left is a bisection in t,
inside one in lambda.
"""

import numpy as np
from scipy.optimize import brentq, elementwise
from scipy.special import lambertw

from optimizer.ondemand.allocate import LN2
from optimizer.ondemand.problem import Devices, Infeasible, Vector, refuse, seconds_to_upload

CLOSE = 1e-10


def share(devices: Devices, bits: Vector, total_hz: float) -> Vector:
    """Hertz (N,) that add up to `total_hz`, of least energy at `bits`; Infeasible if the deadlines need more."""
    payload = devices.payload_bits(bits)
    g = devices.noise_watts_per_hz / devices.gain
    most = seconds_to_upload(devices)
    boundless = payload * g * LN2 / devices.max_watts  # seconds at full power, however wide the band
    refuse(
        boundless >= most,
        "upload",
        "device {} needs {:.3g} s to upload even on a band without end; {:.3g} s are left of its deadline",
        boundless,
        most,
    )
    least_hz = payload / (_efficiency_at_full_power(devices.max_watts * most / (payload * g)) * most)
    if least_hz.sum() > total_hz:
        at = int(np.argmax(least_hz))
        raise Infeasible(
            "bandwidth",
            [at],
            f"the deadlines need {least_hz.sum():.4g} Hz together, {total_hz:.4g} Hz are there; "
            f"device {at} alone needs {least_hz[at]:.4g} Hz",
        )
    fewest = np.maximum(boundless * (1 + 1e-6), devices.deadline_s - devices.cycles / devices.min_hz)
    market = _Market(devices, payload, g, np.minimum(fewest, most), most)

    def excess(log_price: float) -> float:
        return float(np.log(market.bought(np.exp(log_price)).sum() / total_hz))

    # A price of this order moves a device of middling need; from there outwards until it is bracketed.
    start = float(np.log(np.median(g * most)))
    low, high = start - 5.0, start + 5.0
    while excess(low) < 0:
        low -= 20.0
    while excess(high) > 0:
        high += 10.0
        if high > 700:
            break
    price = np.exp(brentq(excess, low, high, xtol=CLOSE)) if excess(high) <= 0 else np.exp(high)
    bought = market.bought(price)
    # What rounding leaves over goes to all in proportion; nobody falls below what the deadline needs.
    return np.asarray(np.maximum(bought * (total_hz / bought.sum()), least_hz))


class _Market:
    """What each device buys at a price."""

    def __init__(self, devices: Devices, payload: Vector, g: Vector, fewest: Vector, most: Vector) -> None:
        self._cubes = 2 * devices.kappa * devices.cycles**3
        self._deadline, self._watts = devices.deadline_s, devices.max_watts
        self._payload, self._g, self._fewest, self._most = payload, g, fewest, most

    def bought(self, price: float) -> Vector:
        """Hertz (N,)."""
        terms = (self._payload, self._g, self._cubes, self._deadline, self._watts, np.full(self._g.shape, price))
        t = np.where(_slope(self._fewest, *terms) >= 0, self._fewest, self._most)
        inside = (_slope(self._fewest, *terms) < 0) & (_slope(self._most, *terms) > 0)
        if inside.any():
            picked = tuple(term[inside] for term in terms)
            t[inside] = elementwise.find_root(_slope, (self._fewest[inside], self._most[inside]), args=picked).x
        x, _ = _efficiency(t, self._payload, self._g, self._watts, price)
        return np.asarray(self._payload / (x * t))


def _slope(
    t: Vector, s: Vector, g: Vector, cubes: Vector, deadline: Vector, watts: Vector, price: Vector
) -> Vector:
    x, bound = _efficiency(t, s, g, watts, price)
    slope = cubes / (deadline - t) ** 3 - price * s / (x * t**2)
    # Where full power holds x, a longer upload also moves x along that edge.
    derivative = (np.exp2(x) * (x * LN2 - 1) + 1) / x**2
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = watts - price * watts / (x**2 * t * g * derivative)
    # At the fewest seconds of all the band is without end, and so is its price.
    return np.asarray(slope + np.where(bound, np.nan_to_num(edge, nan=-np.inf), 0.0))


def _efficiency(
    t: Vector, s: Vector, g: Vector, watts: Vector, price: Vector | float
) -> tuple[Vector, np.ndarray]:
    """x in bit/s/Hz, and whether full power holds it."""
    wanted = (1 + lambertw((price / (g * t) - 1) / np.e).real) / LN2
    wanted = np.maximum(wanted, 1e-9)
    allowed = _efficiency_at_full_power(watts * t / (s * g))
    return np.minimum(wanted, allowed), np.asarray(wanted > allowed)


def _efficiency_at_full_power(y: Vector) -> Vector:
    """The x with (2^x - 1) / x = y, for y above ln 2."""
    z = -LN2 / y * np.exp2(-1 / y)
    return np.asarray(np.maximum(-1 / y - lambertw(z, -1).real / LN2, 1e-9))
