"""A task may ask for watts and hertz: they hold while it trains, and its report says what came of them."""

from edge_agent.levers.duty import DutyCycle
from edge_agent.levers.request import DeviceLevers
from fleet.domain import Cancel, LeverInfo, LeverOutcome, Phase, PhaseMeasured


class Clock:
    """A host's lever that remembers what was done with it."""

    infos = (LeverInfo("cpufreq", "Hz", 4e8, 3e9),)

    def __init__(self):
        self.done = []

    def set(self, lever, value):
        self.done.append(value)
        return LeverOutcome(lever, value, value)

    def release(self):
        self.done.append("released")


def outcomes(fleet):
    return {w.phase: w.levers for w in fleet.said(PhaseMeasured)}


async def test_what_was_set_is_reported_with_the_training_and_put_back_after_it(
    fleet, workload, attach, make_task, params
):
    clock = Clock()
    fleet.tasks = [make_task(params, hertz=1e9)]
    await attach(levers=DeviceLevers(clock))
    await fleet.until(lambda: len(fleet.said(PhaseMeasured)) == 4)
    found = outcomes(fleet)
    assert (found.pop(Phase.TRAIN), set(found.values()), clock.done) == (
        (LeverOutcome("cpufreq", 1e9, 1e9),),
        {()},
        [1e9, "released"],
    )


async def test_a_device_without_levers_trains_and_says_that_it_has_none(
    fleet, workload, attach, make_task, params
):
    fleet.tasks = [make_task(params, hertz=1e9)]
    await attach()
    await fleet.until(lambda: len(fleet.said(PhaseMeasured)) == 4)
    assert outcomes(fleet)[Phase.TRAIN] == (
        LeverOutcome("frequency", 1e9, None, "this device has no lever in Hz"),
    )


async def test_a_cancelled_training_puts_levers_back(fleet, workload, attach, make_task, params):
    clock = Clock()
    workload.hold = True
    fleet.tasks = [make_task(params, hertz=1e9)]
    await attach(levers=DeviceLevers(clock))
    await fleet.until(lambda: workload.trained)
    fleet.push(Cancel("r1", 1, "the round is closed"))
    await fleet.until(lambda: clock.done == [1e9, "released"] and Phase.TRAIN in outcomes(fleet))
    assert outcomes(fleet)[Phase.TRAIN] == (LeverOutcome("cpufreq", 1e9, 1e9),)


async def test_an_emulated_device_trains_at_the_pace_it_was_asked_for(fleet, workload, attach, make_task, params):
    rests = []
    cpu_s = iter([0.0])
    duty = DutyCycle(1.0, 2e9, lambda: next(cpu_s, 3.0), lambda: sum(rests), rests.append)
    fleet.tasks = [make_task(params, hertz=1e9)]
    await attach(levers=DeviceLevers(duty=duty))
    await fleet.until(lambda: fleet.counted)
    assert sum(rests) == 6.0  # three seconds of CPU time on half a core


async def test_a_training_that_rests_still_notices_that_it_is_cancelled(
    fleet, workload, attach, make_task, params
):
    cpu_s = iter([0.0])
    duty = DutyCycle(1.0, 2e9, lambda: next(cpu_s, 1e9), lambda: 0.0, lambda seconds: None)  # rests for ever
    fleet.tasks = [make_task(params, hertz=1e9)]
    await attach(levers=DeviceLevers(duty=duty))
    await fleet.until(lambda: workload.trained)
    fleet.push(Cancel("r1", 1, "the round is closed"))
    await fleet.until(lambda: workload.stopped_by)
    assert workload.stopped_by == "Cancelled"
