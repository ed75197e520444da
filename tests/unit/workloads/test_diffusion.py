import copy
import io
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fleet import experiment
from fleet.domain import Assignment
from fleet.errors import BadExperiment, BadRequest, DataMissing
from workloads import ddpm, features
from workloads.diffusion import DiffusionWorkload, Options, network_of
from workloads.protocol import Shard
from workloads.unet import macs

pytestmark = pytest.mark.slow

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
OPTIONS: dict[str, Any] = {
    "dataset": "digits",
    "partition": {"scheme": "iid", "seed": 0},
    "model": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "patch": 1},
    "diffusion": {"schedule": "cosine", "steps": 100},
    "training": {"batch": 16, "lr": 3e-3, "lr_decay": "cosine", "clip": 1.0},
    "evaluation": {
        "samples": 20,
        "sampler": "ddim",
        "denoise_steps": 3,
        "held_out": 40,
        "reference": 60,
        "batch": 16,
    },
}
ASSIGNMENT = Assignment("run", 1, "device", "", 0, 0, 8, 32, "fp32", 1.0, 4, 11, 0.0)


HALF = Shard(0, 2)


def ignore(step: int, loss: float | None) -> None:
    pass


def workload(**changes: dict[str, Any]) -> DiffusionWorkload:
    options = copy.deepcopy(OPTIONS)
    for section, values in changes.items():
        options[section] |= values
    return DiffusionWorkload(options, None)


def trained(assignment: Assignment, shard: Shard = HALF):
    return workload().train(workload().initial(1), shard, assignment, ignore)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a.keys() | b.keys())


def test_the_same_seed_gives_the_same_update_to_the_bit():
    first = trained(ASSIGNMENT)
    torch.manual_seed(99)
    np.random.seed(99)

    assert same(first.update, trained(ASSIGNMENT).update)


def test_another_seed_gives_another_update():
    assert not same(trained(ASSIGNMENT).update, trained(replace(ASSIGNMENT, seed=12)).update)


def test_the_loss_falls_within_a_few_steps():
    losses = []

    workload().train(
        workload().initial(1),
        Shard(0, 1),
        replace(ASSIGNMENT, train_steps=30),
        lambda step, loss: losses.append(loss),
    )

    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_rounds_begin_with_less_and_less_until_nothing_is_left():
    def size(round: int, **training: int) -> float:
        made = workload(training=training)
        update = made.train(made.initial(1), HALF, replace(ASSIGNMENT, round=round), ignore).update
        return sum(float(np.abs(x).sum()) for x in update.values())

    assert size(1, lr_rounds=4) == size(1) == size(9)
    assert size(1) > size(3, lr_rounds=4) > size(4, lr_rounds=4) > 0
    assert size(5, lr_rounds=4) == size(6, lr_rounds=4) == 0


def test_the_update_added_to_the_model_is_better_on_held_out_images():
    model = workload().initial(1)
    outcome = workload().train(
        {n: v.copy() for n, v in model.items()}, Shard(0, 1), replace(ASSIGNMENT, train_steps=30), ignore
    )
    better = {name: model[name] + outcome.update[name] for name in model}

    def held_out(params: dict[str, np.ndarray]) -> float:
        w = workload()
        net = network_of(experiment.parse(Options, OPTIONS, where="options"), params)
        return w._held_out_loss(net, torch.Generator().manual_seed(0)).value

    assert held_out(better) < 0.9 * held_out(model)


def test_the_weight_of_an_update_is_the_size_of_its_shard():
    assert [trained(ASSIGNMENT, Shard(i, 2)).samples for i in (0, 1)] == [719, 719]


def test_training_at_half_width_leaves_the_other_half_alone():
    w = workload(model={"channels": 16})
    update = w.train(w.initial(1), Shard(0, 1), replace(ASSIGNMENT, width=0.5), ignore).update

    assert np.abs(update["entry.weight"][:8]).min() > 0
    assert np.abs(update["entry.weight"][8:]).max() == 0


def test_bf16_trains_to_nearly_the_same_loss_and_keeps_a_float32_update():
    full, half = trained(ASSIGNMENT), trained(replace(ASSIGNMENT, precision="bf16"))

    assert half.loss == pytest.approx(full.loss, rel=0.02)
    assert half.loss != full.loss
    assert {v.dtype for v in half.update.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("precision", ["q4", "q8"])
def test_few_bits_train_to_nearly_the_same_loss_on_weights_that_are_kept_in_range(precision):
    full, few = trained(ASSIGNMENT), trained(replace(ASSIGNMENT, precision=precision))
    again = trained(replace(ASSIGNMENT, precision=precision))
    assert few.loss == pytest.approx(full.loss, rel=0.2)
    assert any(not np.array_equal(few.update[n], full.update[n]) for n in full.update)
    assert all(np.array_equal(few.update[n], again.update[n]) for n in few.update)


def test_eight_bit_moments_train_to_nearly_the_same_loss():
    options = copy.deepcopy(OPTIONS)
    options["training"]["optimizer"] = "adam8bit"
    full = trained(ASSIGNMENT)
    eight = DiffusionWorkload(options, None)
    short = eight.train(eight.initial(7), HALF, ASSIGNMENT, lambda *_: None)
    assert short.loss == pytest.approx(full.loss, rel=0.2)


def test_what_progress_raises_ends_the_training():
    steps = []

    def cancel(step: int, loss: float | None) -> None:
        steps.append(step)
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        workload().train(workload().initial(1), Shard(0, 1), ASSIGNMENT, cancel)
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("change", "shard", "complaint"),
    [
        ({"precision": "fp8"}, Shard(0, 1), "precision 'fp8'; known are fp32, bf16 and q1 to q16"),
        ({}, Shard(2, 2), "shard 2 of 2"),
        ({"train_steps": 0}, Shard(0, 1), "train_steps 0; at least 1"),
        ({"width": 1.5}, Shard(0, 1), r"width 1.5 is not in \(0, 1\]"),
    ],
)
def test_an_assignment_that_cannot_be_carried_out_is_refused(change, shard, complaint):
    with pytest.raises(BadRequest, match=complaint):
        trained(replace(ASSIGNMENT, **change), shard)


