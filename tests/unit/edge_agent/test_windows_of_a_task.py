"""A meter may know the joules of a phase a while after it: what depends on them is said after they are."""

import numpy as np
import pytest

from edge_agent import generation
from edge_agent.carrier import Carrier
from edge_agent.generation import Generator
from edge_agent.work_thread import WorkThread
from edge_agent.worker import Encoded
from fleet.domain import Assignment, Phase, PhaseMeasured, Task
from fleet.errors import LateUpdate
from fleet.generation import Batch, GenerationEnded, GenerationMeasured, GenerationTask, Portion, Recipe
from workloads.protocol import Outcome


class Fakes:
    """Client, cache of models, shelf and worker at once. Everything is there, and the coordinator counts updates."""

    def __init__(self, path):
        self.path = path
        self.said = []
        self.error = None

    def say(self, message):
        measured = isinstance(message, (PhaseMeasured, GenerationMeasured))
        self.said.append(message.phase if measured else type(message))

    def find(self, sha256):
        return self.path

    def decode(self, path):
        return {}

    def train(self, task, params, progress):
        return Outcome({}, 1, 0.0)

    def encode(self, task, update):
        return Encoded(self.path, "digest", 1, None)

    async def upload(self, header, path, progress):
        self.said.append("counted")
        if self.error is not None:
            raise self.error
        return True

    async def upload_images(self, header, payload):
        self.said.append("counted")

    def paint(self, widths, sampler, seeds, watch):
        return np.zeros((len(seeds), 1, 2, 2), dtype=np.uint8)


@pytest.fixture
def fakes(tmp_path):
    return Fakes(tmp_path / "model")


@pytest.fixture
def carrier(fakes, late_meter):
    made = Carrier(fakes, fakes, fakes, late_meter, fakes.say)
    yield made
    made.close()


TASK = Task(Assignment("r1", 1, "d1", "m", 0, 0, 32, 32, "fp32", 1.0, 1, 0, 0.0), "recorded", "{}", 1, 64, False)


async def test_what_an_update_took_is_said_before_it_is_sent_and_the_rest_before_its_task_ends(carrier, fakes):
    await carrier.carry_out(TASK)
    assert fakes.said == [Phase.DOWNLOAD, Phase.TRAIN, Phase.QUANTIZE, "counted", Phase.UPLOAD]


async def test_what_a_refused_update_took_is_said_before_the_refusal(carrier, fakes):
    fakes.error = LateUpdate("round 1 is closed")
    with pytest.raises(LateUpdate):
        await carrier.carry_out(TASK)
    assert fakes.said[-1] == Phase.UPLOAD


async def test_what_a_batch_of_images_took_is_said_before_its_end(fakes, late_meter, monkeypatch, tmp_path):
    fakes.path.write_bytes(generation.quantizer.encode({"w": np.zeros(4, dtype=np.float32)}, 32, seed=0))
    monkeypatch.setattr(generation.generating, "painter", lambda *asked: fakes)
    thread = WorkThread()
    maker = Generator(fakes, "d1", fakes, None, late_meter, thread, fakes.say)
    batch = Batch("b1", "r1", "d1", "m", 8, Recipe((1.0,), "ddim"), (Portion("q1", 2, 0),))
    await maker.carry_out(GenerationTask(batch, "recorded", "{}"))
    thread.close()
    assert fakes.said == ["counted", Phase.DOWNLOAD, Phase.GENERATE, Phase.UPLOAD, GenerationEnded]
