"""The kNN graph of a batch and the smoothness of assignments on it (ALRDC supplement, Eq. 5)."""

import math

import torch
from torch import Tensor

from robust_cluster.errors import ConfigError, ShapeError

ROWS = 1000  # whose distances to all others are held at once


def neighbor_weights(z: Tensor, neighbors: int, *, bandwidth: float | None = None, count_self: bool = False) -> Tensor:
    """Symmetric weights W (n, n) >= 0 with zero diagonal: exp(-dist^2 / (2 sigma^2)) to each nearest neighbor.

    `bandwidth`: sigma, None for the median distance to the last neighbor. `count_self`: the point itself is one of its
    `neighbors`, as in ALRDC's code. W is a constant: no gradient flows through it.
    Shape: z (n, d). Raises: ConfigError unless 1 <= neighbors <= n - 1.
    """
    n = len(z)
    if not 1 <= neighbors <= n - 1:
        hint = "--set model.neighbors=3"
        raise ConfigError(f"neighbors must be in [1, batch - 1] = [1, {n - 1}], got {neighbors}", hint=hint)
    with torch.no_grad():
        # without products: in reduced precision they would reorder near neighbors
        squares = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square()
        squares.fill_diagonal_(0.0 if count_self else math.inf)
        nearest, index = squares.topk(neighbors, dim=1, largest=False)
        sigma_square = nearest[:, -1].sqrt().median().square() if bandwidth is None else z.new_tensor(bandwidth**2)
        weights = torch.zeros_like(squares)
        weights.scatter_(1, index, torch.exp(-nearest / (2 * sigma_square).clamp_min(1e-12)))
        weights = (weights + weights.T) / 2
        return weights.fill_diagonal_(0.0)


def neighbor_distances(x: Tensor, neighbors: int) -> Tensor:
    """The distance (n,) of every row of x (n, D) to its `neighbors`-th nearest other row; 1 <= neighbors <= n - 1."""
    # the row itself is the nearest, at a distance that may be a rounding error above 0
    return torch.cat(
        [torch.cdist(part, x).topk(neighbors + 1, dim=1, largest=False).values[:, -1] for part in x.split(ROWS)]
    )


def nearest_neighbors(x: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Squared distances and row numbers, both (n, k), of the nearest others to each row of x (n, D), the nearest first.

    Of a row itself there is none, also where others are equal to it. 1 <= k = neighbors <= n - 1.
    """
    squares, numbers = [], []
    for rows in torch.arange(len(x), device=x.device).split(ROWS):
        distances = torch.cdist(x[rows], x)
        distances.scatter_(1, rows[:, None], math.inf)
        found = distances.topk(neighbors, dim=1, largest=False)
        squares.append(found.values.square())
        numbers.append(found.indices)
    return torch.cat(squares), torch.cat(numbers)


def orthonormal(soft_labels: Tensor, ridge: float) -> Tensor:
    """Y (L^-1)^T sqrt(n) with L L^T = Y^T Y + ridge I, so that its Gram matrix over n is the identity.

    Source: ALRDC's code (and SpectralNet's output layer). The factor is taken in float64. Shape: (n, K) -> (n, K).
    """
    device = soft_labels.device
    # MPS has no float64; K x K is small enough to go over
    exact = (soft_labels.cpu() if device.type == "mps" else soft_labels).double()
    gram = exact.T @ exact + ridge * torch.eye(exact.shape[1], dtype=exact.dtype, device=exact.device)
    factor = torch.linalg.cholesky(gram)
    whitened = torch.linalg.solve_triangular(factor, exact.T, upper=False).T
    result: Tensor = whitened * math.sqrt(len(exact))
    return result.to(device=device, dtype=soft_labels.dtype)


def smoothness(weights: Tensor, soft_labels: Tensor) -> Tensor:
    """sum_ij W_ij ||y_i - y_j||^2 (ALRDC supplement, Eq. 5, last term without its 1/n^2).

    Shapes: weights (n, n), symmetric, non-negative; soft_labels (n, K); returns a scalar >= 0.
    Raises: ShapeError when n differs.
    """
    if weights.shape != (len(soft_labels), len(soft_labels)):
        raise ShapeError(f"weights {tuple(weights.shape)} do not fit {len(soft_labels)} samples")
    degrees = weights.sum(dim=1)
    squares = soft_labels.square().sum(dim=1)
    return 2 * (degrees @ squares) - 2 * (soft_labels * (weights @ soft_labels)).sum()
