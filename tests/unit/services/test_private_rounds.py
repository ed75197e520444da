"""Rounds with privacy, by real agents and a real coordinator in one process."""

import asyncio
import contextlib
import json
import urllib.request

import numpy as np
import pytest

from edge_agent.agent import Agent, Settings
from edge_agent.energy.cpu_time import CpuTimeModel
from edge_agent.energy.meter import Meter
from edge_agent.energy.unwrap import CounterTracker
from edge_agent.masking import Attempt
from fleet import rpc
from fleet.domain import Capabilities, Hello
from fleet.errors import BadRequest
from fleet.kinds import kind
from fleet.v1 import operator_pb2
from quantizer import decode
from workloads.noop import NoopWorkload

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c")
ROUND = {"mode": "sync", "min_devices": 3, "devices": 3, "quorum": 2, "deadline_s": 60, "lost_after_s": 0.5}
EXPERIMENT = {"workload": {"name": "noop", "options": {"model_bytes": 4000, "tensors": 2}}}
SECURE = {"threshold": 2, "clip_range": 8.0, "phase_s": 10.0}
DIFFERENTIAL = {"clip_norm": 0.5, "noise_multiplier": 1.0, "sampling_rate": 1.0, "delta": 1e-5}


def private(**sections):
    return {
        "round": ROUND, "shards": 3, "rounds": 1, "privacy": sections, "evaluate": {"every": 1},
        "quantizer": {"block_size": 64, "error_feedback": False, "codec": "fixed"},
        "policy": {"name": "fixed", "options": {
            "bits_up": [12], "bits_down": 32, "precision": "fp32", "width": 1.0, "train_steps": 1}},
    }  # fmt: skip


def slow(experiment):
    """The same with trainings of a second and a half, that can be stopped after each tenth of it."""
    options = experiment["policy"]["options"] | {"train_steps": 10}
    workload = {"name": "noop", "options": EXPERIMENT["workload"]["options"] | {"step_s": 0.15}}
    return experiment | {"workload": workload, "policy": {"name": "fixed", "options": options}}


class Agents:
    def __init__(self, address, folder):
        self._address, self._folder, self.running = address, folder, {}

    def start(self, name):
        device_kind = kind("mini-pc-n100")
        hello = Hello(rpc.PROTOCOL_VERSION, name, Capabilities(device_kind.name, "cpu", 1, 1 << 30, "m", "0"))
        meter, stop = Meter([CounterTracker(CpuTimeModel(device_kind))]), asyncio.Event()
        agent = Agent(Settings(self._address, self._folder / name), hello, meter)
        self.running[name] = (agent, asyncio.create_task(agent.run(stop)), stop)
        return agent

    async def kill(self, name):
        _, task, _ = self.running.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def stop(self):
        for _, task, stop in self.running.values():
            stop.set()
            with contextlib.suppress(Exception):
                await task


@pytest.fixture
async def agents(coordinator, tmp_path):
    made = Agents(coordinator.address, tmp_path)
    yield made
    await made.stop()


async def until(coordinator, run, kind_, count=1, within_s=60.0):
    """The `count`th event of a kind in a run, as soon as it is in the log."""
    call = coordinator.operator.WatchRun(operator_pb2.WatchRunRequest(run=run))
    try:
        async with asyncio.timeout(within_s):
            async for message in call:
                if message.WhichOneof("message") == "event" and message.event.kind == kind_:
                    count -= 1
                    if count == 0:
                        return json.loads(message.event.json)
    finally:
        call.cancel()
    raise AssertionError(f"no {kind_}")


async def ended(coordinator, run):
    await until(coordinator, run, "RunEnded")
    return await coordinator.report(run)


def phases(report, round=1):
    return {p.phase.value for d in report.rounds[round].devices for p in d.phases}


def model(settings, report, round):
    path = settings.state / "blobs" / report.run.run / "models" / report.rounds[round].model_sha256
    return np.concatenate([x.reshape(-1) for x in decode(path.read_bytes()).values()])


def step_of(settings, report):
    """What the only round of a run added to its model."""
    first = np.concatenate(
        [x.reshape(-1) for x in NoopWorkload(EXPERIMENT["workload"]["options"], None).initial(1).values()]
    )
    return first, model(settings, report, 1) - first


