"""Runs of real processes: asynchronous, several at once, and a diffusion model through a crash."""

import asyncio
import json
from pathlib import Path

from fleet.experiment import Experiment, parse, read

AGENTS = ("agent-1", "agent-2", "agent-3")


async def test_a_buffered_run_makes_its_models_and_weighs_the_stale(testbed):
    await testbed.attached(*AGENTS)
    experiment = testbed.noop(
        "async", model_bytes=200_000, devices=3, rounds=5, quorum=1, mode="async", buffer=2, max_staleness=4
    )
    report = await testbed.finished(await testbed.begin(experiment))
    assert report.run.phase == "completed"
    assert all(r.model_sha256 for r in report.rounds)


async def test_two_runs_at_once_share_the_devices_and_come_out_as_if_alone(testbed):
    await testbed.attached(*AGENTS)
    first, second = (testbed.noop(n, model_bytes=400_000, devices=3) for n in ("first", "second"))
    alone = await testbed.finished(await testbed.begin(first))
    together = [await testbed.begin(e) for e in (first, second)]
    reports = await asyncio.gather(*(testbed.finished(run) for run in together))
    assert {r.rounds[-1].model_sha256 for r in reports} == {alone.rounds[-1].model_sha256}


async def test_a_diffusion_model_is_the_same_through_a_crash_of_the_coordinator(testbed):
    values = read(Path("experiments/demo.toml")).model_dump()
    values |= {"name": "crash", "rounds": 2}
    values["policy"]["options"] |= {"train_steps": 6}
    values["round"] |= {"min_devices": 3, "devices": 3, "quorum": 3}
    values["workload"]["options"]["evaluation"] |= {"samples": 32, "held_out": 32, "reference": 64}
    values["evaluate"]["every"] = 2
    experiment = parse(Experiment, values, where="crash")
    await testbed.attached(*AGENTS)
    calm = await testbed.finished(await testbed.begin(experiment))
    run = await testbed.begin(experiment)
    await testbed.until(run, "UpdateReceived", '"round":2')
    testbed.kill("coordinator")
    testbed.start_coordinator()
    await testbed.attached(*AGENTS)
    report = await testbed.finished(run)
    fid = {m.name: m.value for m in report.rounds[2].metrics}
    assert report.rounds[2].model_sha256 == calm.rounds[2].model_sha256
    assert fid == {m.name: m.value for m in calm.rounds[2].metrics}


async def test_every_assignment_has_seconds_joules_and_bytes_with_their_source(testbed):
    await testbed.attached(*AGENTS)
    run = await testbed.begin(testbed.noop("ledger", model_bytes=400_000, devices=3))
    report = await testbed.finished(run)
    await asyncio.sleep(1)  # the last windows come after the last round
    report = await testbed.finished(run)
    lines = [d for r in report.rounds[1:] for d in r.devices]
    moved = [json.loads(e.json) for e in await testbed.story(run) if e.kind == "BytesMoved"]
    assert {p.phase for d in lines for p in d.phases} == {"download", "train", "quantize", "upload"}
    assert {(r.source, r.quality) for d in lines for p in d.phases for r in p.readings} == {("model", "estimated")}
    assert all(d.wire_up_bytes > d.update_bytes > 0 for d in lines)
    assert sum(d.wire_up_bytes + d.wire_down_bytes for d in lines) == sum(m["wire_bytes"] for m in moved)
