"""A workload that only moves bytes, to measure everything but the training. Imports no torch."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from fleet.domain import Assignment, Evaluation
from fleet.experiment import Section, parse
from workloads.generating import Watch
from workloads.protocol import Outcome, Params, Shard


class Options(Section):
    """A model of `model_bytes` bytes of float32 in `tensors` tensors of as equal size as can be.

    `step_s` is how long a step of training sleeps.
    """

    model_bytes: int = Field(ge=4, multiple_of=4)
    tensors: int = Field(ge=1)
    step_s: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _enough(self) -> "Options":
        if self.tensors * 4 > self.model_bytes:
            raise ValueError(f"{self.model_bytes} bytes are too few for {self.tensors} tensors of float32")
        return self


class NoopWorkload:
    """Its update is the model it received: as many bytes, nothing computed. The server's lr keeps it in bounds."""

    def __init__(self, options: Mapping[str, Any], data: Path | None) -> None:
        self._options = parse(Options, options, where="workload.options")

    def check(self) -> None:
        """Runs everywhere."""

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """Standard normal values."""
        values = np.random.default_rng(seed).standard_normal(self._options.model_bytes // 4, np.float32)
        return {f"tensor{i:04}": part for i, part in enumerate(np.array_split(values, self._options.tensors))}

    def train(
        self,
        params: dict[str, np.ndarray],
        shard: Shard,
        assignment: Assignment,
        progress: Callable[[int, float | None], None],
    ) -> Outcome:
        """Reports its steps; a round makes the model grow by the server's lr."""
        for step in range(assignment.train_steps):
            if self._options.step_s:
                time.sleep(self._options.step_s)
            progress(step + 1, None)
        return Outcome(update=params, samples=1, loss=0.0)

    def evaluate(self, params: Params, seed: int) -> Evaluation:
        """There is nothing to know about it."""
        return Evaluation(metrics=())

    def painter(self, params: Params, bits: int) -> "NoopPainter":
        """Images of noise, in the time that training would take."""
        return NoopPainter(self._options.step_s)


@dataclass(frozen=True)
class NoopPainter:
    """Each step sleeps `step_s` times the square of its width; the images are the noise of their seeds."""

    step_s: float

    def paint(self, widths: Sequence[float], sampler: str, noise_seeds: Sequence[int], watch: Watch) -> np.ndarray:
        """See workloads.generating.Painter: uint8 (n, 8, 8, 1)."""
        noise = [np.random.default_rng(seed).integers(0, 256, (8, 8, 1), np.uint8) for seed in noise_seeds]
        images = np.stack(noise)
        for done, width in enumerate(widths, start=1):
            time.sleep(self.step_s * width * width)
            watch(done, lambda: images)
        return images
