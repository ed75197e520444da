from dataclasses import replace

import numpy as np
import pytest

from fleet.errors import BadExperiment, BadRequest
from workloads import sampling
from workloads.narrow import cut, parts_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(options, weights) -> sampling.Model:
    return sampling.load(options, weights)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_a_narrow_model_makes_the_same_images_to_the_bit(model, options, weights, flexible, width, sampler):
    narrow = sampling.load(options, cut(weights, parts_of(flexible, width)), width=width)

    alone = sampling.sample(narrow, width, 4, sampler, 3, seed=7)

    assert np.array_equal(alone, sampling.sample(model, width, 4, sampler, 3, seed=7))
    whole = replace(model, _cut=dict.fromkeys(range(sampling.MOST_CUT), model.net))  # keeps no more of them
    assert whole.at(width) is model.net
    assert np.array_equal(alone, sampling.sample(whole, width, 4, sampler, 3, seed=7))
    assert (alone.shape, alone.dtype) == ((3, 8, 8, 1), np.uint8)


def test_an_image_is_that_of_its_own_seed_whoever_shares_the_batch(model):
    many = sampling.sample(model, 1.0, 4, "ddpm", 5, seed=1)
    first = sampling.sample(model, 1.0, 4, "ddpm", 2, seed=1)

    assert np.abs(many[:2].astype(int) - first.astype(int)).max() <= 1


def test_another_seed_gives_other_images(model):
    assert not np.array_equal(
        sampling.sample(model, 1.0, 3, "ddim", 2, seed=1), sampling.sample(model, 1.0, 3, "ddim", 2, seed=2)
    )


def test_each_step_has_its_width_the_noisiest_first(model):
    called = []
    hooks = [
        model.at(w).register_forward_pre_hook(lambda net, args: called.append((int(args[1][0]), args[2])))
        for w in (0.25, 0.5, 1.0)
    ]

    sampling.sample(model, (0.25, 0.5, 1.0), 3, "ddim", 1, seed=0)
    for hook in hooks:
        hook.remove()

    assert [width for _, width in called] == [0.25, 0.5, 1.0]
    assert sorted((t for t, _ in called), reverse=True) == [t for t, _ in called]


def test_previews_come_after_each_step_and_the_last_is_the_result(model):
    seen = []

    made = sampling.sample(model, 0.5, 4, "dpm++", 2, seed=5, on_step=seen.append)

    assert [(p.done, p.steps, p.images.shape) for p in seen] == [(k, 4, made.shape) for k in (1, 2, 3, 4)]
    assert np.array_equal(seen[-1].images, made)


def test_what_a_preview_raises_ends_the_sampling(model):
    def cancel(preview: sampling.Preview) -> None:
        if preview.done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sampling.sample(model, 1.0, 5, "ddim", 1, seed=0, on_step=cancel)


def test_more_bits_are_nearer_to_the_images_of_all_bits(model, options, weights):
    def distance(bits: int) -> float:
        few = sampling.sample(sampling.load(options, weights, bits=bits), 1.0, 2, "ddim", 4, seed=2)
        return float(np.abs(few.astype(float) - sampling.sample(model, 1.0, 2, "ddim", 4, seed=2)).mean())

    assert distance(32) == 0
    assert distance(12) < distance(8) < distance(3)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"widths": (0.5, 0.5)}, "2 widths for 3 denoising steps"),
        ({"widths": 1.5}, r"width 1.5 is not in \(0, 1\]"),
        ({"widths": 0.0}, r"width 0 is not in \(0, 1\]"),
        ({"steps": 0}, "0 denoising steps; 1 to 100 can be made"),
        ({"steps": 101}, "101 denoising steps; 1 to 100 can be made"),
        ({"sampler": "euler"}, "sampler 'euler'; known are ddpm, ddim, dpm"),
        ({"n": 0}, "0 images; at least 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused_with_numbers(model, change, complaint):
    asked = {"widths": 1.0, "steps": 3, "sampler": "ddim", "n": 1, "seed": 0} | change
    with pytest.raises(BadRequest, match=complaint):
        sampling.sample(model, **asked)


def test_weights_of_bits_that_do_not_exist_are_refused(options, weights):
    with pytest.raises(BadRequest, match="weights of 17 bits; known are 1 to 16 and 32"):
        sampling.load(options, weights, bits=17)


def test_a_wrong_option_is_named(options, weights):
    with pytest.raises(BadExperiment, match="unknown key"):
        sampling.load(options | {"colour": True}, weights)
