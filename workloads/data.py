"""Data sets of real images, read from the files their publishers ship. Nothing is downloaded here.

digits          8x8x1, 1,797 images of scikit-learn, part of the installation; every fifth is held out
fashion-mnist   28x28x1, 60,000 + 10,000 images, IDX files (Xiao et al. 2017), .gz or plain
cifar-10        32x32x3, 50,000 + 10,000 images, the "binary version" (Krizhevsky 2009)
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fleet.errors import DataCorrupt, DataMissing

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

FASHION = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "held_out": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}
CIFAR = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "held_out": ("test_batch.bin",),
}
CIFAR_PER_FILE = 10_000


@dataclass(frozen=True)
class Kind:
    """What the images of a data set are: square of `side` pixels with `channels`, in `classes` classes."""

    channels: int
    side: int
    classes: int


KINDS = {
    "digits": Kind(1, 8, 10),
    "fashion-mnist": Kind(1, 28, 10),
    "cifar-10": Kind(3, 32, 10),
}


@dataclass(frozen=True, eq=False)
class Split:
    """images: (N, H, W, C) uint8; labels: (N,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training split and one that is never trained on."""

    name: str
    train: Split
    held_out: Split


@cache
def read(name: str, folder: Path | None) -> DataSet:
    """The data set `name` (a key of KINDS), looked for below `folder` (WATTBED_DATA); read once per process.

    DataMissing says where it was looked for; DataCorrupt which file is not what it should be.
    """
    match name:
        case "digits":
            return _digits()
        case "fashion-mnist":
            return _fashion_mnist(folder)
        case "cifar-10":
            return _cifar_10(folder)
    raise ValueError(f"no data set {name!r}; known are {', '.join(KINDS)}")


def _digits() -> DataSet:
    from sklearn.datasets import load_digits

    source = load_digits()
    images = np.rint(source.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int64)
    held_out = np.arange(len(images)) % 5 == 4
    return DataSet(
        "digits", Split(images[~held_out], labels[~held_out]), Split(images[held_out], labels[held_out])
    )


def _fashion_mnist(folder: Path | None) -> DataSet:
    names = [name for images, labels, _ in FASHION.values() for name in (images, labels)]
    places = [*_places(folder, "fashion-mnist"), DEBIAN]
    files = _find("fashion-mnist", names, places, (".gz", ""), "apt install dataset-fashion-mnist, or ")
    splits = {}
    for split, (images, labels, count) in FASHION.items():
        splits[split] = Split(
            read_idx(files[images], (count, 28, 28))[..., None],
            _labels(files[labels], read_idx(files[labels], (count,))),
        )
    return DataSet("fashion-mnist", splits["train"], splits["held_out"])


def _cifar_10(folder: Path | None) -> DataSet:
    names = [name for files in CIFAR.values() for name in files]
    found = _find("cifar-10", names, _places(folder, "cifar-10-batches-bin"), ("",), "")
    splits = {}
    for split, files in CIFAR.items():
        parts = [read_cifar(found[name], CIFAR_PER_FILE) for name in files]
        splits[split] = Split(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))
    return DataSet("cifar-10", splits["train"], splits["held_out"])


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, which must have `shape`; gunzipped if it ends in .gz.

    IDX: two zero bytes, type 8, number of dimensions, each as big-endian uint32, then the values.
    """
    content = _content(path)
    header = 4 + 4 * len(shape)
    if len(content) < header:
        raise DataCorrupt(f"{path}: {len(content)} bytes, less than the {header} of its IDX header")
    magic, *found = struct.unpack_from(f">{1 + len(shape)}I", content)
    if magic != (expected := 0x800 + len(shape)):
        raise DataCorrupt(f"{path}: magic number {magic:#010x} instead of {expected:#010x}")
    if tuple(found) != shape:
        raise DataCorrupt(f"{path}: holds {tuple(found)} values instead of {shape}")
    if len(content) != header + prod(shape):
        raise DataCorrupt(f"{path}: {len(content)} bytes instead of {header + prod(shape)} for {shape}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_cifar(path: Path, count: int) -> Split:
    """The `count` images of a CIFAR-10 batch: per image a label byte, then 32x32 red, green, blue planes."""
    content, record = _content(path), 1 + 3 * 32 * 32
    if len(content) != count * record:
        raise DataCorrupt(f"{path}: {len(content)} bytes instead of {count * record} ({count} images of {record})")
    rows = np.frombuffer(content, np.uint8).reshape(count, record)
    images = np.ascontiguousarray(rows[:, 1:].reshape(count, 3, 32, 32).transpose(0, 2, 3, 1))
    return Split(images, _labels(path, rows[:, 0]))


def _labels(path: Path, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    if labels.max() > 9:
        raise DataCorrupt(f"{path}: label {labels.max()} of image {labels.argmax()} is not one of 0..9")
    return labels.astype(np.int64)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataCorrupt(f"{path}: cannot be gunzipped: {error}") from error
    except OSError as error:
        raise DataMissing(f"{path}: {error.strerror or error}") from error


def _places(folder: Path | None, name: str) -> list[Path]:
    return [] if folder is None else [folder / name, folder]


def _find(name: str, files: list[str], places: list[Path], endings: tuple[str, ...], how: str) -> dict[str, Path]:
    """Each of `files` with one of `endings`, all from the first of `places` that has them all."""
    for place in places:
        found = {f: p for f in files for e in reversed(endings) if (p := place / (f + e)).is_file()}
        if len(found) == len(files):
            return found
    looked = ", ".join(str(p) for p in places) or "nowhere, as WATTBED_DATA is not set"
    raise DataMissing(
        f"data set {name} needs {', '.join(files)}; looked in {looked}. "
        f"To get it: {how}wattbed data get {name} with WATTBED_DATA set to a folder"
    )
