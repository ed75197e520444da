"""From the updates of a round to the next model, a few updates in memory at a time.

    mean = sum_k (w_k / W) update_k        in the order of the devices' names, W = sum_k w_k

and then a step of the server's optimiser, which takes the mean for a gradient pointing uphill:

    FedAvg   (McMahan et al. 2017)               x += lr mean
    FedAvgM  (Hsu et al. 2019, section 4.3)      m = beta m + mean,  x += lr m
    FedAdam  (Reddi et al. 2021, algorithm 2)    m = beta1 m + (1 - beta1) mean
                                                 v = beta2 v + (1 - beta2) mean^2
                                                 x += lr m / (sqrt(v) + tau)

with m = 0 and v = tau^2 before the first round and no correction of bias, as in the papers. The order is
fixed, so that the model has the same bytes whatever the order of arrival. What is held is the running
sum and a few mapped payloads, however many devices there are; FedAdam adds its m and v. Where devices hold parts
of the model, coordinator.widths says what the mean is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

import quantizer
from coordinator.blobs import BlobStore, mapped_together
from coordinator.robust import Rules, combine
from coordinator.widths import WHOLE, Widths, add_each_over_its_own
from fleet.errors import BadRequest, CorruptUpdate
from fleet.experiment import FedAdam, FedAvg, FedAvgM
from quantizer import PayloadError
from workloads.narrow import Parts, cut

TOGETHER = 5
"""Payloads mapped at once: a piece of the sum stays in the cache while all of them are added to it."""

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]
Fill = Callable[[Arrays, float], None]


@dataclass(frozen=True)
class Weighted:
    """An update that counts: the blob of its payload in `blobs`, its weight in the mean, its width."""

    device: str
    blobs: BlobStore
    digest: str
    weight: float
    width: float = 1.0


@dataclass(frozen=True)
class Aggregated:
    """A new model, and the blob of what its optimiser remembers."""

    model_sha256: str
    model_bytes: int
    optimizer_state: str | None


def aggregate(
    blobs: BlobStore,
    model_sha256: str,
    updates: Sequence[Weighted],
    server: FedAvg | FedAvgM | FedAdam,
    optimizer_state: str | None,
    rules: Rules | None = None,
    instead: Fill | None = None,
    noise: Fill | None = None,
    widths: Widths = WHOLE,
    *,
    last: bool = False,
) -> Aggregated:
    """The model after `updates`, written to `blobs` at 32 bits; `optimizer_state` is the last call's, or None.

    rules: how the updates become one if not by their mean. instead: what fills zeros of the model's shapes with a
    factor times the mean, in place of the updates. noise: what adds noise to it, times that factor. widths: what
    updates of each width hold; the mean is the only rule for such. last: no round follows, so that the running
    mean of the models, where the server keeps one, takes the model's place.

    BadRequest where the weights are not positive numbers; UnknownBlob; CorruptUpdate where a payload does
    not fit the model or the new model is not finite; StorageFull. After an error the same call may be
    made again: it writes the same blobs.
    """
    scale = server.lr if isinstance(server, FedAvg) else 1.0
    model = Weighted("the model", blobs, model_sha256, 1.0)
    sums = {name: np.zeros(shape, np.float32) for name, shape in shapes(blobs, model_sha256).items()}
    added = [model]
    if any(u.width in widths for u in updates):
        if instead is not None or noise is not None or (rules is not None and rules.combines):
            raise BadRequest(
                "updates of parts of the model can only be averaged: no median, no secure sum, no noise"
            )
        mean, shares = _mean(updates, scale, rules), [u.weight for u in _mean(updates, 1.0, None)]
        add_each_over_its_own(mean, shares, widths, sums, _add)
    elif instead is not None:
        instead(sums, scale)
    elif rules is not None and rules.combines:
        combine(updates, rules, scale, sums)
    elif noise is None and isinstance(server, FedAvg):
        added = [*_mean(updates, scale, rules), model]  # in one pass
    else:
        _add(_mean(updates, scale, rules), sums)
    if noise is not None:
        noise(sums, scale)
    state = None  # FedAvg: the mean is the step, its lr in the scale
    if not isinstance(server, FedAvg):
        state = _server_step(blobs, sums, server, optimizer_state)
    _add(added, sums)
    if isinstance(server, FedAvg) and server.ema is not None:
        state = _running_mean(blobs, sums, server.ema, optimizer_state, last)
    sha256, size_bytes = _write(blobs, sums, 32, seed=0, what="the new model")
    return Aggregated(sha256, size_bytes, state)


def prepare(
    blobs: BlobStore, model_sha256: str, bits_down: int, seed: int, block_size: int, parts: Parts | None = None
) -> tuple[str, int]:
    """sha256 and bytes of the model, or its `parts`, as devices download it; whole and at 32 bits it is itself."""
    if bits_down == 32 and parts is None:
        return model_sha256, blobs.size(model_sha256)
    with blobs.mapped(model_sha256) as payload:
        model = cut(quantizer.decode(payload, verify=False), parts)
    return _write(blobs, model, bits_down, seed=seed, block_size=block_size, what="the model to download")


def shapes(blobs: BlobStore, model_sha256: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's tensors; UnknownBlob."""
    with blobs.mapped(model_sha256) as payload:
        return {t.name: t.shape for t in quantizer.read_header(payload).tensors}


