import hashlib
import os

import numpy as np
import pytest

from edge_agent.cache import ModelCache
from fleet.errors import DataCorrupt
from quantizer import encode


def model(value):
    return encode({"w": np.full(3, value, np.float32)}, 32, seed=0)


MODEL, HALF = model(0), len(model(0)) // 2


def name_of(payload):
    return hashlib.sha256(payload).hexdigest()


@pytest.fixture
def cache(tmp_path):
    return ModelCache(tmp_path / "models", keep=2)


def put(cache, payload):
    with cache.receive(name_of(payload)) as incoming:
        incoming.append(payload)
        return cache.admit(incoming)


def test_a_model_is_found_by_its_hash(cache):
    put(cache, MODEL)
    assert cache.find(name_of(MODEL)).read_bytes() == MODEL


def test_half_a_model_is_not_found(cache):
    with cache.receive(name_of(MODEL)) as incoming:
        incoming.append(MODEL[:HALF])
    assert cache.find(name_of(MODEL)) is None


def test_half_a_model_is_gone_on_with_also_by_another_process(cache, tmp_path):
    with cache.receive(name_of(MODEL)) as incoming:
        incoming.append(MODEL[:HALF])
    with ModelCache(tmp_path / "models", keep=2).receive(name_of(MODEL)) as incoming:
        held = incoming.held_bytes
        incoming.append(MODEL[HALF:])
        path = cache.admit(incoming)
    assert (held, path.read_bytes()) == (HALF, MODEL)


def test_bytes_of_another_model_are_refused_and_not_kept(cache):
    with cache.receive(name_of(MODEL)) as incoming:
        incoming.append(MODEL[:-1] + b"!")
        with pytest.raises(DataCorrupt, match="bytes received, the payload is damaged"):
            cache.admit(incoming)
    assert cache.receive(name_of(MODEL)).held_bytes == 0


def test_a_file_that_was_spoilt_on_disk_is_not_found(cache, tmp_path):
    put(cache, MODEL).write_bytes(MODEL[:-9] + b"spoil" + MODEL[-4:])
    assert ModelCache(tmp_path / "models", keep=2).find(name_of(MODEL)) is None


def test_the_model_not_used_for_longest_makes_room(cache):
    for age, payload in ((30, model(1)), (20, model(2))):
        os.utime(put(cache, payload), (1000 - age, 1000 - age))
    cache.find(name_of(model(1)))
    put(cache, model(3))
    assert [p for p in (model(1), model(2), model(3)) if cache.find(name_of(p))] == [model(1), model(3)]


def test_half_a_model_nobody_wants_any_more_makes_room(cache, tmp_path):
    with cache.receive(name_of(model(4))) as incoming:
        incoming.append(model(4)[:9])
    put(cache, model(5))
    assert [p.name for p in (tmp_path / "models").iterdir()] == [name_of(model(5))]
