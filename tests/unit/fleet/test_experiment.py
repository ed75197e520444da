import copy

import pytest

from fleet.errors import BadExperiment
from fleet.experiment import Experiment, parse, read

GOOD = {
    "name": "x", "seed": 1, "rounds": 2, "shards": 4,
    "workload": {"name": "noop", "options": {}},
    "policy": {"name": "fixed", "options": {}},
    "round": {"mode": "sync", "min_devices": 4, "devices": 4, "quorum": 2, "deadline_s": 3},
    "server": {"optimizer": "fedavg", "lr": 1},
    "quantizer": {"block_size": 64, "error_feedback": True},
    "evaluate": {"every": 1},
}  # fmt: skip


def spoiled(path, value):
    values = copy.deepcopy(GOOD)
    *way, key = path.split(".")
    section = values
    for step in way:
        section = section[step]
    section[key] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("round.quorumm", 3, r"unknown key round\.quorumm; known are buffer, deadline_s, devices"),
        ("server.momentum", 0.9, r"unknown key server\.fedavg\.momentum; known are ema, lr, optimizer"),
        ("sed", 1, "unknown key sed; known are aggregation, evaluate, name"),
        ("seed", "a", "seed = 'a': Input should be a valid integer"),
        ("rounds", 0, "rounds = 0: Input should be greater than or equal to 1"),
        ("name", "../up", "name = '../up'"),
        ("round.quorum", 9, "quorum 9 is more than devices 4"),
        ("round.buffer", 2, 'buffer and max_staleness belong to mode "async"'),
        ("round.mode", "async", 'mode "async" needs buffer and max_staleness'),
        ("server.optimizer", "sgd", "fedavg"),
    ],
)
def test_a_wrong_key_or_value_is_named(path, value, message):
    with pytest.raises(BadExperiment, match=message):
        parse(Experiment, spoiled(path, value), where="x.toml")


def test_a_missing_key_is_named():
    values = {k: v for k, v in GOOD.items() if k != "seed"}
    with pytest.raises(BadExperiment, match=r"x\.toml: missing key seed"):
        parse(Experiment, values, where="x.toml")


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("rounds = = 2")
    with pytest.raises(BadExperiment, match="broken.toml: not TOML"):
        read(broken)
    with pytest.raises(BadExperiment, match="nowhere.toml: No such file"):
        read(tmp_path / "nowhere.toml")


def test_the_codecs_of_an_experiment_are_those_of_the_quantizer():
    from typing import get_args

    from fleet.experiment import Codec
    from quantizer import NAMES

    assert get_args(Codec) == NAMES
