"""Error feedback: what quantisation left out of one update goes into the next (Seide et al. 2014).

The sum of the decoded updates differs from the sum of the true ones by the last residual only, so it is
enough that residuals stay bounded. Let U bound |update|, and L = 2^(bits-1) - 1. A drawn step of `uniform` leaves
less than (U + residual) / L behind, which settles below U / (L - 1). At 2 bits, L = 1 and it would grow
with the rounds; there the nearer step is taken, which leaves at most half a step: at most U. What is biased needs
feedback for the mean to be right at all: signs and the largest values alone shrink the norm of what is left by a
factor below 1 (Karimireddy et al. 2019), floats and tables leave a share of each value. Two codes at the ends of
a block (`minmax` at 1 bit) have no such bound and are refused.
"""

import mmap
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from quantizer.codecs import chosen
from quantizer.decoder import decode
from quantizer.encoder import Entropy, encode_to, header_for, write
from quantizer.errors import PayloadError
from quantizer.output import Digest, HashedOutput, Sink
from quantizer.sources import sources

SUFFIX = ".residual"
RUN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


def encode_with_feedback(
    update: Mapping[str, np.ndarray],
    residual: Mapping[str, np.ndarray] | None,
    bits: int,
    *,
    seed: int,
    sink: Sink,
    block_size: int | None = None,
    codec: int | str | None = None,
    keep: float = 1.0,
    entropy: Entropy = "off",
    digest: Digest | None = None,
) -> tuple[str, dict[str, np.ndarray]]:
    """Writes update + residual to `sink` as a payload of float32; returns its hash in hex and the new residual.

    bits, seed, block_size, codec, keep, entropy, digest: as for `encode_to`.

    residual: what the last call gave, or None for zeros. The new one is update + residual - decoded, float32
    and of the update's shapes; zero at 32 bits. ValueError if a name or shape of the residual differs.
    """
    rounding = chosen(codec, bits).feedback(bits)
    if rounding is None:
        raise ValueError(
            f"codec {codec!r} has no error feedback at {bits} bits: its residuals would not stay bounded"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # becomes Inf or NaN and is refused by name
        corrected = _sum(update, residual)
    read = sources(corrected)
    header = header_for(read, bits, block_size, codec, keep, entropy, seed, rounding)
    output = HashedOutput(sink, digest)
    write(output, header, read, seed, rounding=rounding, errors=corrected)
    return output.digest.hexdigest(), corrected


def _sum(update: Mapping[str, np.ndarray], residual: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """update + residual in new contiguous float32 arrays."""
    if residual is None:
        return {name: np.array(tensor, np.float32, order="C") for name, tensor in update.items()}
    if residual.keys() != update.keys():
        names = sorted(residual.keys() ^ update.keys())
        raise ValueError(
            f"the residual is of another model: tensors {names} are in only one of residual and update"
        )
    for name, tensor in update.items():
        if residual[name].shape != tensor.shape:
            raise ValueError(
                f"tensor {name!r}: the residual has shape {residual[name].shape}, the update {tensor.shape}"
            )
    sums = {name: np.empty(tensor.shape, np.float32) for name, tensor in update.items()}
    for name, tensor in update.items():
        np.add(tensor, residual[name], out=sums[name], casting="same_kind")
    return sums


class Residuals:
    """Residuals on disk: one payload at 32 bits per run and round, each whole or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, run: str, round: int | None) -> dict[str, np.ndarray] | None:
        """The residual of `round`, or None if there is none. PayloadError names a damaged file."""
        path = self._path(run, round) if round is not None else None
        if path is None or not path.exists():
            return None
        try:
            if path.stat().st_size == 0:
                raise PayloadError("0 bytes")
            with path.open("rb") as file:
                return decode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except PayloadError as error:
            raise PayloadError(f"{path}: {error}") from None

    def save(self, run: str, round: int, residual: Mapping[str, np.ndarray]) -> None:
        """Keeps `residual` as that of `round`. After a crash the file is the old or the new one, whole."""
        path = self._path(run, round)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                encode_to(file, residual, 32, seed=0)
                file.flush()
                os.fsync(descriptor)
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def prune(self, run: str, before_round: int) -> None:
        """Forgets the residuals of rounds before `before_round`, and what a crash left half written."""
        for path in self._run(run).glob("*"):
            old = path.suffix == SUFFIX and path.stem.isdecimal() and int(path.stem) < before_round
            if old or path.suffix == ".part":
                path.unlink(missing_ok=True)

    def _run(self, run: str) -> Path:
        if not RUN.fullmatch(run):
            raise ValueError(f"run {run!r} cannot name a folder; it must match {RUN.pattern}")
        return self._folder / run

    def _path(self, run: str, round: int) -> Path:
        if round < 0:
            raise ValueError(f"round {round} is negative")
        return self._run(run) / f"{round}{SUFFIX}"


def _sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
