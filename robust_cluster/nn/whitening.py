"""Principal components of equal variance, on the unit sphere: how DeepCluster prepares features for k-means."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1e-6  # of the largest variance: components below carry rounding errors, and are left out


class Whitening(nn.Module):
    """x -> V' (x - mean) / ||.||, V the leading eigenvectors of the covariance, each over the root of its variance.

    (n, d) -> (n, components), rows of length 1. Before `fit` it takes the first components as they are.
    """

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(dim))
        self.projection = nn.Buffer(torch.eye(dim, components))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take mean, eigenvectors and variances from x (n, d)."""
        exact = x.cpu().double()  # not all devices have float64, or one order of summation in eigh
        variances, vectors = torch.linalg.eigh(exact.T.cov(correction=0))
        kept = slice(-self.projection.shape[1], None)
        variances, vectors = variances[kept].flip(0), vectors[:, kept].flip(1)
        is_real = variances > LEAST * variances[0].clamp_min(torch.finfo(torch.float32).tiny)
        self.mean.copy_(exact.mean(dim=0))
        self.projection.copy_(torch.where(is_real, vectors / variances.clamp_min(1e-300).sqrt(), 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Whitened rows of length 1."""
        return F.normalize((x - self.mean) @ self.projection, dim=1)
