"""Features to compare sets of images by: the last hidden layer of a small classifier of the same data.

The classifier is trained on the real training split with a fixed seed, once per machine, and kept in the
user's cache folder under the hash of this file and of the data. Its features are NOT those of Inception:
numbers computed with them compare only with others of the same name.
"""

import hashlib
import io
import logging
import os
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.data import KINDS, DataSet, Split

VERSION = 1
"""Raised whenever the features change; part of the name beside every number."""

FEATURES = 64
SEED = 20_240_229
EPOCHS = {"digits": 30, "fashion-mnist": 3, "cifar-10": 6}
BATCH = 128


class Classifier(nn.Module):
    """Two convolutions, a hidden layer of `num_features`, and the classes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        kind = KINDS[name]
        self.name = name
        self.num_features = FEATURES
        self.conv1 = nn.Conv2d(kind.channels, 16, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.hidden = nn.Linear(32 * (kind.side // 4) ** 2, FEATURES, bias=False)
        self.classes = nn.Linear(FEATURES, kind.classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) uint8. Returns features (N, 64), none negative."""
        x = images.float() / 127.5 - 1
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.hidden(x.flatten(1)))


@dataclass(frozen=True)
class Extractor:
    """A trained classifier with the name and the accuracy on held-out images to say beside its numbers."""

    net: Classifier
    name: str
    accuracy: float

    def __call__(self, images: np.ndarray) -> Tensor:
        """images: (N, H, W, C) uint8. Returns (N, 64) float64."""
        with torch.no_grad():
            return torch.cat([self.net(part) for part in torch.split(tensor(images), 1000)]).double()


def tensor(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) as uint8 (N, C, H, W)."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


@cache
def classifier(data: DataSet) -> Extractor:
    """The classifier of `data`: of this process, from the cache folder, or trained now and kept there."""
    net = Classifier(data.name)
    key = hashlib.sha256(Path(__file__).read_bytes())
    for split in (data.train, data.held_out):
        key.update(split.images.data)
        key.update(split.labels.data)
    path = cache_folder() / f"features-{data.name}-{key.hexdigest()[:16]}.npz"
    if not _restore(net, path):
        train(net, data.train)
        _keep(net, path)
    return Extractor(net, f"wattbed classifier {data.name} v{VERSION}", accuracy(net, data.held_out))


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/wattbed, or ~/.cache/wattbed."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wattbed"


def train(net: Classifier, split: Split) -> None:
    """Draws fresh weights and trains them on `split` with Adam, in place; all that is random is seeded."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for layer in (net.conv1, net.conv2, net.hidden, net.classes):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
    images, labels = tensor(split.images), torch.from_numpy(split.labels)
    steps = EPOCHS[net.name] * -(-len(labels) // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(EPOCHS[net.name]):
        for batch in torch.split(torch.randperm(len(labels), generator=generator), BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net.classes(net(images[batch])), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()


def accuracy(net: Classifier, split: Split) -> float:
    """Share of `split` that is classified rightly."""
    with torch.no_grad():
        guesses = [net.classes(net(part)).argmax(1) for part in torch.split(tensor(split.images), 1000)]
    return float((torch.cat(guesses).numpy() == split.labels).mean())


def _restore(net: Classifier, path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as file:
            net.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False  # not there yet, or broken: it is trained anew
    return True


def _keep(net: Classifier, path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: p.numpy() for name, p in net.state_dict().items()})
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
    except OSError as error:
        logging.getLogger(__name__).warning("%s: not kept, so trained again next time: %s", path, error)
