"""A short story of faults on the emulated testbed; tests/system/chaos has the one with processes. The seed decides."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from chaos import story
from chaos.containers import FAULTS, Containers

KINDS = ("gpu-workstation", "jetson-orin-nano", "mini-pc-n100", "raspberry-pi-5")
ROUNDS = 10
SEED = 1


@pytest.fixture
def bed(stack, tmp_path):
    """The containers of the testbed; whatever was done to them is mended afterwards, links too."""
    made = Containers(
        stack.engine, stack.project, stack.coordinator, stack.http.removeprefix("http://"), KINDS, tmp_path
    )
    yield made
    made.mend()
    for kind in sorted(made.unshaped):
        stack.shape(kind)
    stack.attached(len(KINDS))
    stack.until("healthy containers", made.healthy, 60)


async def test_whatever_is_killed_frozen_or_cut_the_run_ends_with_the_models_of_one_that_was_left_alone(bed, noop):
    experiment = noop("chaos", rounds=ROUNDS, train_steps=2, step_s=0.1)
    calm = await story.left_alone(bed, experiment)
    left = dict(FAULTS)
    while left:  # a fast machine ends a run before every fault had its turn
        outcome = await story.disturbed(bed, experiment, left, SEED, most=len(left))
        assert outcome.findings.broken == []
        assert (outcome.phase, outcome.models) == ("completed", calm)
        assert outcome.hurt.counts.total() > 0
        assert outcome.findings.acknowledged > 0
        assert outcome.scrapes > 0
        left = {name: fault for name, fault in left.items() if name not in outcome.hurt.counts}
