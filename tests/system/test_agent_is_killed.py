"""SIGKILL of an agent: noticed, outlived, and welcome back."""

import asyncio
import json
import time

from cli.client import Operator


async def test_a_dead_agent_is_noticed_the_round_closes_and_it_comes_back_into_the_next(lone):
    lone.start_coordinator()
    for name in ("agent-1", "agent-2", "agent-3"):
        lone.start_agent(name)
    await lone.attached("agent-1", "agent-2", "agent-3")
    experiment = lone.noop(
        "lost",
        model_bytes=1_000_000,
        devices=3,
        rounds=9,
        quorum=2,
        lost_after_s=3,
        min_devices=2,
        train_steps=10,
        step_s=0.1,
    )
    run = await lone.begin(experiment)
    await lone.until(run, "RoundOpened")
    lone.kill("agent-3")
    died_s = time.monotonic()
    async with Operator(lone.address) as operator:
        while (await operator.device("agent-3")).attached:
            await asyncio.sleep(0.02)
    noticed_s = time.monotonic() - died_s
    closed = json.loads((await lone.until(run, "RoundClosed")).json)
    lone.start_agent("agent-3")
    report = await lone.finished(run)

    came_back = [d.status for r in report.rounds[2:] for d in r.devices if d.device == "agent-3"]
    assert noticed_s < 5
    assert (closed["devices"], closed["lost"]) == (["agent-1", "agent-2"], ["agent-3"])
    assert "arrived" in came_back


async def test_an_agent_that_dies_and_returns_within_the_round_is_counted_once(testbed):
    names = ("agent-1", "agent-2", "agent-3")
    await testbed.attached(*names)
    experiment = testbed.noop(
        "returns", model_bytes=4_000_000, devices=3, lost_after_s=30, train_steps=5, step_s=0.1
    )
    calm = await testbed.finished(await testbed.begin(experiment))
    run = await testbed.begin(experiment)
    await testbed.until(run, "UpdateReceived", '"round":2')
    testbed.kill("agent-2")
    testbed.start_agent("agent-2")
    report = await testbed.finished(run)
    assert report.rounds[-1].model_sha256 == calm.rounds[-1].model_sha256


async def test_an_agent_that_falls_silent_is_noticed_and_taken_back(testbed):
    names = ("agent-1", "agent-2", "agent-3")
    await testbed.attached(*names)
    process = testbed.running["agent-1"].process()
    process.suspend()
    silent_s = time.monotonic()
    try:
        async with Operator(testbed.address) as operator:
            while (await operator.device("agent-1")).attached:
                await asyncio.sleep(0.05)
        noticed_s = time.monotonic() - silent_s
    finally:
        process.resume()
    await testbed.attached(*names)
    assert noticed_s < 5
