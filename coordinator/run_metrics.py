"""What Prometheus sees of runs and their rounds.

The label is the experiment: of several runs of one experiment the newest is shown. A run that has ended stays
for LINGER_S, because its last evaluation and its end are in the log at the same moment.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from coordinator.machine import Run, RunPhase, State
from coordinator.tallies import Read, RoundTally, RunTally, Tallies
from fleet.energy import PACKAGE, RAIL, TECHNIQUES

LINGER_S = 600.0

Shown = list[tuple[str, Run, RunTally]]
Samples = Iterable[tuple[tuple[str, ...], float | None]]


def collect(state: State, tallies: Tallies, now_s: float) -> Iterator[Metric]:
    """Every family of runs, of the rounds they are in and of the rounds they closed last."""
    runs = shown(state, tallies, now_s)
    yield from _runs(runs)
    yield from _sums(runs)
    yield from _present(runs)
    yield from _closed([(name, tally.closed) for name, _, tally in runs if tally.closed])


def shown(state: State, tallies: Tallies, now_s: float) -> Shown:
    """By experiment, the newest run that has not ended or has ended less than LINGER_S ago, with its tally."""
    newest = {
        run.experiment.name: run
        for run in state.runs.values()
        if run.ended_at_s is None or now_s - run.ended_at_s < LINGER_S
    }
    return [(name, run, tallies.runs[run.run]) for name, run in newest.items() if run.run in tallies.runs]


def _gauge(name: str, help_: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    """A gauge; a sample of None is no sample."""
    family = GaugeMetricFamily(name, help_, labels=labels)
    for key, value in samples:
        if value is not None:
            family.add_metric(key, value)
    return family


def _runs(runs: Shown) -> Iterator[Metric]:
    info = InfoMetricFamily("wattbed_run", "Runs that go on or ended in the last ten minutes", labels=["run"])
    for name, run, _ in runs:
        info.add_metric([run.run], {"experiment": name, "phase": run.phase.value})
    yield info
    going = [(name, run, tally) for name, run, tally in runs if not run.phase.ended]
    one = ("experiment",)
    yield _gauge("wattbed_run_round", "The round a run is in", one, (((n,), r.round) for n, r, _ in runs))
    rounds = (((n,), r.experiment.rounds) for n, r, _ in runs)
    yield _gauge("wattbed_run_rounds", "Rounds that a run is asked for", one, rounds)
    waiting = (((n,), len(r.outstanding)) for n, r, _ in going)
    yield _gauge("wattbed_run_waiting_devices", "Devices a run waits for", one, waiting)
    started = (((n,), r.started_at_s) for n, r, _ in runs)
    yield _gauge("wattbed_run_started_timestamp_seconds", "When a run was started", one, started)
    moved = (((n,), t.moved_at_s) for n, _, t in going)
    yield _gauge("wattbed_run_moved_timestamp_seconds", "When a run last came any further", one, moved)
    open_ = [(n, r) for n, r, _ in going if r.phase is RunPhase.TRAINING]
    opened = (((n,), r.opened_at_s) for n, r in open_)
    yield _gauge("wattbed_run_round_opened_timestamp_seconds", "When the open round was opened", one, opened)
    due = (((n,), r.deadline_at_s) for n, r in open_)
    yield _gauge("wattbed_run_round_deadline_timestamp_seconds", "When the open round is due", one, due)


def _sums(runs: Shown) -> Iterator[Metric]:
    quality = ((name, tally.evaluation) for name, _, tally in runs)
    yield _gauge(
        "wattbed_model_quality",
        "Latest evaluation of a run's model",
        ("experiment", "metric"),
        (((name, metric.name), metric.value) for name, metrics in quality for metric in metrics),
    )
    yield _gauge(
        "wattbed_privacy_epsilon",
        "Differential privacy spent by a run up to now, at the delta of its experiment; smaller is more private",
        ("experiment",),
        (((name,), tally.epsilon) for name, _, tally in runs),
    )
    joules = CounterMetricFamily(
        "wattbed_run_energy_joules",
        "Energy of a run's assignments up to now",
        labels=("experiment", "scope", "quality"),
    )
    wire = CounterMetricFamily(
        "wattbed_run_wire_bytes", "Bytes of a run, counted on the wire", labels=("experiment", "direction")
    )
    for name, _, tally in runs:
        for key, sum_joules in _totals(list(tally.joules.items())).items():
            joules.add_metric((name, *key), sum_joules)
        for direction, wire_bytes in list(tally.wire_bytes.items()):
            wire.add_metric((name, direction), wire_bytes)
    yield from (joules, wire)


def _totals(sums: Iterable[tuple[tuple[str, Read], float]]) -> dict[tuple[str, str], float]:
    """Joules by (scope, quality), by the rule of fleet.energy: components add up at package scope only."""
    devices: dict[tuple[str, str, str], list[float]] = {}
    by_part = _counted(((device, "", what), joules) for (device, what), joules in sums)
    for (device, _, component, scope, quality), joules in by_part.items():
        if component != RAIL and joules is not None:
            devices.setdefault((device, scope, quality), []).append(joules)
    totals: dict[tuple[str, str], float] = {}
    for (_, scope, quality), parts in devices.items():
        of_device = sum(parts) if scope == PACKAGE else max(parts)
        totals[scope, quality] = totals.get((scope, quality), 0.0) + of_device
    return totals


def _counted(
    sums: Iterable[tuple[tuple[str, str, Read], float | None]],
) -> dict[tuple[str, str, str, str, str], float | None]:
    """Joules by (device, phase, component, scope, quality): of two techniques for one component, one counts."""
    found: dict[tuple[str, str, str, str, str], tuple[int, float]] = {}
    for (device, phase, what), joules in sums:
        key = (device, phase, what.component, what.scope, what.quality)
        known = TECHNIQUES.index(what.technique) if what.technique in TECHNIQUES else len(TECHNIQUES)
        if joules is not None and known < found.get(key, (len(TECHNIQUES) + 1, 0.0))[0]:
            found[key] = (known, joules)
    return {key: joules for key, (_, joules) in found.items()}


def _present(runs: Shown) -> Iterator[Metric]:
    asked = [(name, a) for name, _, tally in runs for a in list(tally.present.assignments.values())]
    labels = ("experiment", "device")
    bits = (
        ((name, a.device, direction), bits)
        for name, a in asked
        for direction, bits in (("up", a.bits_up), ("down", a.bits_down))
    )
    yield _gauge("wattbed_assignment_bits", "Bits per value in the present round", (*labels, "direction"), bits)
    widths = (((name, a.device), a.width) for name, a in asked)
    yield _gauge("wattbed_assignment_width", "Share of the network in the present round", labels, widths)
    steps = (((name, a.device), a.train_steps) for name, a in asked)
    yield _gauge("wattbed_assignment_train_steps", "Steps of training in the present round", labels, steps)
    info = InfoMetricFamily("wattbed_assignment", "What a device is asked for in the present round", labels=labels)
    for name, a in asked:
        info.add_metric((name, a.device), {"precision": a.precision})
    yield info


def _closed(rounds: list[tuple[str, RoundTally]]) -> Iterator[Metric]:
    one, two = ("experiment",), ("experiment", "device")
    took = (((name,), r.seconds) for name, r in rounds)
    yield _gauge("wattbed_round_seconds", "How long the round that closed last was open", one, took)
    joules = (((name, *key), j) for name, r in rounds for key, j in _counted(list(r.joules.items())).items())
    yield _gauge(
        "wattbed_round_measured_joules",
        "Energy in the round that closed last; scopes overlap, so add up within one",
        (*two, "phase", "component", "scope", "quality"),
        joules,
    )
    seconds = (((name, *key), s) for name, r in rounds for key, s in list(r.phase_seconds.items()))
    yield _gauge("wattbed_round_measured_seconds", "Time in the round that closed last", (*two, "phase"), seconds)
    # Only of assignments of this very round: in an asynchronous run a device may still be at an older one.
    asked = [(name, a) for name, r in rounds for a in list(r.assignments.values()) if a.round == r.round]
    predicted = (((name, a.device), a.predicted.joules) for name, a in asked)
    yield _gauge(
        "wattbed_round_predicted_joules", "Energy as predicted for the round that closed last", two, predicted
    )
    predicted = (((name, a.device), a.predicted.seconds) for name, a in asked)
    yield _gauge(
        "wattbed_round_predicted_seconds", "Time as predicted for the round that closed last", two, predicted
    )
    samples = (((name, a.device), float(a.predicted.samples)) for name, a in asked)
    yield _gauge(
        "wattbed_round_prediction_samples", "Earlier assignments that the prediction was made of", two, samples
    )
    wire = (((name, *key), float(b)) for name, r in rounds for key, b in list(r.wire_bytes.items()))
    yield _gauge(
        "wattbed_round_wire_bytes",
        "Bytes on the wire for the round that closed last",
        (*two, "direction"),
        wire,
    )
    losses = (((name, device), loss) for name, r in rounds for device, loss in list(r.losses.items()))
    yield _gauge("wattbed_round_loss", "Training loss in the round that closed last", two, losses)
