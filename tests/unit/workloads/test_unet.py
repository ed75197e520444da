import pytest
import torch

from workloads.narrow import cut
from workloads.unet import UNet, held, kept, macs, parameters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def net() -> UNet:
    net = UNet((1, 8), channels=32, multipliers=(1, 2), blocks=1, attention=(4,))
    generator = torch.Generator().manual_seed(0)
    net.draw(generator)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)
    return net


@pytest.fixture(scope="module")
def published() -> UNet:
    return of_cifar_10(1.0)


def of_cifar_10(width: float) -> UNet:
    with torch.device("meta"):
        return UNet((3, 32), channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), width=width)


def narrowed(net: UNet, width: float) -> UNet:
    narrow = UNet((1, 8), channels=32, multipliers=(1, 2), blocks=1, attention=(4,), width=width)
    weights = {name: p.numpy() for name, p in net.state_dict().items()}
    parts = cut(weights, held(net, narrow))
    narrow.load_state_dict({name: torch.from_numpy(p) for name, p in parts.items()})
    return narrow


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_a_slice_is_the_narrow_network_with_the_same_weights(net, width):
    narrow = narrowed(net, width)
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([0, 400, 999])

    assert parameters(narrow) < width * parameters(net)
    for narrower in (width, 0.25):
        assert torch.equal(net(x, t, narrower), narrow(x, t, narrower))


def test_a_narrow_network_refuses_a_width_that_it_does_not_hold(net):
    with pytest.raises(ValueError, match="width 0.75; this network holds widths up to 0.5"):
        narrowed(net, 0.5)(torch.zeros(1, 1, 8, 8), torch.tensor([1]), 0.75)


@pytest.mark.parametrize("width", [0.25, 0.375, 0.5, 0.625, 0.75, 0.875])
def test_cost_of_a_small_network_with_a_small_divisor_goes_with_the_square_of_the_width(width):
    net = UNet((1, 8), channels=32, multipliers=(1, 2), blocks=1, attention=(), divisor=4)

    assert macs(net, (1, 8), width) / macs(net, (1, 8), 1.0) == pytest.approx(width**2, rel=0.03)


def times_told_apart(width: float, group: int | None) -> bool:
    """Whether the first block of a network of 16 channels gives different images at different time steps."""
    generator = torch.Generator().manual_seed(1)
    net = UNet((1, 8), 16, (1, 2), 1, (), divisor=4, group=group)
    net.draw(generator)
    torch.nn.init.normal_(net.down[0].conv2.weight, generator=generator)
    c = kept(16, width, 4)
    inputs, times = [torch.randn(1, c, 8, 8, generator=generator)], torch.randn(2, 1, 4 * c, generator=generator)
    with torch.no_grad():
        early, late = (net.down[0](inputs, time, width) for time in times)
    return not torch.allclose(early, late, atol=1e-3)


def test_groups_of_a_fixed_size_let_the_narrowest_call_know_the_time_step():
    assert times_told_apart(1.0, group=None)
    assert not times_told_apart(0.25, group=None)
    assert times_told_apart(0.25, group=4)


def test_with_groups_of_a_fixed_size_a_channel_is_normalised_with_the_same_others_at_every_width():
    net = UNet((1, 8), 16, (1, 2), 1, (), divisor=4, group=4)
    whole = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(1))

    for few in (4, 8, 12):
        assert torch.allclose(net.norm(whole[:, :few]), net.norm(whole)[:, :few], atol=1e-6)


def test_a_group_that_does_not_divide_the_divisor_is_refused_with_numbers():
    with pytest.raises(ValueError, match="divisor 4 is not a multiple of group 3"):
        UNet((1, 8), 16, (1, 2), 1, (), divisor=4, group=3)


def test_training_at_a_width_moves_only_that_slice(net):
    net.zero_grad()
    net(torch.ones(2, 1, 8, 8), torch.tensor([1, 2]), 0.5).square().sum().backward()

    conv = net.down[0].conv1.weight.grad
    assert conv[:16, :16].abs().min() > 0
    assert conv[16:].abs().max() == conv[:, 16:].abs().max() == 0


@pytest.mark.parametrize(("width", "millions"), [(1.0, 35.746307), (0.75, 20.13), (0.5, 8.97), (0.25, 2.26)])
def test_size_is_the_published_one_for_cifar_10(width, millions):
    assert parameters(of_cifar_10(width)) / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize(("width", "gmac"), [(1.0, 6.222), (0.25, 0.422)])
def test_cost_is_the_published_one_for_cifar_10(published, width, gmac):
    assert macs(published, (3, 32), width) / 1e9 == pytest.approx(gmac, rel=1e-3)


def test_patches_change_the_cost_and_not_the_shape():
    net = UNet((1, 8), channels=16, multipliers=(1, 2), blocks=1, attention=(), patch=2)

    assert net(torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]), 1.0).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(("width", "channels"), [(1.0, 40), (0.5, 24), (0.25, 16), (0.01, 8)])
def test_kept_channels_are_multiples_of_eight(width, channels):
    assert kept(40, width) == channels


@pytest.mark.parametrize("width", [0.0, -0.5, 1.01])
def test_a_width_outside_0_to_1_is_refused(width):
    with pytest.raises(ValueError, match="not in"):
        kept(32, width)


def test_images_that_cannot_be_halved_are_refused_with_numbers():
    with pytest.raises(ValueError, match="side 28 in patches of 1 cannot be halved 3 times"):
        UNet((1, 28), channels=16, multipliers=(1, 2, 2, 2), blocks=1, attention=())
