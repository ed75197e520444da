"""The recipes that bench/widths.py measures, and on which models."""

from dataclasses import dataclass

from fleet.generation import Recipe

COST = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
SAMPLER, OTHER, STEPS = "dpm++", "ddim", 20
FEWER_STEPS = (2, 3, 5, 8, 12)
CLAIM_IMAGES, LAW_IMAGES = 1000, 500


@dataclass(frozen=True)
class Case:
    """One measurement: of which model, by which recipe, of how many images, and what for."""

    model: str
    recipe: Recipe
    images: int
    purpose: str

    @property
    def key(self) -> str:
        """Its name."""
        widths = self.recipe.widths
        at = f"{widths[0]:g}" if len(set(widths)) == 1 else "/".join(f"{w:g}" for w in widths)
        how = f"{self.recipe.sampler} x{self.recipe.steps}, {self.recipe.bits} bits"
        return f"{self.model}: width {at}, {how}, n={self.images}"


def even(width: float, steps: int = STEPS, sampler: str = SAMPLER, bits: int = 32) -> Recipe:
    """One width for all steps."""
    return Recipe((width,) * steps, sampler, bits)


def stepped(*parts: tuple[float, int], sampler: str = SAMPLER) -> Recipe:
    """So many steps of each width, the noisiest first."""
    return Recipe(tuple(width for width, steps in parts for _ in range(steps)), sampler)


def cases(seeds: list[int], alone: tuple[float, ...]) -> list[Case]:
    """What the claims rest on, seed after seed; then what the laws of the first flexible model are fitted to."""
    claims = []
    for seed in seeds:
        for width in alone:
            claims.append(Case(f"flexible-1-{seed}", even(width), CLAIM_IMAGES, "claim"))
            claims.append(Case(f"alone-{width:g}-{seed}", even(width), CLAIM_IMAGES, "claim"))
    for width in (0.5, 1.0):
        claims.append(Case(f"mixed-1-{seeds[0]}", even(width), CLAIM_IMAGES, "claim"))
    model = f"flexible-1-{seeds[0]}"
    untrained = [even(width) for width in COST if width not in alone]
    return [
        *claims,
        *(Case(model, recipe, LAW_IMAGES, "laws") for recipe in recipes(alone)),
        *(Case(model, recipe, LAW_IMAGES, "between") for recipe in untrained),
    ]


def recipes(widths: tuple[float, ...]) -> list[Recipe]:
    """Along each line at first, of the `widths` that are trained; then what the laws have to predict."""
    lines = [even(width) for width in widths]
    lines += [even(1.0, steps) for steps in FEWER_STEPS]
    lines += [even(1.0, bits=bits) for bits in (3, 4, 5, 6, 8)]
    both = [even(width, steps) for width in (0.5, 0.75) for steps in (5, 8)]
    both += [even(0.5, bits=4), even(0.75, 8, bits=6)]
    schedules = [
        stepped((0.5, 10), (1.0, 10)),
        stepped((1.0, 10), (0.5, 10)),
        stepped((0.25, 7), (0.5, 7), (1.0, 6)),
        stepped((0.5, 4), (1.0, 4)),
    ]
    others = [even(1.0, steps, OTHER) for steps in (5, 12, STEPS)]
    others += [even(0.5, STEPS, OTHER), even(1.0, STEPS, "ddpm")]
    return lines + both + schedules + others


def quick_cases(model: str) -> list[Case]:
    """The least that laws can be fitted to."""
    few = [even(width, 3) for width in (0.25, 0.5, 1.0)] + [even(1.0, 2), even(1.0, 3, bits=4)]
    return [Case(model, recipe, 32, "laws") for recipe in few]
