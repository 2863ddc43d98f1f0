"""The fully connected autoencoder of the DEC family (ICML 2016), n-500-500-2000-d and its mirror."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robust_cluster.nn.layers import perceptron


def uniform_fan_in(module: nn.Module) -> None:
    """Weights uniform in +-1/sqrt(inputs) and zero biases in every linear layer (VarianceScaling 1/3 in DEC's code)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)


class MirroredAutoencoder(nn.Module):
    """A perceptron and its mirror, ReLU inside, latent and output linear, on samples of any shape as rows.

    `scale` multiplies what goes in and divides what comes out; losses compare scaled rows. `start_seed` is a random
    number that is saved with the weights, so that all methods that start from one pretrained network fit the same
    k-means to it. Initialization: `uniform_fan_in`.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, hidden: Sequence[int], *, scale: float = 1.0) -> None:
        super().__init__()
        self.shape = tuple(shape)
        widths = [math.prod(self.shape), *hidden, latent_dim]
        self.encoder = perceptron(widths)
        self.decoder = perceptron(widths[::-1])
        uniform_fan_in(self)
        self.scale = nn.Buffer(torch.tensor(scale))
        self.start_seed = nn.Buffer(torch.randint(2**31, ()))

    def rows(self, x: Tensor) -> Tensor:
        """Scaled rows (n, D) of samples (n, *shape)."""
        return x.flatten(1) * self.scale

    def samples(self, rows: Tensor) -> Tensor:
        """Samples (n, *shape) of scaled rows (n, D)."""
        return (rows / self.scale).reshape(len(rows), *self.shape)
