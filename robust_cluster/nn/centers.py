"""Cluster centers: k-means on an embedding, and the soft labels that a set of centers gives."""

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from robust_cluster.nn.sparse import column_variance, scipy_csr


def kmeans(z: Tensor, n_clusters: int, *, n_init: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """Centers (K, d), labels (n,) and the mean squared distance per dimension of the best of `n_init` k-means++ starts.

    That distance is at least float32's precision times the variance of z (times 1 where that is 0): without it, samples
    that lie on their centers would have no soft labels.

    scikit-learn's Lloyd iterations run on one thread, so that the sums have one order. Shape: z (n, d), dense or in
    torch's CSR layout, which is never made dense.
    """
    from sklearn.cluster import KMeans  # late: it takes a second, and pretraining does not need it

    points = scipy_csr(z) if z.layout == torch.sparse_csr else z.detach().cpu().numpy()
    with threadpool_limits(1):
        fitted = KMeans(n_clusters, n_init=n_init, random_state=seed).fit(points)
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
