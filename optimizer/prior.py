"""What an assignment will cost a device that did nothing like it yet, from its calibration.

    seconds = s_train * steps + s_encode * MB + s_send * MB * bits_up / 32 + s_receive * MB * bits_down / 32

and the same for joules, where MB is the model as float32 values. Joules are of one quality and one scope: the best
quality that all four rows have. A width or precision that was not calibrated gets no number; the cost of encoding
at other bits lies on the line between those that were.
"""

from collections.abc import Sequence

import numpy as np

from fleet.calibration import Calibration, CalibrationRow, UnitJoules, Work
from fleet.domain import Origin, Prediction
from fleet.energy import choose, total

MEGABYTE = 1e6


def predict(
    calibration: Calibration, bits_up: int, bits_down: int, width: float, precision: str, train_steps: int
) -> Prediction | None:
    """Seconds and joules of one assignment; None where the calibration lacks a row that it needs."""
    of = {work: [r for r in calibration.rows if r.work is work and r.repeats] for work in Work}
    train = next((r for r in of[Work.TRAIN] if (r.width, r.precision) == (width, precision)), None)
    if train is None or not all(of[w] for w in (Work.ENCODE, Work.SEND, Work.RECEIVE)):
        return None
    megabytes = calibration.model_bytes / MEGABYTE
    work = (
        (train, float(train_steps)),
        (_between(of[Work.ENCODE], bits_up), megabytes),
        (of[Work.SEND][0], megabytes * bits_up / 32),
        (of[Work.RECEIVE][0], megabytes * bits_down / 32),
    )
    windows = [[joules.reading(units) for joules in row.joules] for row, units in work]
    totals = [total(windows, choice) for choice in choose(windows).values()]
    best = next((t for t in totals if t.joules is not None and not t.missing), None)
    return Prediction(
        joules=None if best is None else best.joules,
        seconds=sum((row.seconds or 0.0) * units for row, units in work),
        origin=Origin.FITTED,
        samples=train.repeats,
        quality=None if best is None else best.quality,
        scope=None if best is None else best.scope,
    )


def _between(rows: Sequence[CalibrationRow], bits: int) -> CalibrationRow:
    """The cost of encoding at `bits`: a row as it is, or one on the line between its neighbours."""
    rows = sorted(rows, key=lambda r: r.bits or 0)
    xs = [float(r.bits or 0) for r in rows]
    if float(bits) in xs:
        return rows[xs.index(float(bits))]
    seconds = float(np.interp(bits, xs, [r.seconds or 0.0 for r in rows]))
    joules = tuple(_joules_between(rows, xs, bits, of) for of in rows[0].joules)
    return CalibrationRow(Work.ENCODE, rows[0].repeats, 1.0, seconds, bits=bits, joules=joules)


def _joules_between(rows: Sequence[CalibrationRow], xs: list[float], bits: int, of: UnitJoules) -> UnitJoules:
    same = [u.joules for r in rows for u in r.joules if (u.source, u.component) == (of.source, of.component)]
    known = [joules for joules in same if joules is not None]
    whole = len(known) == len(rows)
    joules = float(np.interp(bits, xs, known)) if whole else None
    return UnitJoules(of.source, of.component, of.scope, of.quality, joules)
