"""Constants of each device fitted to what it was measured to spend, and what they predict.

Per device: seconds and joules of a training step by width, precision and clock, of encoding, and of a byte up and
down; what an assignment costs however little it does; the link's rate and idle watts; and for the fleet
bytes and quality against bits. Every number says whether it is fitted, from a calibration or a preset, from how
many samples, and how far these lie from it.
"""

from optimizer.fitting.constants import Constant, constants
from optimizer.fitting.device import Cost, DeviceFit, PhaseCost
from optimizer.fitting.fleet_fit import FleetFit
from optimizer.fitting.quality import QualityFit
from optimizer.fitting.sample import PHASES, Choice, Setting
from optimizer.fitting.start import Job, Known

__all__ = [
    "PHASES",
    "Choice",
    "Constant",
    "Cost",
    "DeviceFit",
    "FleetFit",
    "Job",
    "Known",
    "PhaseCost",
    "QualityFit",
    "Setting",
    "constants",
]
