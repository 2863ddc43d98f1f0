"""DEPICT's autoencoder reaches every size, drops only where it is told to, and each sample keeps its target."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robust_cluster.nn.denoising import Alternation, DenoisingAutoencoder


@pytest.mark.parametrize("size", [(28, 28), (16, 16), (8, 9), (17, 30)])
def test_the_decoder_mirrors_the_layers_of_the_encoder(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = DenoisingAutoencoder((2, *size), 5, maps=6, dropout=(0.1, 0.1))
    x = torch.rand(3, 2, *size) * 2 - 1
    *layers, z = net.encode(x)
    decoded = net.decode(z)
    assert z.shape == (3, 5)
    assert [layer.shape for layer in decoded] == [layer.shape for layer in layers]
    assert z.abs().max() < 1
    assert decoded[0].abs().max() < 1


def test_the_published_layers_of_28_pixels() -> None:
    net = DenoisingAutoencoder((1, 28, 28), 10, maps=50, dropout=(0.1, 0.1))
    *layers, _ = net.encode(torch.zeros(1, 1, 28, 28))
    assert [layer.shape[1:] for layer in layers] == [(1, 28, 28), (50, 13, 13), (50, 7, 7)]
    assert (net.code.in_features, net.code.out_features) == (2450, 10)


def test_a_noisy_pass_drops_a_share_of_image_and_first_maps_in_evaluation_too() -> None:
    torch.manual_seed(0)
    net = DenoisingAutoencoder((1, 8, 8), 3, maps=4, dropout=(0.25, 0.5)).eval()
    x = torch.rand(5, 1, 8, 8)
    torch.manual_seed(3)
    noisy = net.encode(x, noisy=True)
    torch.manual_seed(3)
    first = F.leaky_relu(F.conv2d(F.dropout(x, 0.25), net.convolutions[0].weight, net.convolutions[0].bias, 2), 0.01)  # type: ignore[arg-type]
    torch.testing.assert_close(noisy[1], first)
    dropped = F.dropout(first, 0.5)
    second = F.leaky_relu(net.convolutions[1](dropped), 0.01)
    torch.testing.assert_close(noisy[3], torch.tanh(net.code(second.flatten(1))))
    assert net.encode(x)[3].equal(net.encode(x)[3])
    assert not noisy[3].equal(net.encode(x)[3])


def test_weights_start_glorot_uniform_and_biases_at_0() -> None:
    net = DenoisingAutoencoder((1, 28, 28), 10, maps=50, dropout=(0.1, 0.1))
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            assert layer.bias is not None
            assert not layer.bias.any()
    assert net.code.weight.abs().max().item() == pytest.approx((6 / 2460) ** 0.5, rel=0.01)


def test_a_share_of_every_label_is_held_out() -> None:
    kept = Alternation(100, 3)
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    torch.manual_seed(0)
    kept.begin(labels, 0.1)
    assert [int(kept.is_held[labels == k].sum()) for k in range(3)] == [7, 2, 1]
    assert kept.targets.argmax(dim=1).equal(labels)
    assert kept.of(torch.tensor([5, 80]), torch.full((2, 3), 9.0)).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_a_renewal_tells_the_mean_squared_change_and_rows_without_a_target_get_their_own() -> None:
    kept = Alternation(2, 2)
    own = torch.tensor([[0.5, 0.5]], requires_grad=True)
    assert kept.of(torch.tensor([1]), own).tolist() == [[0.5, 0.5]]
    assert not kept.of(torch.tensor([1]), own).requires_grad
    soft, targets = torch.tensor([[1.0, 0], [0.5, 0.5]]), torch.tensor([[1.0, 0], [0.25, 0.75]])
    assert kept.renew(soft, targets).item() == pytest.approx(1.5 / 4)
    assert kept.renew(soft, targets).item() == 0
    assert kept.of(torch.tensor([1]), own).tolist() == [[0.25, 0.75]]