def check_update(blobs: BlobStore, digest: str, model_shapes: Shapes) -> None:
    """CorruptUpdate unless the blob is an undamaged payload of just these tensors, all finite; UnknownBlob."""
    with blobs.mapped(digest) as payload:
        try:
            quantizer.check(payload, model_shapes, verify=True)
        except PayloadError as error:
            raise CorruptUpdate(f"update {digest}: {error}") from error


def _mean(updates: Sequence[Weighted], scale: float, rules: Rules | None) -> list[Weighted]:
    """The terms of `scale` times the weighted mean, in the order in which they are added."""
    total = math.fsum(u.weight for u in updates)
    if not (all(u.weight > 0 for u in updates) and 0 < total < math.inf):
        raise BadRequest(f"a mean needs weights that are positive and finite, not {_weights(updates)}")
    ordered = sorted(updates, key=lambda u: (u.device, u.digest))
    factors = [1.0 if rules is None else rules.factor(u.device) for u in ordered]
    return [
        replace(u, weight=scale * factor * u.weight / total) for u, factor in zip(ordered, factors, strict=True)
    ]


def _add(terms: Sequence[Weighted], sums: Arrays) -> None:
    """sums += weight * payload of each of `terms`, one after the other; TOGETHER of them are mapped at once."""
    for start in range(0, len(terms), TOGETHER):
        group = terms[start : start + TOGETHER]
        with mapped_together([(t.blobs, t.digest) for t in group]) as payloads:
            try:
                quantizer.add_many_to(payloads, [t.weight for t in group], sums)
            except PayloadError as error:
                raise CorruptUpdate(f"update {_culprit(group, payloads, sums)}: {error}") from error


def _culprit(group: Sequence[Weighted], payloads: Sequence[memoryview], sums: Arrays) -> str:
    """The first of `group` that cannot be added."""
    for term, payload in zip(group, payloads, strict=True):
        try:
            quantizer.check(payload, {name: x.shape for name, x in sums.items()}, verify=False)
        except PayloadError:
            return f"{term.digest} of {term.device}"
    return f"of one of {', '.join(t.device for t in group)}"


def _weights(updates: Sequence[Weighted]) -> str:
    return ", ".join(f"{u.device}: {u.weight}" for u in updates) or "none at all"


def _running_mean(blobs: BlobStore, model: Arrays, ema: float, mean_so_far: str | None, last: bool) -> str:
    """The blob of ema * mean so far + (1 - ema) * `model`; the `last` model becomes that mean itself."""
    running = model
    if mean_so_far is not None:
        running = {name: np.float32(1 - ema) * x for name, x in model.items()}
        with blobs.mapped(mean_so_far) as payload:
            quantizer.add_to(payload, ema, running)
    sha256, _ = _write(blobs, running, 32, seed=0, what="the running mean of the models")
    if last:
        model |= running
    return sha256


def _server_step(blobs: BlobStore, mean: Arrays, server: FedAvgM | FedAdam, optimizer_state: str | None) -> str:
    """Makes of `mean`, in its own memory, what to add to the model; the blob of the optimiser's new state."""
    match server:
        case FedAvgM():
            if optimizer_state is not None:
                with blobs.mapped(optimizer_state) as velocity:
                    quantizer.add_to(velocity, server.momentum, mean)
            state, _ = _write(blobs, mean, 32, seed=0, what="the server's momentum")
        case FedAdam():
            moments = _adam(blobs, mean, server, optimizer_state)
            state, _ = _write(blobs, moments, 32, seed=0, what="the server's moments")
            for name, x in mean.items():
                np.add(np.sqrt(moments[f"v/{name}"]), server.tau, out=x)
                np.divide(moments[f"m/{name}"], x, out=x)
    for x in mean.values():
        np.multiply(x, server.lr, out=x)
    return state


def _adam(blobs: BlobStore, mean: Arrays, server: FedAdam, optimizer_state: str | None) -> Arrays:
    """The new moments: tensors m/NAME and v/NAME for each NAME of the model."""
    if optimizer_state is None:
        moments = {f"m/{name}": np.zeros_like(x) for name, x in mean.items()}
        moments |= {f"v/{name}": np.full_like(x, server.tau**2) for name, x in mean.items()}
    else:
        with blobs.mapped(optimizer_state) as payload:
            moments = quantizer.decode(payload, verify=False)
    for name, x in mean.items():
        m, v = moments[f"m/{name}"], moments[f"v/{name}"]
        m *= server.beta1
        m += (1 - server.beta1) * x
        v *= server.beta2
        v += (1 - server.beta2) * np.square(x)
    return moments


def _write(
    blobs: BlobStore, tensors: Arrays, bits: int, *, seed: int, what: str, block_size: int = quantizer.BLOCK_SIZE
) -> tuple[str, int]:
    """`tensors` as a blob: its sha256 and bytes. CorruptUpdate names `what` is not finite."""
    try:
        with blobs.create() as sink:
            sink.digest = quantizer.encode_to(sink, tensors, bits, seed=seed, block_size=block_size)
    except ValueError as error:
        raise CorruptUpdate(f"{what} cannot be kept: {error}") from error
    return sink.digest, sink.size_bytes
