"""Runs on the emulated testbed: one that trains, one that loses a device, one that loses the coordinator."""

import json
from collections import Counter
from pathlib import Path

from cli.client import Operator

ROOT = Path(__file__).parents[2]


async def test_emulated_toml_trains_over_four_kinds_at_bits_of_their_own(stack, emulated):
    async with Operator(stack.coordinator) as operator:
        last = (await operator.report(emulated.run)).rounds[-1]
    assert (last.round, {(d.kind, d.bits_up, d.status) for d in last.devices}) == (
        8,
        {
            ("gpu-workstation", 16, "arrived"),
            ("jetson-orin-nano", 8, "arrived"),
            ("mini-pc-n100", 6, "arrived"),
            ("raspberry-pi-5", 4, "arrived"),
        },
    )


async def test_a_round_closes_without_the_agent_that_was_killed(stack, noop):
    stack.attached(4)
    run = await stack.begin(noop("killed", rounds=2, train_steps=20, step_s=0.1, quorum=3, lost_after_s=3))
    await stack.event(run, "RoundOpened")
    (agent,) = stack.containers("raspberry-pi-5")
    agent.kill()
    try:
        closed = json.loads((await stack.event(run, "RoundClosed")).json)
    finally:
        agent.start()
        stack.shape("raspberry-pi-5")
    async with Operator(stack.coordinator) as operator:
        await operator.stop(run, "seen enough")
    stack.attached(4)
    kinds = {device.rpartition("-")[0] for device in closed["devices"]}
    assert (kinds, len(closed["lost"])) == ({"jetson-orin-nano", "mini-pc-n100", "gpu-workstation"}, 1)


async def test_a_coordinator_that_restarts_within_a_round_loses_and_repeats_nothing(stack, noop):
    stack.attached(4)
    run = await stack.begin(noop("restarted", rounds=3, train_steps=20, step_s=0.1))
    await stack.event(run, "RoundOpened", '"round":2')
    stack.compose("restart", "--timeout", "5", "coordinator")
    stack.compose("up", "--no-recreate", "--detach", "--wait", "coordinator")
    await stack.event(run, "RunEnded")
    story = await stack.story(run)
    counted = Counter(
        (e["round"], e["device"]) for e in (json.loads(s.json) for s in story if s.kind == "UpdateReceived")
    )
    closed = [
        (e["round"], len(e["devices"])) for e in (json.loads(s.json) for s in story if s.kind == "RoundClosed")
    ]
    assert (set(counted.values()), closed) == ({1}, [(1, 4), (2, 4), (3, 4)])
