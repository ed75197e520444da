"""Which numbers of steps a plan may have."""

from cli.quality import STEPS
from coordinator.generation.placing import step_choices
from optimizer.generation.quality import QualityLaws, StepLaw, WidthLaw


def laws(*steps: int) -> QualityLaws:
    return QualityLaws(WidthLaw(10.0, 3.0, 1.0), StepLaw(steps, tuple(100.0 / s for s in steps)))


def test_laws_as_they_are_measured_leave_out_no_number_of_steps():
    assert step_choices(laws(*STEPS)) == list(range(1, 21))


def test_of_many_steps_those_measured_are_there_and_a_few_between():
    found = step_choices(laws(2, 10, 100))

    assert {2, 10, 100} < set(found)
    assert len(found) == 20
