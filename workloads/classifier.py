"""The classifier workload: a quantised convolutional network on real images, trained in parts by SGD.

Kim et al., "Green, Quantized Federated Learning over Wireless Networks" (arXiv 2207.09387), whose experiment this
is: weights and activations of n bits in training, shards by Dirichlet(0.1), judged by accuracy.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn import functional as F

from fleet.domain import Assignment, Evaluation, Metric, NetworkSize
from fleet.errors import BadRequest
from fleet.experiment import Section, parse
from quantizer import qat
from workloads import data, partition, training
from workloads.classifier_net import ConvNet, settle
from workloads.protocol import Outcome, Params, Shard
from workloads.size import network_size
from workloads.training import scaled


class Model(Section):
    """The network; see workloads.classifier_net.ConvNet. Published: 128, 64, 64, 32, 32 and 2000, 100."""

    channels: tuple[int, ...] = Field(min_length=1)
    pool: tuple[int, ...]
    hidden: tuple[int, ...]

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if wrong := [n for n in (*self.channels, *self.hidden) if n < 1]:
            raise ValueError(f"a layer of {wrong[0]} outputs")
        return self


class Training(Section):
    """SGD on each device; its momentum lives for one round, so devices send nothing but the model.

    Published: batch 32, lr 1e-3, momentum 0.9. Batch norm needs batches of two at least.
    """

    batch: int = Field(ge=2)
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)


class Judging(Section):
    """`held_out` images that nobody trained on, with batch norm as it is over the first `statistics` of training.

    batch: images at a time.
    """

    held_out: int = Field(ge=1)
    statistics: int = Field(ge=2)
    batch: int = Field(ge=2)


class Options(Section):
    """Everything that `workload.options` of an experiment says."""

    dataset: Literal["digits", "fashion-mnist", "cifar-10"]
    partition: partition.Partition
    model: Model
    training: Training
    evaluation: Judging

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.network("meta")
        return self

    def network(self, device: str = "cpu") -> ConvNet:
        """The network for this data set, its weights not drawn."""
        kind, m = data.KINDS[self.dataset], self.model
        with torch.device(device):
            return ConvNet((kind.channels, kind.side), kind.classes, m.channels, m.pool, m.hidden)


class ClassifierWorkload:
    """A convolutional classifier; see Options for what an experiment may choose.

    precision "fp32", or "bf16": weights, momentum and update stay float32, convolutions and matrix products run
    in bfloat16 (torch.autocast). "q1" to "q16": weights and activations of so many bits, simulated in float32
    (quantizer.qat), weights kept in [-1, 1]; each activation tensor has a reach of its own, where the paper clips
    to [-1, 1], so that devices at unlike precisions train one function. It has one width, 1.0. Same parameters,
    seed and number of threads: the same bits.
    """

    def __init__(self, options: Mapping[str, Any], data: Path | None) -> None:
        self._options = parse(Options, options, where="workload.options")
        self._folder = data

    @property
    def _data(self) -> data.DataSet:
        return data.read(self._options.dataset, self._folder)

    def check(self) -> None:
        """Reads the data set: DataMissing or DataCorrupt if that fails."""
        _ = self._data

    def network_size(self) -> NetworkSize:
        """See workloads.protocol.Sized."""
        net, kind = self._options.network().eval(), data.KINDS[self._options.dataset]
        image = torch.zeros(1, kind.channels, kind.side, kind.side)
        return network_size(net, lambda: net(image), image.numel(), self._options.training.batch)

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """An untrained network."""
        net = self._options.network()
        net.draw(torch.Generator().manual_seed(seed))
        return {name: p.detach().numpy() for name, p in net.named_parameters()}

    def train(
        self,
        params: dict[str, np.ndarray],
        shard: Shard,
        assignment: Assignment,
        progress: Callable[[int, float | None], None],
    ) -> Outcome:
        """Trains on batches drawn with replacement from the shard; `samples` is the size of the shard.

        BadRequest if `params` are not of this network, the shard does not exist, or the assignment asks for
        an unknown precision, a width other than 1 or no steps.
        """
        bits = training.training_bits(assignment.precision)
        training.check(shard, assignment)
        if assignment.width != 1.0:
            raise BadRequest(f"width {assignment.width}: the classifier has one width, 1.0")
        how, split = self._options.training, self._data.train
        mine = partition.cut(split.labels, shard.of, self._options.partition)[shard.index]
        net = self._load(params).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=how.lr, momentum=how.momentum)
        generator = torch.Generator().manual_seed(assignment.seed)
        running = qat.Quantised(net, bits, bits, generator, reach=None) if bits < 32 else net
        losses = []
        for step in range(assignment.train_steps):
            drawn = mine[torch.randint(len(mine), (how.batch,), generator=generator).numpy()]
            with torch.autocast("cpu", torch.bfloat16, enabled=assignment.precision == "bf16"):
                logits = running(scaled(split.images[drawn]))
            loss = F.cross_entropy(logits.float(), torch.from_numpy(split.labels[drawn]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if bits < 32:
                qat.clip(net)
            losses.append(loss.item())
            progress(step + 1, losses[-1])
        update = {n: p.detach().numpy() - params[n] for n, p in net.named_parameters()}
        return Outcome(update, samples=len(mine), loss=float(np.mean(losses)))

    def evaluate(self, params: Params, seed: int) -> Evaluation:
        """Accuracy and cross-entropy on held-out images. `seed` changes nothing: nothing is drawn."""
        net, how = self._load(params), self._options.evaluation
        typical = scaled(self._data.train.images[: how.statistics])
        settle(net, [part for part in torch.split(typical, how.batch) if len(part) > 1])
        images = scaled(self._data.held_out.images[: how.held_out])
        labels = torch.from_numpy(self._data.held_out.labels[: how.held_out])
        with torch.no_grad():
            logits = torch.cat([net(part) for part in torch.split(images, how.batch)])
        right = (logits.argmax(1) == labels).double().mean().item()
        over = f"over {len(labels)} held-out images, batch norm by {len(typical)} training images"
        return Evaluation(
            (
                Metric("accuracy", right, over),
                Metric("held_out_loss", F.cross_entropy(logits, labels).item(), f"cross-entropy {over}"),
            )
        )

    def _load(self, params: Params) -> ConvNet:
        net = self._options.network()
        training.put(params, net)
        return net
