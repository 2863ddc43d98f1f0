"""DEPICT's convolutional autoencoder (Dizaji et al., ICCV 2017), and what its kind of training keeps of every sample.

Layers as in the authors' code: 4x4 and 5x5 convolutions of stride 2 with LeakyReLU 0.01, a linear layer with tanh, and
their mirror; dropout before the layers where a pass is to be noisy. Initialization: `glorot`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.nn.layers import glorot

SMALLEST = 8  # pixels a side: below, the maps of the second convolution are one pixel wide
SLOPE = 0.01  # of LeakyReLU below 0


class DenoisingAutoencoder(nn.Module):
    """Encoder and decoder of images (n, C, H, W) in [-1, 1], with what their layers say beside the code.

    `dropout`: shares dropped before the first and the second convolution of a noisy pass. `ends`: whether tanh keeps
    the decoded images in [-1, 1]. H, W >= 8.
    """

    def __init__(
        self, shape: Sequence[int], latent_dim: int, *, maps: int, dropout: Sequence[float], ends: bool = True
    ) -> None:
        super().__init__()
        channels, *size = shape
        first = [(side - 4) // 2 + 1 for side in size]
        second = [(side - 1) // 2 + 1 for side in first]
        self.dropout, self.ends, self.maps_shape = tuple(dropout), ends, (maps, *second)
        self.convolutions = nn.ModuleList([nn.Conv2d(channels, maps, 4, 2), nn.Conv2d(maps, maps, 5, 2, padding=2)])
        self.code = nn.Linear(maps * second[0] * second[1], latent_dim)
        self.start = nn.Linear(latent_dim, maps * second[0] * second[1])
        # what a stride of 2 leaves out on the right of sides that it does not divide
        left = [[side - 2 * found + 1 for side, found in zip(first, second, strict=True)]]
        left += [[side - 2 * found - 2 for side, found in zip(size, first, strict=True)]]
        self.transposed = nn.ModuleList(
            [
                nn.ConvTranspose2d(maps, maps, 5, 2, padding=2, output_padding=(left[0][0], left[0][1])),
                nn.ConvTranspose2d(maps, channels, 4, 2, output_padding=(left[1][0], left[1][1])),
            ]
        )
        glorot(self)
        self.to(memory_format=torch.channels_last)

    def encode(self, x: Tensor, *, noisy: bool = False) -> list[Tensor]:
        """[x, the maps of both convolutions, z (n, d) in (-1, 1)] of images x."""
        layers = [x]
        for convolution, share in zip(self.convolutions, self.dropout, strict=True):
            inputs = F.dropout(layers[-1], share) if noisy else layers[-1]
            layers.append(F.leaky_relu(convolution(inputs), SLOPE))
        return [*layers, torch.tanh(self.code(layers[-1].flatten(1)))]

    def decode(self, z: Tensor) -> list[Tensor]:
        """[images, the maps of both convolutions] that the codes z (n, d) stand for."""
        second = F.leaky_relu(self.start(z).unflatten(1, self.maps_shape), SLOPE)
        first = F.leaky_relu(self.transposed[0](second), SLOPE)
        x = self.transposed[1](first)
        return [torch.tanh(x) if self.ends else x, first, second]


class Alternation(nn.Module):
    """For every sample a target distribution that an epoch trains towards, and the soft labels that it came from.

    First the targets are given labels; the rows of `is_held` are kept out then, to see whether these are learned.
    """

    def __init__(self, n_samples: int, n_clusters: int) -> None:
        super().__init__()
        self.targets = nn.Buffer(torch.zeros(n_samples, n_clusters))
        self.soft_labels = nn.Buffer(torch.zeros(n_samples, n_clusters))
        self.labels = nn.Buffer(torch.zeros(n_samples, dtype=torch.int64))
        self.is_held = nn.Buffer(torch.zeros(n_samples, dtype=torch.bool))

    def begin(self, labels: Tensor, held_share: float) -> None:
        """Take labels (n,) as targets, and keep a random share of each label's rows out."""
        self.labels.copy_(labels)
        self.targets.copy_(F.one_hot(labels, self.targets.shape[1]))
        self.is_held.fill_(False)
        for k in range(self.targets.shape[1]):
            (rows,) = (labels == k).nonzero(as_tuple=True)
            chosen = torch.randperm(len(rows))[: round(held_share * len(rows))]
            self.is_held[rows[chosen.to(rows.device)]] = True

    def renew(self, soft_labels: Tensor, targets: Tensor) -> Tensor:
        """Keep soft labels and targets, both (n, K); returns the mean squared change of the former."""
        change = (soft_labels - self.soft_labels).square().mean()
        self.soft_labels.copy_(soft_labels)
        self.targets.copy_(targets)
        return change

    def of(self, rows: Tensor, own: Tensor) -> Tensor:
        """Targets (n, K) of the given rows; a row without one gets its row of `own` (n, K), as a constant."""
        stored = self.targets[rows]
        return torch.where(stored.sum(dim=1, keepdim=True) > 0, stored, own.detach())
