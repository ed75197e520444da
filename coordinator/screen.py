"""What devices say is looked at before it counts: nobody here is trusted to say what the code of an agent would.

An update is a whole, undamaged payload of just the model's tensors, coded as its assignment asked for, with finite
values and a norm that the experiment allows. The numbers in a message are numbers: NaN in a ledger would make
every total NaN.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from statistics import median
from typing import Any

import quantizer
from coordinator.blobs import BlobStore
from coordinator.machine import Run
from fleet.domain import Assignment, PhaseMeasured, UpdateHeader
from fleet.errors import BadRequest, CorruptUpdate, StrangerUpdate, TooMuch
from fleet.experiment import QuantizerSection
from quantizer import PayloadError, ring
from quantizer.codecs import chosen

SPARE_BYTES = 1 << 20
WINDOWS = 1000
"""Windows of energy that one assignment may report; an agent sends one per phase and attempt."""

LONGEST_REASON = 2000


@dataclass(frozen=True)
class Due:
    """What an update has to be. `max_norm` None: its norm may be anything; `measured`: it has to be known.

    masked: it is this ring payload, about whose values nothing can be known.
    """

    shapes: Mapping[str, tuple[int, ...]]
    bits: int
    coding: QuantizerSection
    max_norm: float | None
    measured: bool
    masked: ring.Ring | None = None


def due(run: Run, assignment: Assignment, shapes: Mapping[str, tuple[int, ...]]) -> Due:
    """What `run` asks of the update of `assignment`, now."""
    rules = run.experiment.aggregation
    return Due(
        shapes,
        assignment.bits_up,
        run.experiment.quantizer,
        max_norm(run),
        (rules is not None and rules.needs_norms) or run.experiment.differential is not None,
        _masked(run, assignment, shapes) if run.experiment.secure else None,
    )


def _masked(run: Run, assignment: Assignment, shapes: Mapping[str, tuple[int, ...]]) -> ring.Ring:
    bits = assignment.bits_up
    return ring.Ring(bits, ring.ring_bits(bits, run.asked), sum(math.prod(shape) for shape in shapes.values()))


def max_norm(run: Run) -> float | None:
    """The largest L2 norm that an update of `run` may have now: by its cap, and by the norms of earlier rounds."""
    rules = run.experiment.aggregation
    if rules is None:
        return None
    limits = [] if rules.max_norm is None else [rules.max_norm]
    if rules.max_times_median is not None and run.norms:
        limits.append(rules.max_times_median * median(run.norms))
    return min(limits, default=None)


def screen(blobs: BlobStore, digest: str, due: Due) -> float | None:
    """The norm of an update that may count, None where nobody needs it; CorruptUpdate says why it may not."""
    with blobs.mapped(digest) as payload:
        try:
            if due.masked is not None:
                found = ring.read_ring(payload, verify=True)
                if found != due.masked:
                    raise CorruptUpdate(f"update {digest}: it is {found}; asked for was {due.masked}")
                return None
            if due.measured:
                norm = quantizer.norm(payload, due.shapes, verify=True)
            else:
                quantizer.check(payload, due.shapes, verify=True)
                norm = None
            wrong = _coded_wrong(quantizer.read_header(payload), due)
        except PayloadError as error:
            raise CorruptUpdate(f"update {digest}: {error}") from error
    if wrong:
        raise CorruptUpdate(f"update {digest}: {wrong}")
    if norm is not None and due.max_norm is not None and norm > due.max_norm:
        raise CorruptUpdate(f"update {digest}: its norm is {norm:g}; at most {due.max_norm:g} is allowed")
    return norm


def _coded_wrong(header: quantizer.Header, due: Due) -> str | None:
    """How the coding differs from what was asked for, or None."""
    how = chosen(due.coding.codec, due.bits)
    found, asked = [header.bits, header.how.name, header.keep], [due.bits, how.name, due.coding.keep]
    names = ["bits", "codec", "share of values kept"]
    if how.per_block and how.block_sizes != (0,):
        names, found, asked = [*names, "block size"], [*found, header.block_size], [*asked, due.coding.block_size]
    if due.coding.entropy != "auto":
        names, found = [*names, "entropy stage"], [*found, "on" if header.entropy else "off"]
        asked.append(due.coding.entropy)
    different = [f"{n} {f} instead of {a}" for n, f, a in zip(names, found, asked, strict=True) if f != a]
    return "it is coded with " + ", ".join(different) if different else None


def header(run: Run, header: UpdateHeader) -> None:
    """BadRequest or TooMuch where the header of an update says what no agent would; before a byte is taken."""
    rules = run.experiment.aggregation
    if header.update_range is not None and header.update_range < 0:
        raise BadRequest(f"the update of {header.device} is said to span {header.update_range:g}")
    agreed = run.keys.attempt if run.keys else ""
    if run.experiment.secure and (not agreed or header.attempt != agreed):
        raise StrangerUpdate(
            f"the update of {header.device} is masked with keys {header.attempt[:40]!r}; "
            f"agreed on for round {header.round} of run {run.run} are {agreed!r}"
        )
    if header.samples < 1:
        raise BadRequest(f"the update of {header.device} was trained on {header.samples} samples")
    if rules and rules.max_samples is not None and header.samples > rules.max_samples:
        raise TooMuch(
            f"the update of {header.device} claims {header.samples:,} samples; "
            f"at most {rules.max_samples:,} are taken"
        )
    most_bytes = largest_update_bytes(run.model_bytes)
    if header.size_bytes > most_bytes:
        raise TooMuch(
            f"the update of {header.device} announces {header.size_bytes:,} bytes; at most {most_bytes:,} are "
            f"taken for a model of {run.model_bytes:,}"
        )


def largest_update_bytes(model_bytes: int) -> int:
    """What no codec exceeds: 4 bytes a value, with scales and places of the values; and a directory."""
    return 2 * model_bytes + SPARE_BYTES


def message(x: Any) -> None:
    """BadRequest where a number in `x`, or in what it holds, is NaN or infinite."""
    kind: Any = type(x)
    for name in _looked_at(kind):
        value = getattr(x, name)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise BadRequest(f"{type(x).__name__}.{name} is {value}")
        elif isinstance(value, tuple):
            for part in value:
                message(part)
                if isinstance(part, float) and not math.isfinite(part):
                    raise BadRequest(f"{type(x).__name__}.{name} holds {part}")
        else:
            message(value)


def measured(x: PhaseMeasured, windows: int) -> None:
    """BadRequest where no meter says such a thing of a window, or where `windows` of its assignment are known.

    The ledger's joules never go backwards.
    """
    message(x)
    if windows >= WINDOWS:
        raise BadRequest(f"{windows:,} windows of round {x.round} of {x.run} are known, and no more are taken")
    joules = [r.joules for r in x.readings if r.joules is not None]
    if x.seconds < 0 or any(j < 0 for j in joules):
        raise BadRequest(f"window {x.window[:80]!r} has {x.seconds:g} s and {joules} J: neither can be negative")


def reason(text: str) -> str:
    """What a device gives for a reason, of a length that a log can take."""
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + " ..."


@cache
def _looked_at(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()
