"""What wattbed asks of a workload whose models make images.

A workload that can says so by a method `painter`; diffusion is served by workloads.sampling.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from PIL import Image

from fleet.errors import BadRequest
from workloads import protocol
from workloads.protocol import Params

if TYPE_CHECKING:
    from workloads.ddpm import Sampler

Watch = Callable[[int, Callable[[], np.ndarray]], None]
"""Steps done, and what the images look like by now if asked: uint8 (n, H, W, C). What it raises ends the painting.
"""


class Painter(Protocol):
    """A model in memory, ready to make images."""

    def paint(self, widths: Sequence[float], sampler: str, noise_seeds: Sequence[int], watch: Watch) -> np.ndarray:
        """An image for each of `noise_seeds`, uint8 (n, H, W, C), of a width per step, the noisiest first.

        Calls `watch` after each step. The same seed gives the same image, whatever others are made with it.
        """


@runtime_checkable
class Paints(Protocol):
    """A workload whose models make images."""

    def painter(self, params: Params, bits: int) -> Painter:
        """A model with weights of `bits` bits (32: as they come); BadRequest where `params` are not of it."""


class DiffusionPainter:
    """The diffusion workload's models, by workloads.sampling."""

    def __init__(self, options: Mapping[str, Any], params: Params, bits: int) -> None:
        from workloads import sampling

        self._sampling = sampling
        self._model = sampling.load(options, params, bits=bits)

    def paint(self, widths: Sequence[float], sampler: str, noise_seeds: Sequence[int], watch: Watch) -> np.ndarray:
        """See Painter.paint."""

        def on_step(preview: Any) -> None:
            watch(preview.done, lambda: preview.images)

        images: np.ndarray = self._sampling.sample_seeds(
            self._model, tuple(widths), len(widths), cast("Sampler", sampler), noise_seeds, on_step=on_step
        )
        return images


def painter(name: str, options: Mapping[str, Any], params: Params, bits: int, data: Path | None) -> Painter:
    """A model of the workload called `name` in memory; BadRequest where such models make no images."""
    if name == "diffusion":
        return DiffusionPainter(options, params, bits)
    workload = protocol.load(name, options, data)
    if not isinstance(workload, Paints):
        raise BadRequest(f"models of workload {name!r} make no images")
    return workload.painter(params, bits)


def sheet_png(images: np.ndarray, columns: int) -> bytes:
    """PNG of uint8 (n, H, W, 1 or 3) images side by side, in rows of `columns`."""
    n, height, width, colours = images.shape
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, height, width, colours), np.uint8)
    cells[:n] = images
    sheet = cells.reshape(rows, columns, height, width, colours).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * height, columns * width, colours)
    out = io.BytesIO()
    Image.fromarray(sheet[..., 0] if colours == 1 else sheet).save(out, "png")
    return out.getvalue()


def noise_seeds(seed: int, images: int) -> list[int]:
    """The seeds of the noise of so many images of `seed`: the first k are the same for every number >= k."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(images, np.uint64) >> np.uint64(1)]
