"""Calibrating real agents, through SIGKILL of either side."""

import asyncio
import json
from dataclasses import replace

from cli.client import Operator
from fleet.calibration import Calibration, Work
from fleet.calibration_plans import plan
from fleet.errors import Unreachable

PLAN = replace(
    plan(quick=True),
    workload="noop",
    options_json=json.dumps({"model_bytes": 400_000, "tensors": 2, "step_s": 0.01}, sort_keys=True),
    widths=(0.5, 1.0),
    precisions=("fp32",),
    bits=(8, 32),
    idle_s=0.3,
)


class Asked:
    """One calibration, asked for again whenever the coordinator is gone."""

    def __init__(self, address, device, name):
        self.heard = asyncio.Event()
        self.outcome = asyncio.create_task(self._ask(address, device, name))

    async def _ask(self, address, device, name):
        async with asyncio.timeout(60), Operator(address) as operator:
            while True:
                try:
                    async for said in operator.calibrate(device, name, PLAN):
                        if isinstance(said, Calibration):
                            return said
                        if said.done >= 2:
                            self.heard.set()
                except Unreachable:
                    await asyncio.sleep(0.1)


async def test_a_calibration_survives_the_coordinator_and_is_measured_once(lone):
    lone.start_coordinator()
    lone.start_agent("agent-1")
    await lone.attached("agent-1")
    asked = Asked(lone.address, "agent-1", "c1")
    await asked.heard.wait()
    lone.kill("coordinator")
    lone.start_coordinator()
    found = await asked.outcome
    async with Operator(lone.address) as operator:
        kept = await operator.calibrations("agent-1")
    assert kept == (found,)
    assert lone.log("agent-1").count("calibration c1 begins") == 1
    assert {r.work: r.reason for r in found.rows if not r.repeats} == {}
    assert {r.work for r in found.rows} == set(Work)


async def test_an_agent_that_is_killed_gets_its_calibration_again(lone):
    lone.start_coordinator()
    lone.start_agent("agent-1")
    await lone.attached("agent-1")
    asked = Asked(lone.address, "agent-1", "c1")
    await asked.heard.wait()
    lone.kill("agent-1")
    lone.start_agent("agent-1")
    found = await asked.outcome
    assert (found.device, len(found.rows)) == ("agent-1", len(Work) + 2)
    assert {r.work: r.reason for r in found.rows if r.repeats != PLAN.repeats} == {}
