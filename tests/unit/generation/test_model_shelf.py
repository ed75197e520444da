"""Models on a device's disk, under a limit."""

import hashlib

import numpy as np
import pytest

import quantizer
from edge_agent.model_shelf import ModelShelf
from fleet.errors import StorageFull


def model(seed):
    payload = quantizer.encode({"w": np.random.default_rng(seed).standard_normal(100, np.float32)}, 32, seed=0)
    return hashlib.sha256(payload).hexdigest(), payload


def put(shelf, name, payload):
    shelf.make_room(len(payload))
    with shelf.receive(name) as incoming:
        incoming.append(payload)
        shelf.admit(incoming)


@pytest.fixture
def models():
    return [model(seed) for seed in range(4)]


@pytest.fixture
def shelf(tmp_path, models):
    return ModelShelf(tmp_path, storage_bytes=2 * len(models[0][1]) + 10)


def test_the_model_used_longest_ago_makes_room(shelf, models):
    for name, payload in models[:2]:
        put(shelf, name, payload)
    shelf.find(models[0][0])
    put(shelf, *models[2])
    assert set(shelf.sha256()) == {models[0][0], models[2][0]}
    assert shelf.held_bytes() <= shelf.storage_bytes


def test_a_model_that_is_to_be_kept_goes_last(shelf, models):
    for name, payload in models[:2]:
        put(shelf, name, payload)
    shelf.kept = frozenset({models[0][0]})
    put(shelf, *models[2])
    assert set(shelf.sha256()) == {models[0][0], models[2][0]}
    assert shelf.fits_beside_kept(len(models[3][1])) is True


def test_a_model_larger_than_the_shelf_is_refused_and_nothing_is_dropped_for_it(shelf, models):
    put(shelf, *models[0])
    with pytest.raises(StorageFull):
        shelf.make_room(shelf.storage_bytes + 1)
    assert shelf.sha256() == (models[0][0],)
