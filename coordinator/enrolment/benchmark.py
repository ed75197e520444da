"""A device that has joined is measured once, by a short calibration: it is known from its first round on."""

import uuid

from coordinator.events import CalibrationRequested
from coordinator.machine import State
from fleet.calibration_plans import at_joining

WITHIN_S = 600.0
"""A device that first attaches later than this after joining is measured by `wattbed calibrate` only."""


def first_benchmark(state: State, device: str) -> CalibrationRequested | None:
    """What to ask of a device that has just attached; None where it is known already, or is not to be measured."""
    enrolment = state.register.devices.get(device)
    if enrolment is None or not enrolment.benchmark or state.now_s > enrolment.at_s + WITHIN_S:
        return None
    if device in state.calibrated or device in state.calibrating:
        return None
    return CalibrationRequested(state.now_s, device, uuid.uuid4().hex, at_joining())
