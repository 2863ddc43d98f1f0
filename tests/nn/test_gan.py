"""Generator and discriminator have the published layers at 28 x 28 pixels and take other images too."""

import pytest
import torch
from torch import nn

from robust_cluster.errors import ShapeError
from robust_cluster.nn.gan import Discriminator, Generator, normal_init

SHAPES = [(1, 16, 16), (1, 17, 17), (1, 18, 19), (1, 28, 28), (1, 30, 30), (1, 32, 24), (3, 128, 64), (2, 16, 33)]


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules() if not list(layer.children())]


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def sides(network: Generator | Discriminator, shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Height and width behind every convolution."""
    found: list[tuple[int, int]] = []
    for layer in network.maps:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda module, inputs, output: found.append(tuple(output.shape[2:])))
    network(torch.rand(2, *shape))
    return found


def test_the_networks_have_the_published_number_of_parameters() -> None:
    assert size(Generator((1, 28, 28))) == 11_936
    assert size(Discriminator((1, 28, 28))) == 10_553


def test_the_generators_layers_stand_in_the_published_order_with_the_published_maps() -> None:
    generator = Generator((1, 28, 28))
    down, up = ["Conv2d", "InstanceNorm2d", "ReLU"], ["ConvTranspose2d", "InstanceNorm2d", "ReLU"]
    assert kinds(generator) == [*down * 3, *up * 2, "ConvTranspose2d"]
    layers = [layer for layer in generator.maps if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in layers] == [8, 16, 32, 16, 8, 1]
    assert [layer.bias is None for layer in layers] == [False, False, False, True, True, True]
    assert sides(generator, (1, 28, 28)) == [(side, side) for side in (26, 12, 5, 11, 23, 28)]
    assert not any(layer.affine for layer in generator.maps if isinstance(layer, nn.InstanceNorm2d))


def test_the_discriminators_layers_stand_in_the_published_order_with_the_published_maps() -> None:
    discriminator = Discriminator((1, 28, 28))
    later = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds(discriminator) == ["Conv2d", "LeakyReLU", *later, *later, "Conv2d"]
    layers = [layer for layer in discriminator.maps if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [8, 16, 32, 1]
    assert [layer.negative_slope for layer in discriminator.maps if isinstance(layer, nn.LeakyReLU)] == [0.2] * 3
    assert sides(discriminator, (1, 28, 28)) == [(13, 13), (5, 5), (1, 1), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_image_size_comes_back_as_unbounded_values_of_that_size(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    generator = Generator(shape)
    images = torch.rand(3, *shape)
    u = generator(images)
    assert u.shape == images.shape
    normal_init(generator, 1.0)
    assert generator(images).abs().max() > 1  # before tanh
    widths = [layer.out_channels for layer in generator.maps if isinstance(layer, nn.Conv2d)]
    assert widths == ([8, 16, 32] if shape[0] == 1 else [16, 32, 64])


def test_a_side_is_cut_in_the_middle_of_the_next_larger_one_that_the_layers_reach() -> None:
    generator = Generator((1, 28, 30))
    images = torch.rand(2, 1, 28, 30)
    whole = generator.maps(images)
    assert whole.shape[2:] == (28, 32)
    assert generator(images).equal(whole[:, :, :, 1:31])
    for side in range(16, 40):
        assert Generator((1, side, side)).maps(torch.rand(1, 1, side, side)).shape[2] == 4 * ((side - 5) // 4) + 8


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_discriminator_gives_one_logit_a_sample_of_any_image_size(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(shape).eval()
    images = torch.rand(3, *shape)
    logits = discriminator(images)
    assert logits.shape == (3,)
    torch.testing.assert_close(logits, torch.cat([discriminator(image[None]) for image in images]))


@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((1, 16, 16), [8, 16, 1]),
        ((1, 32, 24), [8, 16, 32, 1]),
        ((3, 128, 64), [8, 16, 32, 64, 1]),
        ((1, 64, 128), [8, 16, 32, 64, 1]),
    ],
)
def test_the_discriminator_has_stages_for_as_long_as_four_pixels_are_left(
    shape: tuple[int, int, int], maps: list[int]
) -> None:
    discriminator = Discriminator(shape)
    assert [layer.out_channels for layer in discriminator.maps if isinstance(layer, nn.Conv2d)] == maps
    *before, last, _ = sides(discriminator, shape)
    assert all(min(size) >= 4 for size in before)
    assert 1 <= min(last) < 4


def test_the_logit_is_the_mean_of_the_last_map_so_that_every_part_of_a_large_image_counts() -> None:
    discriminator = Discriminator((3, 128, 64)).eval()
    images = torch.rand(2, 3, 128, 64)
    last = discriminator.maps(images)
    assert last.shape == (2, 1, 6, 2)
    torch.testing.assert_close(discriminator(images), last.flatten(1).mean(dim=1))


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 15, 28), (1, 28, 15), (1, 2, 28, 28)])
def test_vectors_and_smaller_images_are_refused_in_a_sentence(shape: tuple[int, ...]) -> None:
    for make in (Generator, Discriminator):
        with pytest.raises(ShapeError, match=r"images \(channels, height, width\) of at least 16 x 16 pixels, got \("):
            make(shape)


def test_normal_init_draws_convolutions_from_its_spread_and_batch_norm_near_one() -> None:
    torch.manual_seed(0)
    both = nn.ModuleList([Generator((1, 28, 28)), Discriminator((3, 128, 64))])
    biases = {name: p.clone() for name, p in both.named_parameters() if name.endswith("bias")}
    normal_init(both, 1.0)
    weights = torch.cat(
        [layer.weight.flatten() for layer in both.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    )
    assert weights.std().item() == pytest.approx(1.0, abs=0.02)
    assert weights.mean().item() == pytest.approx(0.0, abs=0.02)
    norms = [layer for layer in both.modules() if isinstance(layer, nn.BatchNorm2d)]
    scales = torch.cat([layer.weight for layer in norms])
    assert scales.std().item() == pytest.approx(0.02, abs=0.005)
    assert scales.mean().item() == pytest.approx(1.0, abs=0.01)
    assert not any(layer.bias.any() for layer in norms)
    assert all(p.equal(biases[name]) for name, p in both.named_parameters() if name in biases)
    normal_init(both, 0.02)
    assert both[0].maps[0].weight.std().item() < 0.03  # type: ignore[union-attr, index]
