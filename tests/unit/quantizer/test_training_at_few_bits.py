"""Quantisation-aware training: what the grid promises, and that the network is left as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from quantizer.qat import Quantised, clip, fixed_point

pytestmark = pytest.mark.slow


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_mean_over_draws_is_the_value_and_the_variance_below_the_formula(bits):
    x = torch.linspace(-1, 1, 301).double()
    draws = torch.stack([fixed_point(x.float(), bits, generator(seed)).double() for seed in range(400)])
    step = 2.0 ** (1 - bits)
    place = torch.remainder(x / step, 1)
    spread = step * (place * (1 - place) / 400).sqrt()
    assert (draws.mean(0) - x).abs().le(4 * spread + 1e-6).all()
    assert ((draws - x) ** 2).mean(0).sum() <= x.numel() * step**2 / 4


@pytest.mark.parametrize("bits", [2, 5, 16])
def test_values_are_on_the_grid_between_minus_one_and_one(bits):
    q = fixed_point(3 * torch.randn(1000, generator=generator()), bits, generator())
    steps = q * 2.0 ** (bits - 1)
    assert torch.equal(steps, steps.round())
    assert q.abs().max() <= 1


def test_32_bits_are_the_value_itself_and_one_bit_is_the_sign():
    x = torch.tensor([-0.3, 0.0, 2.0])
    assert fixed_point(x, 32) is x
    assert fixed_point(x, 1).tolist() == [-1, 1, 1]


def test_a_reach_of_its_own_is_the_power_of_two_that_holds_the_tensor():
    x = torch.tensor([0.1, -5.0, 3.0])
    q = fixed_point(x, 4, generator(), reach=None)
    assert (q % 1 == 0).all()
    assert (q - x).abs().max() < 1


@pytest.mark.parametrize("bits", [0, 17, 31])
def test_other_bit_widths_are_refused(bits):
    with pytest.raises(ValueError, match=f"{bits} bits"):
        fixed_point(torch.ones(1), bits)


@pytest.mark.parametrize("bits", [1, 4])
def test_the_gradient_goes_straight_through_where_nothing_is_clipped(bits):
    x = torch.tensor([-1.5, -0.4, 0.3, 1.5], requires_grad=True)
    fixed_point(x, bits, generator()).mul(torch.tensor([2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [0, 3, 4, 0]


def test_at_32_bits_a_network_gives_what_it_gives_without():
    net, images = network(), torch.randn(2, 1, 8, 8, generator=generator())
    assert torch.equal(Quantised(net.eval(), 32, 32)(images), net(images))


def test_nothing_is_set_on_the_network_and_gradients_arrive_at_its_own_parameters():
    net, images = network(), torch.randn(2, 1, 8, 8, generator=generator())
    attributes = [sorted(vars(module)) for module in net.modules()]
    before = {name: p.clone() for name, p in net.named_parameters()}
    Quantised(net, 3, 3, generator())(images).sum().backward()
    assert [sorted(vars(module)) for module in net.modules()] == attributes
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (net[0].weight, net[4].weight))


def test_weights_and_activations_are_on_the_grid_while_the_network_runs():
    seen = {}

    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(5, 7)

        def forward(self, x):
            seen["weight"], seen["bias"] = self.inner.weight, self.inner.bias
            seen["activation"] = functional.relu(self.inner(x))
            return seen["activation"]

    Quantised(Probe(), 3, 4, generator())(torch.randn(6, 5, generator=generator()))
    assert torch.equal(seen["weight"] * 4, (seen["weight"] * 4).round())
    assert torch.equal(seen["activation"] * 8, (seen["activation"] * 8).round())
    assert isinstance(seen["bias"], nn.Parameter)


def test_the_same_generator_draws_the_same_forward_pass():
    net, images = network().eval(), torch.randn(2, 1, 8, 8, generator=generator())
    runs = [Quantised(net, 2, 2, generator(seed))(images) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_four_bits_learn_what_a_line_separates():
    draw = generator(3)
    x = torch.randn(256, 2, generator=draw)
    y = (x[:, 0] > x[:, 1]).long()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        functional.cross_entropy(Quantised(net, 4, 4, draw)(x), y).backward()
        optimizer.step()
        clip(net)
    right = (Quantised(net, 4, 4, draw)(x).argmax(1) == y).float().mean().item()
    assert right > 0.9
    assert max(p.abs().max() for p in net.parameters() if p.ndim > 1) <= 1
