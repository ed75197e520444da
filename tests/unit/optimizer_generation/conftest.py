"""Random quality laws, servers and requests that look like measured ones."""

from dataclasses import replace

import numpy as np
import pytest

from optimizer.generation.quality import BitsLaw, QualityLaws, StepErrors, StepLaw, WidthLaw
from optimizer.generation.serving import Offer, Place, Request, Server

WIDTHS = (0.25, 0.5, 0.75, 1.0)


def make_laws(seed=0, widths=WIDTHS, by_step=True):
    random = np.random.default_rng(seed)
    levels = tuple(np.linspace(0.02, 1, 10).tolist())
    decay, power = random.uniform(0.05, 0.6), random.uniform(0.5, 2)
    errors = tuple(
        tuple(float(0.01 * (1 + 5 * np.exp(-t / decay) * (w**-power - 1))) for w in widths) for t in levels
    )
    table = StepErrors(levels, widths, tuple(random.uniform(0.5, 1.5, 10).tolist()), errors)
    return QualityLaws(
        WidthLaw(4 + random.random(), random.uniform(1, 4), random.uniform(0.5, 2)),
        StepLaw((5, 10, 20, 30), (16.0, 9.0, 5.0, 4.16)),
        BitsLaw(random.uniform(0, 200)),
        table if by_step else None,
        margin=0.06 * (seed % 2),
    )


def make_server(name="a", speed=1.0, watts=5.0, widths=WIDTHS, **changes):
    each = tuple(0.05 / speed * (0.1 + 0.9 * w**2) for w in widths)
    fixed = (0.02 / speed,) * len(widths)
    offer = Offer(
        *("m", widths, fixed, each, tuple(watts * s for s in fixed), tuple(watts * s for s in each)),
        start_s=0.05,
        start_joules=0.05 * watts,
    )
    terms = {"place": Place.DEVICE, "offers": (offer,), "free_at_s": 0.0} | changes
    return Server(name, **terms)


def make_request(name="r", quality=12.0, deadline_at_s=60.0, images=1, **changes):
    return replace(Request(name, "m", images, quality, deadline_at_s), **changes)


@pytest.fixture(scope="session")
def laws():
    return make_laws


@pytest.fixture(scope="session")
def server():
    return make_server


@pytest.fixture(scope="session")
def request_for():
    return make_request
