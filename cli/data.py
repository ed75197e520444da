"""Data sets: which there are on this machine, and fetching those there are not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import BadRequest, DataCorrupt, DataMissing

PUBLISHERS = {
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "cifar-10": "https://www.cs.toronto.edu/~kriz",
}
"""Where the publishers' own pages say the files lie. Checksums decide, so plain http does no harm."""


@dataclass(frozen=True)
class Found:
    """A data set. `problem` None: it was read in full and is sound."""

    name: str
    detail: str
    problem: str | None


def found(folder: Path | None) -> Iterator[Found]:
    """Every data set wattbed knows, looked for below `folder` and where it is installed by the system."""
    from workloads import data

    for name, kind in data.KINDS.items():
        shape = f"{kind.side}x{kind.side}x{kind.channels}, {kind.classes} classes"
        try:
            sets = data.read(name, folder)
        except (DataMissing, DataCorrupt) as error:
            yield Found(name, shape, str(error))
        else:
            counts = f"{len(sets.train.images):,} + {len(sets.held_out.images):,} images"
            yield Found(name, f"{counts}, {shape}", None)


def get(name: str, source: str | None, folder: Path, progress: Callable[[str, int, int | None], None]) -> Path:
    """Fetches a data set from `source`, or from its publisher; the folder it is in, below `folder`.

    `progress(file, bytes done, bytes in all)` is called as it goes. BadRequest for a name not to be fetched.
    """
    from workloads.fetch import fetch

    base_url = source or PUBLISHERS.get(name)
    if base_url is None:
        raise BadRequest(f"no data set {name!r} to fetch; known are {', '.join(PUBLISHERS)}")
    return fetch(name, base_url, folder, progress)
