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
    """Weighted mean of the updates, times `lr` (McMahan et al. 2017).

    ema: a running mean of the models, ema * before + (1 - ema) * model, is kept and is what the run ends with.
    """

    optimizer: Literal["fedavg"]
    lr: float = Field(gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)


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


class AggregationSection(Section):
    """How the updates of a round become one, and which are refused. Without it: the mean, weighted by samples.

    rule "median" and "trimmed-mean" are taken per coordinate and do not weigh (Yin et al. 2018); `trim` is the
    share of updates cut off at either end. clip_norm: an update of a larger L2 norm is scaled down to it. Refused
    is an update of a norm above `max_norm`, or above `max_times_median` times the median of the norms of earlier
    rounds, or that claims more than `max_samples`.
    """

    rule: Literal["mean", "median", "trimmed-mean"]
    trim: float | None = Field(default=None, gt=0, lt=0.5)
    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_times_median: float | None = Field(default=None, gt=1, allow_inf_nan=False)
    max_samples: int | None = Field(default=None, ge=1)

    @property
    def needs_norms(self) -> bool:
        """Whether the norm of each update has to be known."""
        return not (self.clip_norm is None and self.max_norm is None and self.max_times_median is None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.trim is not None) != (self.rule == "trimmed-mean"):
            raise ValueError('trim belongs to rule "trimmed-mean", which needs it')
        return self


class DifferentialSection(Section):
    """Client-level differential privacy (McMahan et al. 2018), with noise added by the coordinator.

    Each round takes each attached device with probability `sampling_rate`. Updates are clipped to the L2 norm
    `clip_norm` and added up without weights; their sum gets Gaussian noise of standard deviation
    `noise_multiplier` * `clip_norm` on every value, and is divided by the number of devices expected in a round.
    The privacy spent is reported as epsilon at `delta`.
    """

    clip_norm: float = Field(gt=0, allow_inf_nan=False)
    noise_multiplier: float = Field(gt=0, allow_inf_nan=False)
    sampling_rate: float = Field(gt=0, le=1)
    delta: float = Field(gt=0, lt=1)


class SecureSection(Section):
    """Secure aggregation (Bonawitz et al. 2017): the coordinator learns the sum of a round's updates and no other.

    Values are coded from -`clip_range` to `clip_range`, larger ones count as these. A round survives as long as
    `threshold` devices do. phase_s: how long each step of agreeing on keys, and of unmasking, may take.
    """

    threshold: int = Field(ge=2)
    clip_range: float = Field(gt=0, allow_inf_nan=False)
    phase_s: float = Field(gt=0, allow_inf_nan=False)


class PrivacySection(Section):
    """What is kept from the coordinator, and from those who see its models; see docs/privacy.md."""

    differential: DifferentialSection | None = None
    secure_aggregation: SecureSection | None = None


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
    aggregation: AggregationSection | None = None
    privacy: PrivacySection | None = None

    @property
    def differential(self) -> DifferentialSection | None:
        """Differential privacy, where it is asked for."""
        return self.privacy.differential if self.privacy else None

    @property
    def secure(self) -> SecureSection | None:
        """Secure aggregation, where it is asked for."""
        return self.privacy.secure_aggregation if self.privacy else None

    @model_validator(mode="after")
    def _private(self) -> Self:
        if not (self.differential or self.secure):
            return self
        if self.round.mode != "sync":
            raise ValueError('privacy needs rounds of mode "sync"')
        if self.quantizer.error_feedback:
            raise ValueError("privacy needs quantizer.error_feedback = false: residuals carry on what is clipped")
        rules = self.aggregation
        if rules and (rules.rule != "mean" or rules.clip_norm is not None):
            raise ValueError("privacy has a clip and a mean of its own: no other aggregation.rule, no clip_norm")
        if self.secure:
            self._secured(self.secure)
        return self

    def _secured(self, secure: SecureSection) -> None:
        if self.aggregation:
            raise ValueError("with secure aggregation nobody sees an update: [aggregation] cannot be done")
        if self.quantizer.codec != "fixed" or self.quantizer.keep < 1 or self.quantizer.entropy != "off":
            raise ValueError('secure aggregation needs quantizer.codec = "fixed", keep = 1 and entropy = "off"')
        if self.round.quorum < secure.threshold:
            raise ValueError(f"quorum {self.round.quorum} is less than the threshold {secure.threshold}")


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