def test_parameters_of_another_network_are_refused_by_name_and_shape():
    params = workload().initial(1)
    params["entry.weight"] = params["entry.weight"][:4]

    with pytest.raises(BadRequest, match=r"1 of \d+ parameters .*'entry.weight' has shape \(4, 1, 3, 3\)"):
        workload().evaluate(params, 0)


def test_an_evaluation_is_named_numbers_and_a_picture(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(features, "EPOCHS", {"digits": 1})
    features.classifier.cache_clear()

    found = workload().evaluate(workload().initial(1), 5)

    assert [m.name for m in found.metrics] == ["held_out_loss", "fid", "recall", "coverage"]
    assert all(np.isfinite(m.value) and m.detail for m in found.metrics)
    assert found == workload().evaluate(workload().initial(1), 5)
    assert found.grid_png is not None
    assert Image.open(io.BytesIO(found.grid_png)).size == ((8 * 9 - 1) * 7, (3 * 9 - 1) * 7)
    features.classifier.cache_clear()


def test_the_loss_of_a_perfect_network_is_nothing():
    abar = ddpm.noising("linear", 1000)
    x0, noise = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 10, 500, 999])

    assert ddpm.loss(lambda x, t, width: noise, x0, t, noise, abar, 1.0).tolist() == [0.0] * 4


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_goes_from_image_to_noise(schedule):
    abar = ddpm.noising(schedule, 1000)

    assert abar[0] > 0.99
    assert abar[-1] < 0.01
    assert (abar.diff() < 0).all()


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_a_sampler_finds_the_only_image_there_is(sampler):
    image = torch.linspace(-0.9, 0.9, 16).reshape(1, 1, 4, 4)
    abar = ddpm.noising("linear", 1000)

    def knows(x: torch.Tensor, t: torch.Tensor, width: float) -> torch.Tensor:
        a = abar[t][:, None, None, None]
        return (x - a.sqrt() * image) / (1 - a).sqrt()

    generator = torch.Generator().manual_seed(0)
    found = ddpm.sample(knows, (3, 1, 4, 4), sampler, "linear", 1000, 50, 1.0, generator)

    assert torch.allclose(found, image.expand(3, 1, 4, 4), atol=0.05)


@pytest.mark.parametrize(
    ("section", "values", "complaint"),
    [
        (
            "training",
            {"learning_rate": 1},
            "unknown key training.learning_rate; known are batch, batches, between, clip, flexible, lr",
        ),
        ("partition", {"scheme": "sorted"}, "partition"),
        ("model", {"multipliers": [1, 1, 1, 1, 1]}, "side 8 in patches of 1 cannot be halved 4 times"),
        ("evaluation", {"denoise_steps": 101}, "denoise_steps 101 is more than diffusion.steps 100"),
    ],
)
def test_a_wrong_option_is_named(section, values, complaint):
    with pytest.raises(BadExperiment, match=f"workload.options: .*{complaint}"):
        workload(**{section: values})


def test_missing_data_are_missed_by_check_and_not_before(tmp_path):
    w = DiffusionWorkload(OPTIONS | {"dataset": "cifar-10"}, tmp_path)

    with pytest.raises(DataMissing):
        w.check()


@pytest.mark.parametrize("name", ["demo", "fashion-mnist", "flexible", "flexible-mixed"])
def test_an_experiment_of_the_repository_has_options_the_workload_knows(name):
    read = experiment.read(EXPERIMENTS / f"{name}.toml")

    assert read.workload.name == "diffusion"
    assert experiment.parse(Options, read.workload.options, where=name)
    assert tomllib.loads((EXPERIMENTS / f"{name}.toml").read_text())["policy"]["options"]


def test_its_size_is_the_macs_of_its_network_and_all_its_parameters():
    size, net = workload().network_size(), workload()._options.network()

    assert size.macs == macs(net, (1, 8), 1.0)
    assert size.parameters == sum(p.size for p in workload().initial(0).values())
    assert size.outputs > size.inputs == 64
