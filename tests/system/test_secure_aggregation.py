"""Secure aggregation by real processes: a coordinator that is killed goes on with the keys that were agreed on."""

import asyncio
import json

import pytest

from fleet.experiment import Experiment, parse

AGENTS = ("agent-1", "agent-2", "agent-3")


def secure(testbed, name):
    experiment = testbed.noop(
        name, model_bytes=400_000, devices=3, rounds=2, bits_up=[12], step_s=0.2
    ).model_dump()
    experiment["quantizer"] |= {"error_feedback": False, "codec": "fixed"}
    experiment["round"] |= {"quorum": 2}
    experiment["server"] = {"optimizer": "fedavg", "lr": 1.0}
    experiment["privacy"] = {"secure_aggregation": {"threshold": 2, "clip_range": 16.0, "phase_s": 15.0}}
    return parse(Experiment, experiment, where=name)


@pytest.fixture(scope="module")
def undisturbed(testbed):
    async def story():
        await testbed.attached(*AGENTS)
        return await testbed.finished(await testbed.begin(secure(testbed, "secure")))

    return asyncio.run(story())


@pytest.mark.parametrize("kind", ["KeysAgreed", "RoundClosed"])
async def test_a_coordinator_that_is_killed_goes_on_to_the_same_model(testbed, undisturbed, kind):
    await testbed.attached(*AGENTS)
    run = await testbed.begin(secure(testbed, "secure"))
    await testbed.until(run, kind)
    testbed.kill("coordinator")
    testbed.start_coordinator()
    await testbed.attached(*AGENTS)
    report = await testbed.finished(run)
    story = await testbed.story(run)
    counted = [json.loads(e.json) for e in story if e.kind == "UpdateReceived"]
    assert report.run.phase == "completed"
    assert len({(u["round"], u["device"]) for u in counted}) == len(counted) == 6
    assert [r.model_sha256 for r in report.rounds] == [r.model_sha256 for r in undisturbed.rounds]


async def test_an_agent_that_is_killed_after_the_keys_were_agreed_on_is_done_without(testbed):
    await testbed.attached(*AGENTS)
    run = await testbed.begin(secure(testbed, "secure-without"))
    await testbed.until(run, "KeysAgreed")
    testbed.kill("agent-3")
    await testbed.until(run, "RoundClosed")
    testbed.start_agent("agent-3")
    report = await testbed.finished(run)
    assert report.run.phase == "completed"
    assert {d.device for d in report.rounds[1].devices if d.status == "arrived"} == {"agent-1", "agent-2"}
