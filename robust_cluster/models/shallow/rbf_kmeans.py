"""k-means in the feature space of a Gaussian kernel (Schölkopf, Smola and Müller, 1998); ADEC's "RBF k-means".

k(x, y) = exp(-g ||x - y||^2). The squared distance of a sample to the mean of cluster c in the kernel's space is
k_ii - 2 mean_j k_ij + mean_jl k_jl, j and l in c; Lloyd's passes assign to the nearest mean until no label changes,
from `n_init` starts of k-means++ in that space; the least sum of distances counts. All n^2 values of the kernel
are kept: MNIST's 70,000 take 18 GiB, and ADEC prints "out of memory" there. ADEC states no g: 1/d on data whose mean
square is 1 is our choice, 1 / median ||x - y||^2 another.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robust_cluster.errors import check_at_least
from robust_cluster.models.shallow.base import BoundedConfig, Transductive

FLOAT32 = 4  # bytes
SAMPLE = 2000  # evenly spaced rows whose distances the median is of


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of kernel k-means."""

    width: Literal["energy", "median"] = "energy"  # g: 1 / (d mean x^2), or 1 / median ||x - y||^2 [our choice]
    n_init: int = 10  # restarts [our choice]
    max_iter: int = 100  # passes of a start [our choice]

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init", "max_iter")
        super().__post_init__()


class RBFKMeans(Transductive):
    """A new sample would need its kernel with every other: labels are those of the fitted rows."""

    config: Config

    def needed(self) -> int:
        """The kernel's n^2 values, in float32, and the assignments."""
        n = self.info.n_samples
        return FLOAT32 * n * (n + 3 * self.info.n_clusters)

    def clustered(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of the rows z (n, d)."""
        generator = torch.Generator(z.device).manual_seed(seed)
        values = kernel(z, self.rate(z))
        n_clusters = self.info.n_clusters
        found = [
            lloyd(values, first_labels(values, n_clusters, generator), n_clusters, max_iter=self.config.max_iter)
            for _ in range(self.config.n_init)
        ]
        return min(found, key=lambda one: one[1])[0]

    def rate(self, z: Tensor) -> float:
        """The kernel's g."""
        if self.config.width == "energy":
            return 1 / float(z.square().sum(dim=1).mean())
        rows = z[torch.linspace(0, len(z) - 1, min(SAMPLE, len(z))).long()]
        distances = torch.pdist(rows).square()
        return 1 / float(distances[distances > 0].median())


def kernel(z: Tensor, rate: float) -> Tensor:
    """exp(-rate ||z_i - z_j||^2), (n, n), made in place: no second matrix of that size. Shape: z (n, d)."""
    around = z - z.mean(dim=0)  # the distances' digits are lost far from the origin
    norms = around.square().sum(dim=1)
    values = (around @ around.T).mul_(-2).add_(norms[:, None]).add_(norms)
    values.clamp_(min=0).mul_(-rate).exp_().fill_diagonal_(1)
    return values


def first_labels(values: Tensor, n_clusters: int, generator: torch.Generator) -> Tensor:
    """Labels (n,) of the nearest of K samples that k-means++ draws in the space of the kernel `values` (n, n).

    The first is drawn evenly, each further one by its squared distance to the nearest before it.
    """
    own = values.diagonal()
    weights = torch.ones_like(own)
    distances = []
    for _ in range(n_clusters):
        seed = int(torch.multinomial(weights, 1, generator=generator))
        distances.append((own - 2 * values[seed] + own[seed]).clamp_min(0))
        weights = torch.stack(distances).amin(dim=0)
        weights = weights if weights.any() else torch.ones_like(own)
    return torch.stack(distances).argmin(dim=0)


def lloyd(values: Tensor, labels: Tensor, n_clusters: int, *, max_iter: int) -> tuple[Tensor, float]:
    """Labels (n,) after Lloyd's passes from `labels`, and their sum of squared distances to the clusters' means.

    A cluster that loses all its samples takes the one that is farthest from its mean. Shape: kernel `values` (n, n).
    """
    own = values.diagonal()
    total = 0.0
    for _ in range(max_iter):
        member = torch.nn.functional.one_hot(labels, n_clusters).to(values.dtype)
        shares = member / member.sum(dim=0).clamp_min(1)
        means = values @ shares
        distances = own[:, None] - 2 * means + (shares * means).sum(dim=0)
        distances[:, ~member.any(dim=0)] = torch.inf
        nearest, new = distances.min(dim=1)
        for empty in (torch.bincount(new, minlength=n_clusters) == 0).nonzero().flatten().tolist():
            farthest = int(nearest.argmax())
            new[farthest], nearest[farthest] = empty, 0
        total = float(nearest.double().sum())
        if new.equal(labels):
            break
        labels = new
    return labels, total
