"""Parts that the options of several policies are made of. What is left out is off; nothing else has a default."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from fleet.domain import NetworkSize
from fleet.experiment import BITS, PRECISIONS, SIMULATED_PRECISIONS, Section
from optimizer.fitting import Job


def _bits(value: int) -> int:
    if value not in BITS:
        raise ValueError(f"bits must be 1 to 16 or 32, not {value}")
    return value


def _precision(value: str) -> str:
    if value not in (*PRECISIONS, *SIMULATED_PRECISIONS):
        simulated = f"{SIMULATED_PRECISIONS[0]} to {SIMULATED_PRECISIONS[-1]}"
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, or {simulated}, not {value!r}")
    return value


Bits = Annotated[int, AfterValidator(_bits)]
Precision = Annotated[str, AfterValidator(_precision)]
Width = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1)]
Part = Annotated[float, Field(gt=0, le=1)]


class Menu(Section):
    """What may be chosen from.

    `frequencies` and `power_limits` are parts of the greatest that a device's lever allows; a device without the
    lever is left as it is, and 1.0 leaves every device as it is.
    """

    bits_up: tuple[Bits, ...] = Field(min_length=1)
    precisions: tuple[Precision, ...] = Field(min_length=1)
    widths: tuple[Width, ...] = Field(min_length=1)
    train_steps: tuple[Steps, ...] = Field(min_length=1)
    frequencies: tuple[Part, ...] = Field(default=(1.0,), min_length=1)
    power_limits: tuple[Part, ...] = Field(default=(1.0,), min_length=1)


class Training(Section):
    """The same without bits, for policies that compute them."""

    precisions: tuple[Precision, ...] = Field(min_length=1)
    widths: tuple[Width, ...] = Field(min_length=1)
    train_steps: tuple[Steps, ...] = Field(min_length=1)
    frequencies: tuple[Part, ...] = Field(default=(1.0,), min_length=1)
    power_limits: tuple[Part, ...] = Field(default=(1.0,), min_length=1)

    def menu(self, bits_up: tuple[int, ...]) -> Menu:
        """With these bits."""
        return Menu(**self.model_dump(), bits_up=bits_up)


class Explore(Section):
    """`share` of the rounds try, on every device, what of `menu` it has done least often; `seed` says which."""

    share: float = Field(ge=0, le=1)
    seed: int = Field(ge=0)
    menu: Menu


class Participation(Section):
    """A round takes `devices` of those it is offered: the "cheapest", or a seeded "sample"."""

    devices: int = Field(ge=1)
    by: Literal["cheapest", "sample"]
    seed: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _seeded(self) -> "Participation":
        if (self.by == "sample") != (self.seed is not None):
            raise ValueError('seed belongs to by = "sample", which needs one')
        return self


class NetworkSection(Section):
    """The network: parameters, MACs of a forward pass, outputs of all layers, inputs of a sample; the batch."""

    parameters: int = Field(ge=1)
    macs: float = Field(gt=0)
    outputs: int = Field(ge=1)
    inputs: int = Field(ge=1)
    batch: int = Field(ge=1)

    def size(self) -> NetworkSize:
        """The same as a workload says it."""
        return NetworkSize(self.parameters, self.macs, self.outputs, self.inputs, self.batch)

    def job(self) -> Job:
        """A step forward and backward takes three times the MACs of a forward pass [R: as arXiv 2403.04430]."""
        return Job(self.parameters, 3 * self.macs * self.batch)


class Demand(Section):
    """How much error an update may have: `rms` per value, in units of the model's values.

    of "device": each device's own, which `tolerances` may set by a device's name or kind. of "run": the mean of
    all devices' errors (equal weights) is held to it, and who pays more for bits sends fewer. `first_range` is
    what an update is taken to span until its device has said so.
    """

    of: Literal["device", "run"]
    rms: float = Field(gt=0)
    first_range: float = Field(gt=0)
    tolerances: dict[str, float] = Field(default={})

    @model_validator(mode="after")
    def _possible(self) -> "Demand":
        if self.of == "run" and self.tolerances:
            raise ValueError('tolerances belong to of = "device"')
        if wrong := [name for name, rms in self.tolerances.items() if not rms > 0]:
            raise ValueError(f"tolerances must be above zero: {', '.join(wrong)}")
        return self
