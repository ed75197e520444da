"""The baseline every other policy is held against: the same settings in every round."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Annotated, Any

from pydantic import Field, field_validator

from fleet.experiment import BITS, PRECISIONS, SIMULATED_PRECISIONS, Section, parse
from optimizer.forecast import Forecast
from optimizer.policy import Candidate, Decision, Told

Width = Annotated[float, Field(gt=0, le=1)]


class FixedOptions(Section):
    """`bits_up` goes round the devices in the order of their names; the rest is the same for all.

    widths: what devices, or kinds of devices, can afford instead of `width`; a device's own name goes first.
    """

    bits_up: tuple[int, ...] = Field(min_length=1)
    bits_down: int
    precision: str
    width: Width
    widths: Mapping[str, Width] = Field(default_factory=dict)
    train_steps: int = Field(ge=1)

    @field_validator("precision")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in (*PRECISIONS, *SIMULATED_PRECISIONS):
            raise ValueError(f"precision must be {', '.join(PRECISIONS)} or q1 to q16, not {value!r}")
        return value

    @field_validator("bits_up", "bits_down")
    @classmethod
    def _supported(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        for bits in value if isinstance(value, tuple) else (value,):
            if bits not in BITS:
                raise ValueError(f"bits must be 1 to 16 or 32, not {bits}")
        return value

    def affords(self, candidate: Candidate) -> float:
        """The width that `candidate` trains."""
        of_kind = self.widths.get(candidate.capabilities.kind, self.width)
        return self.widths.get(candidate.device, of_kind)


class FixedPolicy:
    """Asks every candidate for the same work, at the bits of its place in the list."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = o = parse(FixedOptions, options, where="policy.options")
        self.widths = frozenset((o.width, *o.widths.values()))
        self._forecast = Forecast()

    def ask(self, round: int, candidates: Sequence[Candidate]) -> tuple[Decision, ...]:
        """See Policy. Predictions come from the same device's earlier rounds, before any from its calibration."""
        o = self._options
        return tuple(
            Decision(
                device=c.device,
                bits_up=bits_up,
                bits_down=o.bits_down,
                precision=o.precision,
                width=o.affords(c),
                train_steps=o.train_steps,
                predicted=self._forecast.predict(
                    c, bits_up, o.bits_down, o.affords(c), o.precision, o.train_steps
                ),
            )
            for c, bits_up in zip(candidates, cycle(o.bits_up), strict=False)
        )

    def tell(self, told: Told) -> None:
        """See Policy."""
        self._forecast.add(told)
