"""Random moves of points: inside a ball, of the size of other moves, or these with their values shuffled."""

import torch
from torch import Tensor

from robust_cluster.attacks.budget import Budget


def draw(clean: Tensor, budget: Budget, view: int, random: torch.Generator, *, is_corner: bool) -> Tensor:
    """The points of a view moved to a random corner of their ball, or anywhere between; in L2 of the cube inside it."""
    size = budget.radius(view) / (clean[0].numel() ** 0.5 if budget.norm == "l2" else 1.0)
    values = 2 * torch.rand(clean.shape, generator=random) - 1
    return clean + size * (values.sign() if is_corner else values).to(clean.device)


def equal_norm_noise(delta: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian directions (n, ...) with each sample's L2 norm that of `delta`: the control of every attack."""
    noise = torch.randn(delta.shape, generator=generator, dtype=delta.dtype).to(delta.device)
    shape = (-1, *[1] * (delta.ndim - 1))
    norms = delta.flatten(1).norm(dim=1).view(shape)
    scaled: Tensor = noise * norms / noise.flatten(1).norm(dim=1).clamp_min(1e-12).view(shape)
    return scaled


def shuffled(delta: Tensor, random: torch.Generator) -> Tensor:
    """The moves (n, ...) with the values of each sample in a random order: equal norms and histogram."""
    order = torch.rand((len(delta), delta[0].numel()), generator=random).argsort(dim=1).to(delta.device)
    return delta.flatten(1).gather(1, order).view_as(delta)
