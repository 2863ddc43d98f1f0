"""The clustering loss of DDC: Cauchy-Schwarz divergence, orthogonal assignments, assignments near simplex corners.

Source: DeepMVC (Trosten et al., CVPR 2023), after Kampffmeyer et al., Neural Networks 2019. Symbols: h (n, d) hidden
representations, A (n, K) soft labels, k (n, n) the Gaussian kernel of h.
"""

import torch
from torch import Tensor

from robust_cluster.errors import ShapeError

SMALLEST_SQUARE = 1e-9  # floor of sigma^2: two tight clusters have a median distance of 0


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """||l_i - r_j||^2 (n, m) of left (n, d) and right (m, d), from differences: a bfloat16 product would cancel."""
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square()


def gaussian_kernel(h: Tensor, relative_sigma: float = 0.15) -> Tensor:
    """k_ij = exp(-D_ij / (2 sigma^2)), (n, n), D_ij = ||h_i - h_j||^2, sigma^2 = relative_sigma * median(D).

    The median is over all n * n entries, the diagonal's zeros included, the lower of the two middle ones for an even
    count. No gradient flows through sigma; sigma^2 is at least 1e-9. Shape: h (n, d). Source: DeepMVC.
    """
    squares = squared_distances(h, h)
    sigma_square = (relative_sigma * squares.detach().median()).clamp_min(SMALLEST_SQUARE)
    return torch.exp(-squares / (2 * sigma_square))


def cauchy_schwarz(columns: Tensor, kernel: Tensor) -> Tensor:
    """d(M) = 2/(K(K-1)) sum_{a<b} m_a' k m_b / sqrt((m_a' k m_a)(m_b' k m_b)): 0 for far clusters, 1 for equal ones.

    Numerators are at least 1e-9, the product under the root 1e-18. Shapes: columns M (n, K), kernel k (n, n).
    Raises: ShapeError when the samples differ or K < 2. Source: DeepMVC.
    """
    n, n_clusters = columns.shape
    if kernel.shape != (n, n) or n_clusters < 2:
        needed = "a kernel (n, n) and n samples in K >= 2 columns"
        raise ShapeError(f"the Cauchy-Schwarz term needs {needed}, got {tuple(kernel.shape)} and {(n, n_clusters)}")
    overlaps = columns.T @ kernel @ columns  # (K, K)
    own = overlaps.diagonal()
    ratios = overlaps.clamp_min(1e-9) / torch.outer(own, own).clamp_min(1e-18).sqrt()
    return 2 / (n_clusters * (n_clusters - 1)) * ratios.triu(diagonal=1).sum()


def row_overlap(soft_labels: Tensor) -> Tensor:
    """2/(n(n-1)) sum_{i<j} <A_i, A_j>: the mean overlap of two samples' soft labels, 1 when all share one cluster.

    Shape: soft_labels (n, K), rows sum to 1. Raises: ShapeError for n < 2. Source: DeepMVC.
    """
    n = len(soft_labels)
    if n < 2:
        raise ShapeError(f"a mean over pairs of samples needs at least 2 samples, got {n}")
    # ||sum_i A_i||^2 - sum_i ||A_i||^2 = 2 sum_{i<j} <A_i, A_j>, without the n x n product
    return (soft_labels.sum(dim=0).square().sum() - soft_labels.square().sum()) / (n * (n - 1))


def corner_similarities(soft_labels: Tensor) -> Tensor:
    """M_ia = exp(-||A_i - e_a||^2), (n, K): 1 for one-hot rows in their own column, e^-2 in the others.

    Shape: soft_labels A (n, K); e_a is corner a of the simplex. Source: DeepMVC.
    """
    corners = torch.eye(soft_labels.shape[1], dtype=soft_labels.dtype, device=soft_labels.device)
    return torch.exp(-squared_distances(soft_labels, corners))


def ddc_terms(hidden: Tensor, soft_labels: Tensor, kernel: Tensor | None = None) -> dict[str, Tensor]:
    """L1 = d(A), L2 = mean row overlap, L3 = d(M) as "ddc_1", "ddc_2", "ddc_3"; their plain sum is L_DDC.

    `kernel`: the Gaussian kernel of `hidden` where the caller has it. Invariant to the order of samples and clusters.
    Shapes: hidden (n, d), soft_labels (n, K), kernel (n, n). Raises: ShapeError. Source: DeepMVC; differs: none.
    """
    if len(hidden) != len(soft_labels):
        raise ShapeError(f"hidden has {len(hidden)} samples and soft_labels {len(soft_labels)}")
    k = gaussian_kernel(hidden) if kernel is None else kernel
    return {
        "ddc_1": cauchy_schwarz(soft_labels, k),
        "ddc_2": row_overlap(soft_labels),
        "ddc_3": cauchy_schwarz(corner_similarities(soft_labels), k),
    }
