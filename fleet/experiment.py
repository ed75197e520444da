"""An experiment: one TOML file, one question. A typo is an error that lists the keys there are.

Nothing that changes a result has a default here, but for settings that are off unless asked for.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleet.errors import BadExperiment

S = TypeVar("S", bound=BaseModel)

BITS = (*range(1, 17), 32)
"""Bit-widths an update can have."""

Codec = Literal["float32", "uniform", "minmax", "fixed", "sign", "float16", "bfloat16", "int8", "nf4", "fp4"]
"""Codecs of the quantizer, by name."""

PRECISIONS = ("fp32", "bf16")
"""Precisions of local training that hardware has."""

SIMULATED_PRECISIONS = tuple(f"q{n}" for n in range(1, 17))
"""Weights and activations at n bits, computed in float32: what a chip with such arithmetic would find."""


class Section(BaseModel):
    """A part of an experiment: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkloadSection(Section):
    """What is trained. `options` are checked by the workload itself."""

    name: str
    options: dict[str, Any]


class PolicySection(Section):
    """Who decides bits, precision, width and steps. `options` are checked by the policy itself."""

    name: str
    options: dict[str, Any]


class RoundSection(Section):
    """How a round is run.

    mode "sync": `devices` (+ `over_commit`) are sampled each round; it closes when `devices` updates
    are in, or early with `quorum` when all others are lost or failed, or at `deadline_s` with
    `quorum`. mode "async" (FedBuff): every free device works; `buffer` updates make a new model, and
    an update more than `max_staleness` models old is refused.

    A round opens once `min_devices` are attached. A device is lost when it has been away `lost_after_s`.
    After `max_failures` failed rounds in a row the run fails.
    """

    mode: Literal["sync", "async"]
    min_devices: int = Field(ge=1)
    devices: int = Field(ge=1)
    over_commit: int = Field(default=0, ge=0)
    quorum: int = Field(ge=1)
    deadline_s: float = Field(gt=0)
    lost_after_s: float = Field(default=10.0, gt=0)
    max_failures: int = Field(default=3, ge=1)
    buffer: int | None = Field(default=None, ge=1)
    max_staleness: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.quorum > self.devices:
            raise ValueError(f"quorum {self.quorum} is more than devices {self.devices}")
        if self.mode == "async" and (self.buffer is None or self.max_staleness is None):
            raise ValueError('mode "async" needs buffer and max_staleness')
        if self.mode == "sync" and (self.buffer is not None or self.max_staleness is not None):
            raise ValueError('buffer and max_staleness belong to mode "async"')
        if self.mode == "sync" and self.min_devices < self.quorum:
            raise ValueError(f"min_devices {self.min_devices} is less than quorum {self.quorum}")
        return self


class FedAvg(Section):
    """Weighted mean of the updates, times `lr` (McMahan et al. 2017)."""

    optimizer: Literal["fedavg"]
    lr: float = Field(gt=0)


class FedAvgM(Section):
    """FedAvg with server momentum (Hsu et al. 2019)."""

    optimizer: Literal["fedavgm"]
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)


class FedAdam(Section):
    """Adam on the mean update (Reddi et al. 2021); `tau` is its adaptivity."""

    optimizer: Literal["fedadam"]
    lr: float = Field(gt=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    tau: float = Field(gt=0)


ServerSection = Annotated[FedAvg | FedAvgM | FedAdam, Field(discriminator="optimizer")]


class QuantizerSection(Section):
    """How updates are coded, see docs/quantizer.md: values per scale, and whether devices keep a residual.

    codec: its name; without one uniform, sign at 1 bit, float32 at 32. keep: the share of values sent, the
    largest. entropy: whether the codes are compressed after.
    """

    block_size: int = Field(ge=8, le=1 << 20)
    error_feedback: bool
    codec: Codec | None = None
    keep: float = Field(default=1.0, gt=0, le=1)
    entropy: Literal["off", "auto", "on"] = "off"


class EvaluateSection(Section):
    """The model is evaluated before the first round, after every `every`-th and after the last."""

    every: int = Field(ge=1)


class Experiment(Section):
    """One question, ready to run."""

    name: str = Field(max_length=48, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(ge=0, lt=2**63)
    rounds: int = Field(ge=1)
    shards: int = Field(ge=1)
    workload: WorkloadSection
    policy: PolicySection
    round: RoundSection
    server: ServerSection
    quantizer: QuantizerSection
    evaluate: EvaluateSection


def read(path: Path) -> Experiment:
    """The experiment in the TOML file `path`; BadExperiment says which key of which file is wrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadExperiment(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadExperiment(f"{path}: not TOML: {error}") from error
    return parse(Experiment, values, where=str(path))


def parse(cls: type[S], values: Any, where: str) -> S:
    """`values` as a `cls`; BadExperiment names each wrong key, and lists the known ones for an unknown key."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise BadExperiment(f"{where}: " + "; ".join(_explain(cls, e) for e in error.errors())) from None


def _explain(cls: type[BaseModel], error: Any) -> str:
    path = [str(p) for p in error["loc"]]
    key = ".".join(path) or "the file"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}; known are {', '.join(_known(cls, path[:-1]))}"
    if error["type"] == "missing":
        return f"missing key {key}"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], (dict, list)):
        return f"{key}: {message}"
    return f"{key} = {error['input']!r}: {message}"


def _known(cls: type[BaseModel], path: list[str]) -> list[str]:
    """Keys of the section that `path` leads to."""
    schema = cls.model_json_schema()
    node = schema
    for step in path:
        node = _resolve(schema, node)
        if step in node.get("properties", {}):
            node = node["properties"][step]
        elif step in node.get("discriminator", {}).get("mapping", {}):
            node = {"$ref": node["discriminator"]["mapping"][step]}
    return sorted(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node
