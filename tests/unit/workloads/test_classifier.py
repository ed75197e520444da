import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fleet import experiment
from fleet.domain import Assignment
from fleet.errors import BadExperiment, BadRequest, DataMissing
from workloads.classifier import ClassifierWorkload
from workloads.classifier_net import ConvNet, settle
from workloads.protocol import Shard, Sized

pytestmark = pytest.mark.slow

EXPERIMENT = Path(__file__).parents[3] / "experiments" / "classifier.toml"
OPTIONS: dict[str, Any] = {
    "dataset": "digits",
    "partition": {"scheme": "dirichlet", "alpha": 0.1, "seed": 0},
    "model": {"channels": [8, 16], "pool": [1], "hidden": [16]},
    "training": {"batch": 32, "lr": 0.05, "momentum": 0.9},
    "evaluation": {"held_out": 359, "statistics": 512, "batch": 128},
}
PUBLISHED = {"channels": [128, 64, 64, 32, 32], "pool": [1, 2, 3, 4], "hidden": [2000, 100]}
ASSIGNMENT = Assignment("run", 1, "device", "", 0, 0, 8, 32, "fp32", 1.0, 4, 11, 0.0)
ALONE = Shard(0, 1)


def ignore(step: int, loss: float | None) -> None:
    pass


def workload(**changes: dict[str, Any]) -> ClassifierWorkload:
    options = copy.deepcopy(OPTIONS)
    for section, values in changes.items():
        options[section] |= values
    return ClassifierWorkload(options, None)


def update(assignment: Assignment, shard: Shard = ALONE) -> dict[str, np.ndarray]:
    return workload().train(workload().initial(1), shard, assignment, ignore).update


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a.keys() | b.keys())


def accuracy_after(precision: str, steps: int) -> float:
    asked = replace(ASSIGNMENT, precision=precision, train_steps=steps)
    model = workload().initial(1)
    change = workload().train(model, ALONE, asked, ignore).update
    judged = workload().evaluate({n: p + change[n] for n, p in model.items()}, seed=0)
    return {m.name: m.value for m in judged.metrics}["accuracy"]


@pytest.mark.parametrize("precision", ["fp32", "q4"])
def test_the_same_seed_gives_the_same_update_to_the_bit(precision):
    asked = replace(ASSIGNMENT, precision=precision)
    first = update(asked)
    torch.manual_seed(99)
    np.random.seed(99)

    assert same(first, update(asked))


def test_another_seed_gives_another_update():
    assert not same(update(ASSIGNMENT), update(replace(ASSIGNMENT, seed=12)))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "q8", "q5"])
def test_it_learns_to_read_digits_at_every_precision(precision):
    assert accuracy_after(precision, steps=60) > 0.75


def test_untrained_it_guesses():
    judged = workload().evaluate(workload().initial(1), seed=0)

    assert {m.name: m.value for m in judged.metrics}["accuracy"] < 0.4


def test_at_few_bits_it_learns_something_else_than_at_32():
    assert not same(update(ASSIGNMENT), update(replace(ASSIGNMENT, precision="q6")))


def test_weights_stay_on_the_grid_s_range_at_n_bits():
    model = {name: 3 * p for name, p in workload().initial(1).items()}
    change = workload().train(model, ALONE, replace(ASSIGNMENT, precision="q8"), ignore).update

    assert all(np.abs(p + change[n]).max() <= 1 for n, p in model.items() if p.ndim > 1)


def test_a_shard_of_one_image_can_be_trained_on():
    options = copy.deepcopy(OPTIONS) | {"partition": {"scheme": "dirichlet", "alpha": 0.01, "seed": 3}}
    alone = ClassifierWorkload(options, None)
    sizes = [
        alone.train(alone.initial(1), Shard(i, 12), replace(ASSIGNMENT, train_steps=1), ignore) for i in range(12)
    ]
    least = min(sizes, key=lambda outcome: outcome.samples)

    assert least.samples <= 2
    assert all(np.isfinite(p).all() for p in least.update.values())


def test_what_is_sent_are_parameters_and_no_statistics_of_batch_norm():
    names = workload().initial(1).keys()

    assert not [n for n in names if "running" in n or "num_batches" in n]
    assert "norms.0.weight" in names


def test_batch_norm_is_settled_on_images_before_a_model_is_judged():
    net = ConvNet((1, 8), 10, (4, 4), (1,), ())
    net.draw(torch.Generator().manual_seed(0))
    images = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    settle(net, torch.split(images, 64))
    with torch.no_grad():
        normed = net.norms[0](net.convolutions[0](images))

    assert normed.mean().abs() < 1e-5
    assert abs(normed.var() - 1) < 1e-3


def test_the_published_network_has_the_published_number_of_parameters():
    options = copy.deepcopy(OPTIONS) | {"dataset": "fashion-mnist", "model": PUBLISHED}
    size = ClassifierWorkload(options, None).network_size()

    assert (size.parameters, size.inputs, size.batch) == (411_598, 784, 32)


def test_its_size_is_counted_by_hand():
    net = workload(model={"channels": [8], "pool": [], "hidden": []})
    size = net.network_size()

    assert isinstance(net, Sized)
    assert (size.macs, size.outputs) == (64 * 9 * 8 + 8 * 10, 64 * 8 + 10)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "fp8"}, "known are fp32, bf16 and q1 to q16"),
        ({"width": 0.5}, "one width"),
        ({"train_steps": 0}, "at least 1"),
    ],
)
def test_an_assignment_it_cannot_do_is_refused(changes, said):
    with pytest.raises(BadRequest, match=said):
        update(replace(ASSIGNMENT, **changes))


def test_a_shard_that_does_not_exist_is_refused():
    with pytest.raises(BadRequest, match="shard 3 of 2"):
        update(ASSIGNMENT, Shard(3, 2))


def test_parameters_of_another_network_are_refused_by_name():
    model = workload().initial(1) | {"classes.bias": np.zeros(7, np.float32)}

    with pytest.raises(BadRequest, match=r"'classes.bias' has shape \(7,\)"):
        workload().train(model, ALONE, ASSIGNMENT, ignore)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("training", {"batch": 1}, "training.batch"),
        ("training", {"learning_rate": 1}, "learning_rate"),
        ("model", {"pool": [3]}, "pool names convolution 3"),
        ("model", {"pool": [1, 1]}, "twice"),
        ("model", {"channels": [8] * 5, "pool": [1, 2, 3, 4]}, "cannot be halved 4 times"),
    ],
)
def test_options_that_do_not_fit_are_named(section, values, said):
    with pytest.raises(BadExperiment, match=said):
        workload(**{section: values})


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(DataMissing, match="cifar-10"):
        ClassifierWorkload(copy.deepcopy(OPTIONS) | {"dataset": "cifar-10"}, tmp_path).check()


def test_the_experiment_shipped_fits_the_workload():
    shipped = experiment.read(EXPERIMENT)
    size = ClassifierWorkload(shipped.workload.options, None).network_size()

    assert shipped.workload.name == "classifier"
    assert shipped.policy.options["network"] == asdict(size)
