"""Requests for images on real processes: served, outliving kills of either side, refused when there are too many."""

import asyncio
import uuid
from dataclasses import replace

import pytest

from cli import requests
from cli.client import Operator
from fleet.generation import GenerationRequest, Placement, Recipe, RequestReport
from fleet.images import unpack

NAMES = ("agent-1", "agent-2", "agent-3")
RECIPE = Recipe((1.0,) * 5, "ddim")
STEP_S = 0.02


def asked(run, images=2, recipe=RECIPE, **settings):
    return GenerationRequest(uuid.uuid4().hex[:12], run, images, seed=7, recipe=recipe, **settings)


async def end_of(address, request, on_placed=None):
    """The last report of a request, and its images."""
    report = None
    async with Operator(address) as operator:
        async for news in requests.follow(operator, request):
            if isinstance(news, Placement) and on_placed:
                on_placed(news)
            if isinstance(news, RequestReport):
                report = news
        images = unpack(await requests.images_of(operator, report)) if report.digest else None
    return report, images


async def all_ends(address, burst):
    """The last report of each of many requests made at once, and the seconds it took."""
    clock = asyncio.get_running_loop().time
    async with Operator(address) as operator:

        async def one(request):
            began_s = clock()
            reports = [
                news async for news in requests.follow(operator, request) if isinstance(news, RequestReport)
            ]
            return reports[-1], clock() - began_s

        return await asyncio.gather(*(one(request) for request in burst))


async def trained(bed, step_s):
    """A finished run whose models make an image in five steps of `step_s`."""
    await bed.attached(*NAMES)
    bits = {"bits_up": [32], "bits_down": 32}
    experiment = bed.noop("painter", model_bytes=40_000, devices=3, rounds=1, step_s=step_s, **bits)
    run = await bed.begin(experiment)
    await bed.finished(run)
    for name in NAMES:  # what a step takes here is known from now on
        for steps in (5, 30):
            warm = asked(run, 1, replace(RECIPE, widths=(1.0,) * steps), where="device", device=name)
            await end_of(bed.address, warm)
    return run


@pytest.fixture(scope="module")
def served(testbed):
    """The testbed with a run whose models make images, shared by the tests of this file."""
    return testbed, asyncio.run(trained(testbed, STEP_S))


async def test_a_request_is_served_with_its_joules_and_the_same_seed_gives_the_same_images(served):
    bed, run = served
    report, images = await end_of(bed.address, asked(run, previews=2))
    again, same = await end_of(bed.address, asked(run, where="device", device="agent-2"))
    phases = {p.phase.value for p in report.phases}
    assert (report.status, images.shape, report.complete) == ("served", (2, 8, 8, 1), True)
    assert phases == {"generate", "upload"}  # the model was there and in memory
    assert all(r.joules is not None for p in report.phases for r in p.readings)
    assert (images == same).all()
    assert again.placement.device == "agent-2"


async def test_killing_the_device_that_serves_a_request_loses_no_request(served):
    bed, run = served
    killed = []

    def kill(placement):
        if not killed:
            killed.append(placement.device)
            bed.kill(placement.device)

    slow = replace(RECIPE, widths=(1.0,) * 60)
    report, images = await end_of(bed.address, asked(run, recipe=slow, within_s=60.0), kill)
    bed.start_agent(killed[0])
    await bed.attached(*NAMES)
    assert (report.status, report.tries, len(images)) == ("served", 2, 2)
    assert report.placement.device != killed[0]


async def test_a_coordinator_that_is_killed_goes_on_with_the_request_it_had(served):
    bed, run = served
    killed = []

    def kill(placement):
        if not killed:
            killed.append(placement)
            bed.kill("coordinator")
            bed.start_coordinator()

    slow = replace(RECIPE, widths=(1.0,) * 100)
    report, images = await end_of(bed.address, asked(run, recipe=slow), kill)
    assert (report.status, report.tries, report.placement.batch) == ("served", 1, killed[0].batch)


async def test_a_client_that_goes_away_takes_its_request_with_it(served):
    bed, run = served
    request = asked(run, recipe=replace(RECIPE, widths=(1.0,) * 4000))
    async with Operator(bed.address) as operator:
        async for news in requests.follow(operator, request):
            if isinstance(news, Placement):
                break
        status = "placed"
        async with asyncio.timeout(30):
            while status == "placed":
                await asyncio.sleep(0.1)
                status = {r.request.request: r.status for r in await requests.of_run(operator, run)}[
                    request.request
                ]
    quick, _ = await end_of(bed.address, asked(run, where="device", device=news.device))
    assert (status, quick.status) == ("cancelled", "served")


async def test_a_burst_beyond_capacity_is_refused_at_once_and_nothing_admitted_is_late(served):
    bed, run = served
    steps, within_s = 60, 8.0
    capacity = len(NAMES) * within_s / (steps * STEP_S)
    widths = [(1.0,) * steps + (0.1 + i / 1000,) for i in range(int(10 * capacity))]  # none shares another's batch
    ends = await all_ends(
        bed.address, [asked(run, images=1, recipe=replace(RECIPE, widths=w), within_s=within_s) for w in widths]
    )
    outcomes = [report.status for report, _ in ends]
    assert set(outcomes) == {"served", "refused"}
    assert outcomes.count("served") > 3
    assert not any(report.late for report, _ in ends)
    assert all(report.feasible.within_s > within_s for report, _ in ends if report.status == "refused")
    assert max(seconds for report, seconds in ends if report.status == "refused") < within_s
