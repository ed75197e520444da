"""The work of an assignment, without network and without an event loop: decode, train, encode."""

import json
import logging
import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

import quantizer
from edge_agent.masking import Attempt
from fleet.domain import Assignment, Task
from fleet.errors import BadExperiment
from fleet.masking import Masking
from quantizer import ring
from quantizer.feedback import Residuals, encode_with_feedback
from quantizer.span import live_range
from workloads import protocol
from workloads.protocol import Outcome, Shard, Workload

log = logging.getLogger(__name__)

Progress = Callable[[int, float | None], None]
"""Steps done, loss. Called after each step of training; what it raises ends the training."""


CODING_ATTEMPTS = 12
SHRINKING = 0.98
"""How much further an update is scaled down whose norm is above the clip once it is coded."""


@dataclass(frozen=True)
class Encoded:
    """An update ready to be sent."""

    path: Path
    digest: str
    size_bytes: int
    update_range: float | None


class Worker:
    """Keeps its workloads warm: one object per name and options, checked once."""

    def __init__(self, state: Path, data: Path | None) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._data = data
        self._update = state / "update"
        self._residuals = Residuals(state / "residuals")
        self._workloads: dict[tuple[str, str], Workload] = {}
        self._model: dict[str, np.ndarray] = {}

    def decode(self, path: Path) -> dict[str, np.ndarray]:
        """The model in the payload at `path`; at 32 bits as read-only views of the file, at fewer in the memory of
        the one before, which is spoiled.
        """
        with path.open("rb") as file:
            payload = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # The cache has checked all of it.
        model = quantizer.decode(payload, verify=False, views=True, into=self._model)
        self._model = {name: x for name, x in model.items() if x.flags.writeable}
        return model

    def train(self, task: Task, params: dict[str, np.ndarray], progress: Progress) -> Outcome:
        """Trains on this device's shard."""
        workload = self._workload(task)
        shard = Shard(task.assignment.shard, task.shards)
        return workload.train(params, shard, task.assignment, progress)

    def encode(self, task: Task, update: dict[str, np.ndarray]) -> Encoded:
        """Encodes `update` into the state folder, in place of the update before.

        With error feedback the residual of the last counted round is added first, and the new one is on
        disk when this returns: a round repeated after a crash gives the same bytes.
        """
        if task.masking is not None:
            return self._encode_to_add(task, update, task.masking)
        return self._encode(task, update)

    def _encode_to_add(self, task: Task, update: dict[str, np.ndarray], masking: Masking) -> Encoded:
        """The same in units of the common range, and of a norm that is at most the clip after coding too."""
        factor = 1 / masking.clip_range
        for _ in range(CODING_ATTEMPTS):
            encoded = replace(
                self._encode(task, {n: x * np.float32(factor) for n, x in update.items()}), update_range=None
            )
            if task.clip_norm is None:
                return encoded
            shapes = {name: x.shape for name, x in update.items()}
            norm = masking.clip_range * quantizer.norm(encoded.path.read_bytes(), shapes, verify=False)
            if norm <= task.clip_norm:
                return encoded
            factor *= (
                SHRINKING * (task.clip_norm / norm) ** 2
            )  # rounding by chance adds to the square, in proportion
        raise BadExperiment(
            f"an update coded with {task.assignment.bits_up} bits over a range of {masking.clip_range:g} stays "
            f"above the norm of {task.clip_norm:g}: give it more bits or a smaller clip_range"
        )

    def mask(self, encoded: Encoded, masking: Masking, keys: Attempt) -> Encoded:
        """The masked update, beside the one in `encoded`, which no one is to see."""
        payload = encoded.path.read_bytes()
        header = quantizer.read_header(payload)
        form = ring.Ring(header.bits, masking.ring_bits, header.values)
        path, digest = self._update.with_name("masked"), xxhash.xxh3_128()
        with path.open("wb") as sink:
            name = ring.write(sink, form, keys.mask(ring.codes(payload), masking), digest)
        return Encoded(path, name, form.payload_bytes, None)

    def _encode(self, task: Task, update: dict[str, np.ndarray]) -> Encoded:
        """Into the state folder."""
        a = task.assignment
        how: dict[str, Any] = {
            "seed": a.seed,
            "block_size": task.block_size,
            "codec": task.codec,
            "keep": task.keep,
            "entropy": task.entropy,
            "digest": xxhash.xxh3_128(),
        }
        corrected = task.error_feedback and a.bits_up < 32
        residual = fitting(self._residual(a), update) if corrected else None
        span = live_range(update, residual, task.block_size)
        self._update.touch()
        with self._update.open("r+b") as sink:
            if corrected:
                name, residual = encode_with_feedback(update, residual, a.bits_up, sink=sink, **how)
                self._residuals.save(a.run, a.round, residual)
                if a.residual_round is not None:
                    self._residuals.prune(a.run, a.residual_round)
            else:
                name = quantizer.encode_to(sink, update, a.bits_up, **how)
            sink.truncate()
        return Encoded(self._update, name, self._update.stat().st_size, span)

    def _residual(self, assignment: Assignment) -> dict[str, np.ndarray] | None:
        """The residual to start from. A damaged file costs quality, not the device: zeros, and a warning."""
        try:
            return self._residuals.load(assignment.run, assignment.residual_round)
        except quantizer.PayloadError as error:
            log.warning("error feedback starts anew: %s", error)
            return None

    def _workload(self, task: Task) -> Workload:
        key = (task.workload, task.options_json)
        if key not in self._workloads:
            workload = protocol.load(task.workload, _options(task), self._data)
            workload.check()
            self._workloads[key] = workload
        return self._workloads[key]


def fitting(residual: dict[str, np.ndarray] | None, update: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """`residual`, or None where it is of an update of another width: it belongs to other values."""
    if residual is None or all(n in residual and residual[n].shape == x.shape for n, x in update.items()):
        return residual
    log.info("error feedback starts anew: the update is of another width than the last one that counted")
    return None


def _options(task: Task) -> dict[str, Any]:
    try:
        options = json.loads(task.options_json)
    except ValueError as error:
        raise BadExperiment(f"options of workload {task.workload!r} are not JSON: {error}") from None
    if not isinstance(options, dict):
        raise BadExperiment(f"options of workload {task.workload!r} are a {type(options).__name__}, not a table")
    return options