async def test_a_secure_round_adds_the_mean_of_the_updates(coordinator, settings, agents):
    """Devices of this workload send the model itself: so their mean is known."""
    for name in NAMES:
        agents.start(name)
    report = await ended(coordinator, await coordinator.start("s", **private(secure_aggregation=SECURE)))
    first, added = step_of(settings, report)
    np.testing.assert_allclose(added, first, atol=2 * SECURE["clip_range"] / 2**12)
    assert "mask" in phases(report)
    assert all(d.wire_up_bytes > d.update_bytes + 200 for d in report.rounds[1].devices)  # keys and shares too


async def test_a_device_that_is_lost_after_the_keys_were_agreed_on_leaves_no_trace(coordinator, settings, agents):
    for name in NAMES:
        agents.start(name)
    run = await coordinator.start("s", **slow(private(secure_aggregation=SECURE)))
    await until(coordinator, run, "KeysAgreed")
    await agents.kill("c")
    report = await ended(coordinator, run)
    first, added = step_of(settings, report)
    assert {d.device: d.status for d in report.rounds[1].devices} == {"a": "arrived", "b": "arrived", "c": "lost"}
    np.testing.assert_allclose(added, first, atol=2 * SECURE["clip_range"] / 2**12)


async def test_survivors_that_do_not_answer_fail_the_round_and_the_run_goes_on(coordinator, agents, monkeypatch):
    for name in NAMES:
        agents.start(name)
    monkeypatch.setattr(Attempt, "reveal", refuses_once(Attempt.reveal))
    brief = SECURE | {"phase_s": 1.5}
    report = await ended(
        coordinator, await coordinator.start("s", **private(secure_aggregation=brief) | {"rounds": 2})
    )
    assert [r.status for r in report.rounds[1:]] == ["failed", "closed"]
    assert report.rounds[1].reason == "secure aggregation: shares of 0 devices; 2 are needed to undo the masks"


def refuses_once(reveal):
    def refusing(attempt, wanted):
        if wanted.round == 1:
            raise BadRequest("not today")
        return reveal(attempt, wanted)

    return refusing


async def test_noise_is_added_and_what_it_has_cost_is_in_the_report_and_in_prometheus(
    coordinator, settings, agents
):
    for name in NAMES:
        agents.start(name)
    run = await coordinator.start("d", **private(differential=DIFFERENTIAL) | {"rounds": 2})
    report = await ended(coordinator, run)
    spent = [next(m for m in r.metrics if m.name == "epsilon") for r in report.rounds[1:]]
    assert spent[0].value < spent[1].value
    assert spent[1].detail.startswith("delta 1e-05; 2 rounds, sampling rate 1, noise multiplier 1")
    assert "clip" in phases(report)
    page = await asyncio.to_thread(
        lambda: urllib.request.urlopen(f"http://{coordinator.http}/metrics").read().decode()
    )
    assert f'wattbed_privacy_epsilon{{experiment="x"}} {spent[1].value}' in page


async def test_the_noise_has_the_deviation_that_is_reported_and_the_updates_are_clipped(
    coordinator, settings, agents
):
    for name in NAMES:
        agents.start(name)
    run = await coordinator.start("d", **private(differential=DIFFERENTIAL) | {"rounds": 1})
    first, added = step_of(settings, await ended(coordinator, run))
    clipped = first * DIFFERENTIAL["clip_norm"] / np.linalg.norm(first)
    deviation = DIFFERENTIAL["noise_multiplier"] * DIFFERENTIAL["clip_norm"] / 3
    assert np.linalg.norm(first) > DIFFERENTIAL["clip_norm"]
    assert np.std(added - clipped) == pytest.approx(deviation, rel=0.15)


async def test_noise_over_a_secure_sum(coordinator, settings, agents):
    for name in NAMES:
        agents.start(name)
    both = private(differential=DIFFERENTIAL, secure_aggregation=SECURE | {"clip_range": 0.1}) | {"rounds": 1}
    report = await ended(coordinator, await coordinator.start("d", **both))
    first, added = step_of(settings, report)
    deviation = DIFFERENTIAL["noise_multiplier"] * DIFFERENTIAL["clip_norm"] / 3
    assert np.std(added) == pytest.approx(deviation, rel=0.15)
    assert {"clip", "mask"} <= phases(report)
    assert (settings.state / "privacy.key").stat().st_mode & 0o777 == 0o600
