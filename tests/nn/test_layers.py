"""Layer sizes of the published networks, and that the decoder gives back every image size."""

import math

import pytest
import torch
from torch import nn

from robust_cluster.nn.layers import (
    GaussianAutoencoder,
    ImageDecoder,
    ImageEncoder,
    batch_norm_mode,
    flat,
    glorot,
    perceptron,
)


def test_the_image_encoder_has_four_convolutions_and_3136_features_of_a_28x28_image() -> None:
    encoder = ImageEncoder(1)
    convolutions = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (32, (3, 3), (2, 2)),
        (32, (3, 3), (1, 1)),
        (64, (3, 3), (2, 2)),
        (64, (3, 3), (1, 1)),
    ]
    assert [layer.negative_slope for layer in encoder if isinstance(layer, nn.LeakyReLU)] == [0.2] * 4
    assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 3136)


def test_the_image_decoder_has_five_transposed_convolutions_and_ends_in_a_sigmoid() -> None:
    decoder = ImageDecoder(10, (1, 28, 28))
    layers = [layer for layer in decoder.maps if isinstance(layer, nn.ConvTranspose2d)]
    assert (decoder.dense.in_features, decoder.dense.out_features) == (10, 3136)
    assert [(c.out_channels, c.stride[0]) for c in layers] == [(64, 1), (64, 2), (32, 1), (32, 2), (1, 1)]
    assert [type(layer) for layer in decoder.maps[-2:]] == [nn.ConvTranspose2d, nn.Sigmoid]
    assert [layer.negative_slope for layer in decoder.maps if isinstance(layer, nn.LeakyReLU)] == [0.2] * 4


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 7, 9), (2, 5, 8), (1, 13, 6), (1, 1, 1)])
def test_images_of_even_and_odd_sides_come_back_in_their_size_and_in_0_to_1(shape: tuple[int, int, int]) -> None:
    network = GaussianAutoencoder(shape, 4, ())
    mean, log_var = network.encode(torch.rand(2, *shape))
    assert mean.shape == log_var.shape == (2, 4)
    images = network.decode(100 * mean)
    assert images.shape == (2, *shape)
    assert images.min() >= 0
    assert images.max() <= 1


def test_vectors_take_a_mirrored_perceptron_with_a_linear_output() -> None:
    network = GaussianAutoencoder((2048,), 64, (500, 500, 2000))

    def sizes(module: nn.Module) -> list[tuple[int, int]]:
        return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]

    assert sizes(network.body) == [(2048, 500), (500, 500), (500, 2000)]
    assert sizes(network.mean) == sizes(network.log_var) == [(2000, 64)]
    assert sizes(network.decoder) == [(64, 2000), (2000, 500), (500, 500), (500, 2048)]
    assert sum(isinstance(module, nn.ReLU) for module in network.body.modules()) == 3
    assert network.decode(torch.randn(50, 64)).min() < 0


def test_an_activation_stands_between_layers_and_never_after_the_last() -> None:
    assert [type(layer) for layer in perceptron([3, 4, 2])] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in perceptron([3, 4, 2], None)] == [nn.Linear, nn.Linear]


@pytest.mark.parametrize("layer", [nn.Linear(300, 100), nn.Conv2d(8, 16, 3), nn.ConvTranspose2d(8, 16, 3)])
def test_glorot_is_uniform_within_its_bound_with_zero_biases(layer: nn.Linear | nn.Conv2d) -> None:
    torch.manual_seed(0)
    area = layer.weight[0, 0].numel()
    bound = math.sqrt(6 / (area * (layer.weight.shape[0] + layer.weight.shape[1])))
    glorot(layer)
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert layer.bias is not None
    assert layer.bias.count_nonzero() == 0


def test_flat_lays_views_side_by_side() -> None:
    views = torch.arange(4.0).view(2, 1, 1, 2), torch.tensor([[9.0], [8.0]])
    assert flat(views).tolist() == [[0, 1, 9], [2, 3, 8]]


def test_batch_norm_in_batch_mode_takes_the_batchs_statistics_and_leaves_its_buffers() -> None:
    norm = nn.BatchNorm1d(3)
    x = 5 + 2 * torch.randn(50, 3)
    norm(x)
    norm.eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with batch_norm_mode(norm, "batch"):
        found = norm(x)
    torch.testing.assert_close(found, (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + norm.eps).sqrt())
    with batch_norm_mode(norm, "eval"):
        stored = norm(x)
    torch.testing.assert_close(stored, (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt())  # type: ignore[operator]
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert (norm.training, norm.track_running_stats) == (False, True)


def test_batch_norm_is_put_back_after_an_error_and_in_training_mode() -> None:
    norm = nn.BatchNorm1d(3).train()
    with pytest.raises(ValueError, match="Expected more than 1 value"), batch_norm_mode(norm, "batch"):
        norm(torch.randn(1, 3))
    assert (norm.training, norm.track_running_stats) == (True, True)
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 0
