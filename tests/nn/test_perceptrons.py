"""The mirrored autoencoder has the published widths, initialization and scale, and frozen networks learn nothing."""

import torch
from torch import nn

from robust_cluster.nn.perceptrons import MirroredAutoencoder, uniform_fan_in


def widths(network: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]


def test_the_published_network_is_784_500_500_2000_10_and_its_mirror_linear_at_code_and_output() -> None:
    network = MirroredAutoencoder((1, 28, 28), 10, (500, 500, 2000))
    assert widths(network.encoder) == [(784, 500), (500, 500), (500, 2000), (2000, 10)]
    assert widths(network.decoder) == [(10, 2000), (2000, 500), (500, 500), (500, 784)]
    for half in (network.encoder, network.decoder):
        assert [type(layer) for layer in half] == [nn.Linear, nn.ReLU] * 3 + [nn.Linear]
    assert len(list(network.encoder.parameters())) == 8


def test_weights_start_uniform_in_one_over_the_root_of_the_inputs_and_biases_at_zero() -> None:
    network = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 5))
    uniform_fan_in(network)
    for layer, bound in ((network[0], 0.05), (network[2], 300**-0.5)):
        assert isinstance(layer, nn.Linear)
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert abs(layer.weight.std().item() / bound - 3**-0.5) < 0.03
        assert layer.bias.count_nonzero() == 0


def test_rows_are_scaled_samples_and_back() -> None:
    network = MirroredAutoencoder((2, 3, 4), 5, (6,), scale=2.5)
    x = torch.rand(7, 2, 3, 4)
    rows = network.rows(x)
    torch.testing.assert_close(rows, 2.5 * x.reshape(7, 24))
    torch.testing.assert_close(network.samples(rows), x)


def test_scale_and_seed_go_where_the_weights_go() -> None:
    torch.manual_seed(1)
    first = MirroredAutoencoder((4,), 2, (3,), scale=3.0)
    torch.manual_seed(2)
    second = MirroredAutoencoder((4,), 2, (3,))
    assert first.start_seed != second.start_seed
    second.load_state_dict(first.state_dict())
    assert (second.scale, second.start_seed) == (first.scale, first.start_seed)
