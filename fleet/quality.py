"""What the images of a model are worth, by how they were made: measurements, before any law is fitted to them."""

from dataclasses import dataclass

from fleet.generation import Recipe


@dataclass(frozen=True)
class QualityPoint:
    """`images` images made by `recipe`.

    error: the average error, root mean square difference on 0..255 from the images that the reference makes of the
    same noise; None where the sampler draws noise of its own. `seconds` and `macs` are of one image, all steps:
    the seconds of the machine that measured, MACs as counted.
    """

    recipe: Recipe
    images: int
    fid: float
    recall: float
    error: float | None
    seconds: float
    macs: int


@dataclass(frozen=True)
class NoiseErrors:
    """How well a network tells the noise, by noise level and width.

    levels: share of the steps of training done, rising (L,); betas, abars: of the schedule there. widths: rising
    (W,). errors: mean squared error of the predicted noise, L rows of W.
    """

    levels: tuple[float, ...]
    betas: tuple[float, ...]
    abars: tuple[float, ...]
    widths: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    images: int
