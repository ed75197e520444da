import pytest
import torch

from workloads.unet import Layer, UNet, kept, macs, narrowed


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
    with torch.device("meta"):
        return UNet((3, 32), channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,))


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_a_slice_is_the_narrow_network_with_the_same_weights(net, width):
    narrow = UNet((1, 8), channels=kept(32, width), multipliers=(1, 2), blocks=1, attention=(4,))
    narrow.channels, narrow.time1 = (
        net.channels,
        Layer((net.channels,), narrow.time_channels),
    )  # as many frequencies
    narrow.entry = Layer((1,), kept(32, width), 3, 3)
    narrow.load_state_dict(narrowed(net, width))
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([0, 400, 999])

    assert torch.equal(net(x, t, width), narrow(x, t, 1.0))


def test_training_at_a_width_moves_only_that_slice(net):
    net.zero_grad()
    net(torch.ones(2, 1, 8, 8), torch.tensor([1, 2]), 0.5).square().sum().backward()

    conv = net.down[0].conv1.weight.grad
    assert conv[:16, :16].abs().min() > 0
    assert conv[16:].abs().max() == conv[:, 16:].abs().max() == 0


@pytest.mark.parametrize(("width", "millions"), [(1.0, 35.746307), (0.75, 20.13), (0.5, 8.97), (0.25, 2.26)])
def test_size_is_the_published_one_for_cifar_10(published, width, millions):
    size = sum(p.numel() for p in narrowed(published, width).values())

    assert size / 1e6 == pytest.approx(millions, rel=1e-3)


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
