"""The sandwich rule, for devices of any width."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fleet.domain import Assignment
from fleet.errors import BadRequest
from workloads import ddpm
from workloads.diffusion import DiffusionWorkload
from workloads.flexible import sandwich, shares, widths
from workloads.narrow import cut, parts_of
from workloads.protocol import Shard

pytestmark = pytest.mark.slow

ALL = Shard(0, 1)
ASSIGNMENT = Assignment("run", 1, "device", "", 0, 0, 32, 32, "fp32", 1.0, 3, 11, 0.0)


def ignore(step: int, loss: float | None) -> None:
    pass


def trained(workload: DiffusionWorkload, params, width: float = 1.0, steps: int = 3):
    held = cut(params, parts_of(workload, width))
    return workload.train(held, ALL, replace(ASSIGNMENT, width=width, train_steps=steps), ignore)


@pytest.mark.parametrize(
    ("channels", "divisor", "widest", "found"),
    [
        (32, 8, 1.0, (0.25, 0.5, 0.75, 1.0)),
        (32, 4, 0.5, (0.25, 0.375, 0.5)),
        (32, 8, 0.6, (0.25, 0.5, 0.6)),
        (32, 8, 0.25, (0.25,)),
        (32, 8, 0.125, (0.125,)),
    ],
)
def test_widths_between_are_those_where_every_layer_keeps_its_share(channels, divisor, widest, found):
    assert widths(channels, divisor, widest) == found


def test_a_step_has_both_ends_and_any_one_between():
    generator = torch.Generator().manual_seed(0)

    drawn = {sandwich((0.25, 0.5, 0.75, 1.0), generator) for _ in range(40)}

    assert drawn == {(0.25, 0.5, 1.0), (0.25, 0.75, 1.0)}
    assert sandwich((0.25, 0.5, 0.75, 1.0), generator, between=2) == (0.25, 0.5, 0.75, 1.0)
    assert sandwich((0.25, 0.5, 0.75, 1.0), generator, between=0) == (0.25, 1.0)
    assert sandwich((0.25,), generator, between=2) == (0.25,)


def test_shares_of_the_losses_go_with_a_power_of_the_width_and_are_one_on_average():
    assert shares((0.25, 0.5, 1.0), 1.0) == pytest.approx((12 / 7, 6 / 7, 3 / 7))
    assert shares((0.25, 0.75, 1.0), 0.0) == (1.0, 1.0, 1.0)
    assert shares((0.3,), 2.0) == (1.0,)


def test_a_heavy_narrow_loss_leads_the_weights_that_it_uses_and_leaves_the_rest_to_the_wide(options, weights):
    def update(exponent: float, flexible: bool = True, width: float = 1.0) -> dict[str, np.ndarray]:
        training = options["training"] | {"flexible": flexible, "narrow_exponent": exponent}
        plain = DiffusionWorkload(options | {"training": training}, None)
        return plain.train(weights, ALL, replace(ASSIGNMENT, width=width, train_steps=1), ignore).update

    equal, heavy, alone = update(0.0), update(4.0), update(0.0, flexible=False, width=0.25)

    def agree(found: dict[str, np.ndarray]) -> float:
        """Share of the narrowest network's weights in a convolution that move as those of one trained alone."""
        name = "down.0.conv1.weight"
        return float(np.mean(np.sign(found[name][:4, :4]) == np.sign(alone[name][:4, :4])))

    assert agree(heavy) > max(agree(equal), 0.98)
    assert all(np.abs(heavy[name]).max() > 1e-3 for name in ("down.0.conv1.weight", "exit.weight"))
    assert np.array_equal(np.sign(heavy["down.0.conv1.weight"][12:]), np.sign(equal["down.0.conv1.weight"][12:]))


def test_with_a_batch_each_no_two_widths_learn_from_the_same_images(options, weights, monkeypatch):
    seen: dict[str, list[tuple[float, torch.Tensor]]] = {"one": [], "each": []}
    for batches, calls in seen.items():
        training = options["training"] | {"between": 2, "batches": batches}
        workload = DiffusionWorkload(options | {"training": training}, None)

        def remember(net, x0, t, noise, abar, width, to=calls, of=ddpm.loss):
            to.append((width, noise))
            return of(net, x0, t, noise, abar, width)

        with monkeypatch.context() as patched:
            patched.setattr(ddpm, "loss", remember)
            trained(workload, weights, steps=1)

    assert [w for w, _ in seen["one"]] == [w for w, _ in seen["each"]] == [0.25, 0.5, 0.75, 1.0]
    assert all(torch.equal(noise, seen["one"][0][1]) for _, noise in seen["one"])
    assert not any(torch.equal(noise, seen["each"][0][1]) for _, noise in seen["each"][1:])


def test_the_same_seed_gives_the_same_update_to_the_bit(flexible, weights):
    first, second = trained(flexible, weights).update, trained(flexible, weights).update

    assert all(np.array_equal(first[name], second[name]) for name in weights)


def test_one_step_moves_what_a_narrow_call_uses_by_more_losses_than_the_rest(flexible, options, weights):
    plain = options | {"training": options["training"] | {"flexible": False}}
    alone = DiffusionWorkload(plain, None)

    with_rule, without = trained(flexible, weights, steps=1), trained(alone, weights, steps=1)

    assert not np.array_equal(with_rule.update["entry.weight"][:4], without.update["entry.weight"][:4])
    assert np.abs(with_rule.update["exit.weight"]).min() > 0


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_a_narrow_device_trains_and_sends_its_part_only(flexible, weights, width):
    update = trained(flexible, weights, width).update

    assert {n: u.shape for n, u in update.items()} == {n: p.kept for n, p in parts_of(flexible, width).items()}
    assert sum(u.nbytes for u in update.values()) < 1.2 * width**2 * sum(w.nbytes for w in weights.values())
    assert np.abs(update["entry.weight"]).min() > 0


def test_training_lowers_the_loss_at_every_width(flexible):
    def losses(params):
        return [trained(flexible, params, width, steps=1).loss for width in (0.25, 0.5, 0.75, 1.0)]

    start = flexible.initial(1)
    update = trained(flexible, start, steps=15).update
    before, after = losses(start), losses({name: start[name] + update[name] for name in start})

    assert all(a < 0.8 * b for a, b in zip(after, before, strict=True))


def test_a_whole_model_for_a_narrow_device_is_refused(flexible, weights):
    with pytest.raises(BadRequest, match="do not fit this network"):
        flexible.train(weights, ALL, replace(ASSIGNMENT, width=0.5), ignore)
