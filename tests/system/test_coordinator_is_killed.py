"""SIGKILL of the coordinator in every phase of a round, then a restart: the same round goes on."""

import asyncio
import json
import time

import pytest

AGENTS = ("agent-1", "agent-2", "agent-3")

MOMENTS = [
    ("RunStarted", ""),
    ("ModelInitialised", ""),
    ("ModelEvaluated", '"round":0'),
    ("RoundOpened", '"round":2'),
    ("BytesMoved", '"round":2'),
    ("EnergyMeasured", '"round":2'),
    ("UpdateReceived", '"round":2'),
    ("RoundClosed", '"round":2'),
    ("ModelAggregated", '"round":2'),
    ("ModelEvaluated", '"round":2'),
]


@pytest.fixture(scope="module")
def experiment(testbed):
    return testbed.noop("killed", model_bytes=6_000_000, devices=3)


@pytest.fixture(scope="module")
def undisturbed(testbed, experiment):
    async def story():
        await testbed.attached(*AGENTS)
        return await testbed.finished(await testbed.begin(experiment))

    return asyncio.run(story())


@pytest.mark.parametrize(("kind", "contains"), MOMENTS)
async def test_the_same_round_goes_on_to_the_same_model(testbed, experiment, undisturbed, kind, contains):
    await testbed.attached(*AGENTS)
    run = await testbed.begin(experiment)
    killed = await testbed.until(run, kind, contains)
    testbed.kill("coordinator")
    at_s = time.monotonic()
    testbed.start_coordinator()
    await testbed.attached(*AGENTS)
    await testbed.until(run, "ModelAggregated", '"round":2' if "2" in contains else '"round":1', 0)
    resumed_s = time.monotonic() - at_s
    report = await testbed.finished(run)
    story = await testbed.story(run)

    counted = [json.loads(e.json) for e in story if e.kind == "UpdateReceived"]
    assert [r.model_sha256 for r in report.rounds] == [r.model_sha256 for r in undisturbed.rounds]
    assert sorted((u["round"], u["device"]) for u in counted) == [(r, d) for r in (1, 2, 3) for d in AGENTS]
    assert [e.kind for e in story].count("RoundOpened") == 3
    assert [e.seq for e in story if e.seq <= killed.seq][-1] == killed.seq
    assert resumed_s < 10


async def test_killed_again_and_again_it_still_ends_with_the_same_model(testbed, experiment, undisturbed):
    await testbed.attached(*AGENTS)
    run, seq = await testbed.begin(experiment), 0
    for _ in range(4):
        seq = (await testbed.until(run, "UpdateReceived", after_seq=seq)).seq
        testbed.kill("coordinator")
        testbed.start_coordinator()
        await testbed.attached()
    report = await testbed.finished(run)
    assert report.rounds[-1].model_sha256 == undisturbed.rounds[-1].model_sha256
