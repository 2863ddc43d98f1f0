"""The ladder network (Rasmus et al., NeurIPS 2015): a classifier whose every layer is to be found again under noise."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5  # batch norm's, beside the variance
FIRST = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)  # a_1 ... a_10: at first z^ = z~ * sigmoid(u) or so


@dataclass(frozen=True)
class Climb:
    """One pass up: z of the input and of each layer, where it is normalized; what was normalized; logits."""

    z: list[Tensor]  # L + 1 of (n, width)
    before: list[Tensor]  # L of (n, width)
    logits: Tensor  # (n, K)


class Ladder(nn.Module):
    """Layers of the given widths, batch norm and ReLU between them, logits on top; and a decoder down from these.

    A noisy pass adds N(0, noise^2) to the input and to every normalized layer. The decoder combines the layer above,
    u = BN(V z^), with the noisy z~: z^ = (z~ - m(u)) v(u) + m(u), m and v of the form a sigmoid(b u + c) + d u + e with
    parameters of every unit. Batches of at least 2 rows while training.
    """

    def __init__(self, widths: Sequence[int], noise: float) -> None:
        super().__init__()
        self.noise = noise
        pairs = list(itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.Linear(inputs, outputs, bias=False) for inputs, outputs in pairs)
        self.down = nn.ModuleList(nn.Linear(outputs, inputs, bias=False) for inputs, outputs in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, affine=False) for width in widths[1:])
        self.shifts = nn.ParameterList(torch.zeros(width) for width in widths[1:])
        self.top_scale = nn.Parameter(torch.ones(widths[-1]))
        self.combine = nn.ParameterList(torch.tensor(FIRST)[:, None].repeat(1, width) for width in widths)
        for layer in (*self.up, *self.down):
            nn.init.normal_(layer.weight, 0.0, layer.in_features**-0.5)

    def climb(self, x: Tensor, *, noisy: bool = False) -> Climb:
        """A pass of rows x (n, D); a noisy one leaves the statistics of the batch norms alone."""
        z, before = [self.shaken(x, noisy=noisy)], list[Tensor]()
        h = z[0]
        for layer, norm, shift in zip(self.up, self.norms, self.shifts, strict=True):
            before.append(layer(h))
            is_apart = noisy and self.training  # takes the batch's statistics too, and keeps none
            alone = F.batch_norm(before[-1], None, None, training=True) if is_apart else norm(before[-1])
            z.append(self.shaken(alone, noisy=noisy))
            h = torch.relu(z[-1] + shift)
        return Climb(z, before, self.top_scale * (z[-1] + self.shifts[-1]))

    def shaken(self, z: Tensor, *, noisy: bool) -> Tensor:
        """z with the noise of a noisy pass."""
        return z + self.noise * torch.randn_like(z) if noisy else z

    def descend(self, noisy: Climb) -> list[Tensor]:
        """z^ of the input and every layer, each (n, width), found again from a noisy pass."""
        u, found = noisy.logits.softmax(dim=1), list[Tensor]()
        for level in reversed(range(len(noisy.z))):
            u = F.batch_norm(u, None, None, training=True)
            a = self.combine[level]
            mean = a[0] * torch.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
            share = a[5] * torch.sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
            found.append((noisy.z[level] - mean) * share + mean)
            u = self.down[level - 1](found[-1]) if level else u
        return found[::-1]

    def denoising(self, clean: Climb, noisy: Climb, weights: Sequence[float]) -> Tensor:
        """sum_l w_l E ||z_l - (z^_l - mean_l) / deviation_l||^2 / width_l, a scalar.

        Mean and deviation are those of the layer's clean pass before its normalization, 0 and 1 for the input.
        """
        costs = []
        for level, (weight, found) in enumerate(zip(weights, self.descend(noisy), strict=True)):
            if level:
                before = clean.before[level - 1]
                found = (found - before.mean(dim=0)) / (before.var(dim=0, correction=0) + EPS).sqrt()
            costs.append(weight * F.mse_loss(found, clean.z[level]))
        return torch.stack(costs).sum()
