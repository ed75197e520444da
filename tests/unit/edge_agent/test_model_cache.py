import hashlib
import os

import pytest

from edge_agent.cache import ModelCache
from fleet.errors import DataCorrupt


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
    put(cache, b"model")
    assert cache.find(name_of(b"model")).read_bytes() == b"model"


def test_half_a_model_is_not_found(cache):
    with cache.receive(name_of(b"model")) as incoming:
        incoming.append(b"mo")
    assert cache.find(name_of(b"model")) is None


def test_half_a_model_is_gone_on_with_also_by_another_process(cache, tmp_path):
    with cache.receive(name_of(b"model")) as incoming:
        incoming.append(b"mo")
    with ModelCache(tmp_path / "models", keep=2).receive(name_of(b"model")) as incoming:
        held = incoming.held_bytes
        incoming.append(b"del")
        path = cache.admit(incoming)
    assert (held, path.read_bytes()) == (2, b"model")


def test_bytes_of_another_model_are_refused_and_not_kept(cache):
    with cache.receive(name_of(b"model")) as incoming:
        incoming.append(b"wrong")
        with pytest.raises(DataCorrupt, match="the 5 bytes received have sha256"):
            cache.admit(incoming)
    assert cache.receive(name_of(b"model")).held_bytes == 0


def test_a_file_that_was_spoilt_on_disk_is_not_found(cache, tmp_path):
    put(cache, b"model").write_bytes(b"spoil")
    assert ModelCache(tmp_path / "models", keep=2).find(name_of(b"model")) is None


def test_the_model_not_used_for_longest_makes_room(cache):
    for age, payload in ((30, b"a"), (20, b"b")):
        os.utime(put(cache, payload), (1000 - age, 1000 - age))
    cache.find(name_of(b"a"))
    put(cache, b"c")
    assert [p for p in (b"a", b"b", b"c") if cache.find(name_of(p))] == [b"a", b"c"]


def test_half_a_model_nobody_wants_any_more_makes_room(cache, tmp_path):
    with cache.receive(name_of(b"old")) as incoming:
        incoming.append(b"o")
    put(cache, b"new")
    assert [p.name for p in (tmp_path / "models").iterdir()] == [name_of(b"new")]
