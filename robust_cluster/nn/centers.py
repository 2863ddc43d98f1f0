"""Cluster centers: k-means on an embedding, and the soft labels that a set of centers gives."""

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from robust_cluster.nn.sparse import column_variance, scipy_csr


def kmeans(z: Tensor, n_clusters: int, *, n_init: int, seed: int, max_iter: int = 300) -> tuple[Tensor, Tensor, float]:
    """Centers (K, d), labels (n,) and the mean squared distance per dimension of the best of `n_init` k-means++ starts.

    That distance is at least float32's precision times the variance of z (times 1 where that is 0): without it, samples
    that lie on their centers would have no soft labels.

    scikit-learn's Lloyd iterations run on one thread, so that the sums have one order. Shape: z (n, d), dense or in
    torch's CSR layout, which is never made dense.
    """
    from sklearn.cluster import KMeans  # late: it takes a second, and pretraining does not need it

    points = scipy_csr(z) if z.layout == torch.sparse_csr else z.detach().cpu().numpy()
    with threadpool_limits(1):
        fitted = KMeans(n_clusters, n_init=n_init, max_iter=max_iter, random_state=seed).fit(points)
    centers = torch.as_tensor(fitted.cluster_centers_, dtype=z.dtype, device=z.device)
    labels = torch.as_tensor(fitted.labels_, dtype=torch.int64, device=z.device)
    float32 = torch.finfo(torch.float32)
    least = max(float32.eps * (float(column_variance(z.detach()).mean()) or 1.0), float32.tiny)
    return centers, labels, max(float(fitted.inertia_) / z.numel(), least)


def center_posterior(z: Tensor, centers: Tensor, variance: Tensor) -> Tensor:
    """Soft labels (n, K): softmax of -||z - m_k||^2 / (2 variance), equal weights, one spherical variance.

    Its argmax is the nearest center, k-means' own label. Shapes: z (n, d), centers (K, d), variance a scalar > 0.
    """
    return _log_densities(z, centers, variance).softmax(dim=1)


def log_center_posterior(z: Tensor, centers: Tensor, variance: Tensor) -> Tensor:
    """Logarithms (n, K) of `center_posterior`, finite also where that underflows to 0."""
    return _log_densities(z, centers, variance).log_softmax(dim=1)


def _log_densities(z: Tensor, centers: Tensor, variance: Tensor) -> Tensor:
    """-||z - m_k||^2 / (2 variance) plus a term that is equal for all k, which cancels in a softmax.

    The origin is moved to the mean of the centers: far from it ||m_k||^2 - 2 z m_k has no digits left.
    """
    middle = centers.mean(dim=0)
    around = centers - middle
    products = z @ around.T - middle @ around.T if z.layout == torch.sparse_csr else (z - middle) @ around.T
    return -0.5 * (around.square().sum(dim=1) - 2 * products) / variance


class RunningMeans(nn.Module):
    """k-means that goes along with batches: the center of every sample, and how many samples each center counts for.

    A sample that came to center c moves it, count_c += 1, mu_c += (z - mu_c) / count_c (DCN, Yang et al., ICML 2017).
    """

    def __init__(self, n_samples: int, n_clusters: int, first_count: int) -> None:
        super().__init__()
        self.labels = nn.Buffer(torch.full((n_samples,), -1))
        self.counts = nn.Buffer(torch.full((n_clusters,), float(first_count), dtype=torch.float64))

    @property
    def is_begun(self) -> bool:
        """Whether every sample has a center."""
        return bool((self.labels >= 0).all())

    def of(self, rows: Tensor, z: Tensor, centers: Tensor) -> Tensor:
        """Centers' numbers (n,) of the given rows; a row without one gets the nearest to its code, of z (n, d)."""
        stored = self.labels[rows]
        return torch.where(stored >= 0, stored, nearest(z.detach(), centers.detach()))

    def update(self, rows: Tensor, z: Tensor, centers: Tensor) -> None:
        """Assign the rows to the nearest of `centers` (K, d), then move these, in place, by their codes z (n, d).

        The moves one after the other end at (count mu + sum z) / (count + m), m codes having come.
        """
        labels = nearest(z, centers)
        self.labels[rows] = labels
        arrived = torch.bincount(labels, minlength=len(centers))
        sums = torch.zeros_like(centers).index_add_(0, labels, z - centers[labels])
        self.counts.add_(arrived)
        centers.add_(sums / self.counts.to(z.dtype).unsqueeze(1))


def nearest(z: Tensor, centers: Tensor) -> Tensor:
    """The number of the center (n,) nearest to each row of z (n, d); centers (K, d)."""
    return (z.unsqueeze(1) - centers).square().sum(dim=2).argmin(dim=1)
