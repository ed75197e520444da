"""What is chosen, and what a choice is worth. Arrays have one entry per user.

    maximise  sum_n  w_q (1 - e(s_n) / e0) - w_t D_n / D_max - w_e E_n / E_max                        [R]

On the device s steps of C cycles take C s / f seconds and kappa C s f^2 joules; at the edge they take s delta
seconds of the edge's time, of which there is `time_s` for all, and prompt and images cross the channel. e(s) falls
and is convex, so that each user's best worth is concave in s, at either place and at any price of edge time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from fleet.errors import BadRequest
from optimizer.generation.quality import StepLaw
from optimizer.models.checks import not_negative, positive

Vector = np.ndarray


class Infeasible(BadRequest):
    """No choice holds all constraints. `users` are those that break `constraint`, each or together."""

    def __init__(self, constraint: str, users: Iterable[int], message: str) -> None:
        super().__init__(message)
        self.constraint = constraint
        self.users = tuple(int(u) for u in users)


@dataclass(frozen=True)
class Users:
    """Who asks; a number where all are alike is repeated for each.

    cycles: of one step on the user's device. kappa: J s^2 / cycle. battery_joules: what the device may spend, inf
    without. bandwidth_hz: of its own up and down. watts: its transmitter's; edge_watts: that of the downlink.
    """

    cycles: Vector
    kappa: Vector
    min_hz: Vector
    max_hz: Vector
    battery_joules: Vector
    deadline_s: Vector
    prompt_bits: Vector
    image_bits: Vector
    gain: Vector
    bandwidth_hz: Vector
    watts: Vector
    edge_watts: Vector
    noise_watts_per_hz: Vector

    def __post_init__(self) -> None:
        arrays = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(getattr(self, f.name), float)) for f in fields(self))
        )
        for field, array in zip(fields(self), arrays, strict=True):
            object.__setattr__(self, field.name, array)
        if not len(self):
            raise BadRequest("without users there is nothing to offload")
        positive(self, *(f.name for f in fields(self) if f.name not in ("battery_joules", "prompt_bits")))
        not_negative(self, "prompt_bits")
        if (self.min_hz > self.max_hz).any():
            at = int(np.argmax(self.min_hz > self.max_hz))
            raise BadRequest(f"user {at}: min_hz {self.min_hz[at]:g} is above max_hz {self.max_hz[at]:g}")
        if not (self.battery_joules > 0).all():
            raise BadRequest(f"user {int(np.argmin(self.battery_joules))}: battery_joules must be above zero")

    def __len__(self) -> int:
        return int(self.cycles.size)


@dataclass(frozen=True)
class Edge:
    """The edge server: seconds and watts of a step, and the seconds that all users share."""

    step_s: float
    watts: float
    time_s: float

    def __post_init__(self) -> None:
        positive(self, "step_s", "watts")
        not_negative(self, "time_s")

    @property
    def steps(self) -> int:
        """How many steps its time is enough for."""
        return int(np.floor(self.time_s / self.step_s * (1 + 1e-12)))


@dataclass(frozen=True)
class Aims:
    """Weights w_q, w_t, w_e, and what they are relative to: the error e0, seconds and joules."""

    quality: float
    time: float
    energy: float
    error: float
    seconds: float
    joules: float

    def __post_init__(self) -> None:
        positive(self, "quality", "time", "energy", "error", "seconds", "joules")


@dataclass(frozen=True)
class Problem:
    """Users, the edge, the law of the error by steps, what is aimed at, and the fewest and most steps (whole)."""

    users: Users
    edge: Edge
    law: StepLaw
    aims: Aims
    fewest_steps: int
    most_steps: int

    def __post_init__(self) -> None:
        low, high = self.law.steps[0], self.law.steps[-1]
        if not low <= self.fewest_steps <= self.most_steps <= high:
            raise BadRequest(
                f"steps from {self.fewest_steps} to {self.most_steps}; the error is known from {low:g} to {high:g}"
            )

    def most_local(self) -> Vector:
        """Steps (N,) that deadline, clock and battery of the device allow, `most_steps` at most."""
        u = self.users
        by_clock = u.max_hz * u.deadline_s / u.cycles
        by_battery = np.minimum(
            u.battery_joules / (u.kappa * u.cycles * u.min_hz**2),
            np.cbrt(u.battery_joules * u.deadline_s**2 / u.kappa) / u.cycles,
        )
        return self._whole(np.minimum(by_clock, by_battery))

    def most_at_edge(self) -> Vector:
        """Steps (N,) that the deadline leaves at the edge; 0 where sending alone breaks deadline or battery."""
        up, down = self.sending_s()
        left = np.where(self.users.watts * up <= self.users.battery_joules, self.users.deadline_s - up - down, 0.0)
        return self._whole(left / self.edge.step_s)

    def _whole(self, steps: Vector) -> Vector:
        return np.clip(np.floor(steps * (1 + 1e-12)), 0, self.most_steps).astype(int)

    def sending_s(self) -> tuple[Vector, Vector]:
        """Seconds of the prompt up and of the images down, at Shannon's rates."""
        u = self.users
        noise = u.noise_watts_per_hz
        up = u.bandwidth_hz * np.log2(1 + u.watts * u.gain / (noise * u.bandwidth_hz))
        down = u.bandwidth_hz * np.log2(1 + u.edge_watts * u.gain / (noise * u.bandwidth_hz))
        return np.asarray(u.prompt_bits / up), np.asarray(u.image_bits / down)

    def local(self, steps: Vector) -> tuple[Vector, Vector, Vector]:
        """Clock, seconds and joules (N,) of `steps` on the device, at the clock that is worth most.

        Where no limit stops it that clock, f^3 = w_t E_max / (2 w_e kappa D_max), has nothing to do with the
        steps.
        """
        u, a = self.users, self.aims
        work = u.cycles * np.maximum(steps, 1)
        wanted = np.cbrt(a.time * a.joules / (2 * a.energy * u.kappa * a.seconds))
        high = np.minimum(u.max_hz, np.sqrt(u.battery_joules / (u.kappa * work)))
        low = np.maximum(u.min_hz, work / u.deadline_s)
        hz = np.maximum(np.minimum(wanted, high), low)
        return hz, work / hz, u.kappa * work * hz**2

    def at_edge(self, steps: Vector) -> tuple[Vector, Vector]:
        """Seconds and joules (N,), of user and edge together, of `steps` at the edge."""
        up, down = self.sending_s()
        computing = steps * self.edge.step_s
        sending = self.users.watts * up + self.users.edge_watts * down
        return up + computing + down, sending + self.edge.watts * computing

    def worth(self, steps: Vector, seconds: Vector, joules: Vector) -> Vector:
        """The utility of each user (N,)."""
        a = self.aims
        better = a.quality * (1 - self.law.at(steps) / a.error)
        return np.asarray(better - a.time * seconds / a.seconds - a.energy * joules / a.joules)

    def worth_local(self, steps: Vector) -> Vector:
        """On the device; -inf where it has not so many steps."""
        _, seconds, joules = self.local(steps)
        return np.where(steps <= self.most_local(), self.worth(steps, seconds, joules), -np.inf)

    def worth_at_edge(self, steps: Vector) -> Vector:
        """At the edge; -inf where the deadline or the battery is broken."""
        return np.where(steps <= self.most_at_edge(), self.worth(steps, *self.at_edge(steps)), -np.inf)


