"""An agent that is killed within a round makes an alert fire, which goes when it is back."""

import json

from cli.client import Operator

FIRES_WITHIN_S = 60.0
"""The coordinator notices at once, a scrape and an evaluation take 5 s each, and the alert waits for 15 s."""


def silent(stack):
    """Devices that the alert fires for, as Prometheus has them."""
    found = stack.query('ALERTS{alertname="WattbedDeviceSilent", alertstate="firing"}')
    return {r["metric"]["device"] for r in found}


async def test_an_agent_killed_in_a_round_fires_the_alert_and_the_round_closes(stack, noop):
    stack.attached(4)
    stack.until("all seen attached", lambda: len(stack.query("wattbed_device_attached == 1")) == 4, 60)
    stack.until("quiet", lambda: not silent(stack), 60)
    run = await stack.begin(noop("silent", rounds=1, train_steps=20, step_s=0.1, quorum=3, lost_after_s=3))
    await stack.event(run, "RoundOpened")
    (agent,) = stack.containers("mini-pc-n100")
    agent.kill()
    try:
        closed = json.loads((await stack.event(run, "RoundClosed")).json)
        stack.until("the alert", lambda: silent(stack) == set(closed["lost"]), FIRES_WITHIN_S)
    finally:
        agent.start()
        stack.shape("mini-pc-n100")
    async with Operator(stack.coordinator) as operator:
        report = await operator.report(run)
    stack.attached(4)
    stack.until("quiet again", lambda: not silent(stack), FIRES_WITHIN_S)
    assert ([d.rpartition("-")[0] for d in closed["lost"]], report.rounds[1].status) == (
        ["mini-pc-n100"],
        "closed",
    )
