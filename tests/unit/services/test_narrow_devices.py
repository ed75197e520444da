"""Devices of several widths train one model: each gets, and has to send, the part that it holds."""

from hashlib import sha256

import numpy as np
import pytest

from coordinator import effects
from fleet.errors import BadExperiment, CorruptUpdate
from fleet.v1 import operator_pb2
from quantizer import decode, encode
from workloads.narrow import Part
from workloads.noop import NoopWorkload

HALF = {f"tensor000{i}": Part((500,), (((0, 100), (300, 450)),)) for i in (0, 1)}
WIDTHS = {"name": "fixed", "options": {
    "bits_up": [32], "bits_down": 32, "precision": "fp32", "width": 1.0, "widths": {"a": 0.5}, "train_steps": 1,
}}  # fmt: skip


class Slimmable(NoopWorkload):
    """The usual one, but a device of width 0.5 holds half of each tensor."""

    def parts(self, width: float):
        return HALF if width == 0.5 else None


@pytest.fixture
def slimmable(monkeypatch):
    monkeypatch.setattr(effects, "load_workload", lambda name, options, data: Slimmable(options, data))


async def test_a_narrow_device_moves_its_part_only_and_its_values_count(slimmable, coordinator, pair):
    run = await coordinator.start(policy=WIDTHS, rounds=1)
    narrow, whole = pair
    payloads = {}
    for device in (narrow, whole):
        task = await device.task()
        payloads[device.name] = await device.train(task)
        if device is narrow:
            zeros = {f"tensor000{i}": np.zeros(500, np.float32) for i in (0, 1)}
            wrong = encode(zeros, 32, seed=0, block_size=64)
            with pytest.raises(CorruptUpdate, match=r"\(500,\) instead of \(250,\)"):
                await device.put(task, wrong, sha256(wrong).hexdigest())
        await device.put(task, payloads[device.name], sha256(payloads[device.name]).hexdigest())
    while (report := await coordinator.report(run)).run.phase != "completed":
        pass

    assert len(payloads["a"]) < 0.6 * len(payloads["b"])
    request = operator_pb2.GetArtifactRequest(run=run, sha256=report.rounds[-1].model_sha256)
    model = decode(b"".join([c.data async for c in coordinator.operator.GetArtifact(request)]))
    start = decode(payloads["b"])
    for name, values in model.items():
        np.testing.assert_allclose(values, 2 * start[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        ({"aggregation": {"rule": "median"}}, "aggregation.rule 'median'"),
        (
            {"privacy": {"secure_aggregation": {"threshold": 2, "clip_range": 1.0, "phase_s": 5.0}},
             "quantizer": {"block_size": 64, "error_feedback": False, "codec": "fixed"}},
            "privacy.secure_aggregation",
        ),
        (
            {"privacy": {"differential": {
                "clip_norm": 1.0, "noise_multiplier": 1.0, "sampling_rate": 1.0, "delta": 1e-5}}},
            "privacy.differential",
        ),
    ],
)  # fmt: skip
async def test_narrow_devices_in_an_experiment_that_needs_whole_updates_start_nothing(
    slimmable, coordinator, asked, option
):
    with pytest.raises(BadExperiment, match=f"{option} takes whole updates only; widths 0.5 send parts"):
        await coordinator.start(policy=WIDTHS, **asked)
    assert not (await coordinator.operator.ListRuns(operator_pb2.ListRunsRequest())).runs