@dataclass(frozen=True)
class Plan:
    """What each user does, (N,) each. At the edge there is no clock: nan."""

    at_edge: np.ndarray
    steps: Vector
    hz: Vector
    compute_s: Vector
    seconds: Vector
    joules: Vector
    error: Vector
    worth: Vector

    @property
    def utility(self) -> float:
        """Of all users."""
        return float(self.worth.sum())


def described(problem: Problem, at_edge: np.ndarray, steps: Vector) -> Plan:
    """The plan of places and steps (N,); Infeasible names a user that they break, or the edge's time."""
    hz, seconds, joules = problem.local(steps)
    edge_s, edge_joules = problem.at_edge(steps)
    most = np.where(at_edge, problem.most_at_edge(), problem.most_local())
    refuse(problem, most < steps, steps, at_edge)
    used = int(steps[at_edge].sum())
    if used > problem.edge.steps:
        raise Infeasible(
            "edge time",
            np.flatnonzero(at_edge),
            f"{int(at_edge.sum())} users need {used * problem.edge.step_s:.4g} s of the edge together; "
            f"{problem.edge.time_s:.4g} s are there",
        )
    return Plan(
        at_edge,
        steps,
        np.where(at_edge, np.nan, hz),
        np.where(at_edge, steps * problem.edge.step_s, seconds),
        np.where(at_edge, edge_s, seconds),
        np.where(at_edge, edge_joules, joules),
        problem.law.at(steps),
        np.where(at_edge, problem.worth_at_edge(steps), problem.worth_local(steps)),
    )


def refuse(problem: Problem, broken: np.ndarray, steps: Vector, at_edge: np.ndarray | None) -> None:
    """Infeasible, naming the first user that `broken` marks; at_edge None: it can go nowhere."""
    if not broken.any():
        return
    users = np.flatnonzero(broken)
    n = int(users[0])
    local, edge = int(problem.most_local()[n]), int(problem.most_at_edge()[n])
    where = "anywhere" if at_edge is None else "at the edge" if at_edge[n] else "on its device"
    raise Infeasible(
        "deadline or battery",
        users,
        f"user {n} cannot do {int(steps[n])} steps {where}: its deadline of {problem.users.deadline_s[n]:.3g} s "
        f"and battery of {problem.users.battery_joules[n]:.3g} J allow {local} on its device, {edge} at the edge",
    )
