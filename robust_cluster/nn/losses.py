"""Loss terms as pure functions. All are means over the batch and sums over everything else, as in ALRDC's code."""

from collections.abc import Callable

import torch
from torch import Tensor

from robust_cluster.errors import ShapeError


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """E ||x - y||^2, summed over all but the first axis, mean over that. Shapes: both (n, ...)."""
    if x.shape != y.shape:
        raise ShapeError(f"squared_error needs equal shapes, got {tuple(x.shape)} and {tuple(y.shape)}")
    return (x - y).square().flatten(1).sum(dim=1).mean()


def standard_normal_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """E KL(N(mean, exp(log_var)) || N(0, I)) = E 1/2 sum_j (e^s_j + mu_j^2 - 1 - s_j). Shapes: both (n, d)."""
    return 0.5 * (log_var.exp() + mean.square() - 1 - log_var).sum(dim=1).mean()


def mixture_prior_kl(soft_labels: Tensor, mean: Tensor, log_var: Tensor, centers: Tensor) -> Tensor:
    """E sum_k y_k KL(N(mu, e^s) || N(m_k, I)) = E sum_k y_k 1/2 sum_j (e^s_j + (mu_j - m_kj)^2 - 1 - s_j).

    Source: ALRDC, second term of Eq. 3 with its expectation over z taken exactly (the released code).
    Shapes: soft_labels (n, K), rows sum to 1; mean and log_var (n, d); centers (K, d).
    """
    spread = 0.5 * (log_var.exp() - 1 - log_var).sum(dim=1)
    squares = (mean.unsqueeze(1) - centers).square().sum(dim=2)  # (n, K)
    return (spread + 0.5 * (soft_labels * squares).sum(dim=1)).mean()


def negative_entropy(soft_labels: Tensor) -> Tensor:
    """E sum_k y_k log(y_k + 1e-7): -log K for uniform rows, 0 for one-hot rows; minimizing it raises each entropy.

    Source: ALRDC, last term of Eq. 3 without its constant log K. Shape: (n, K), rows sum to 1.
    """
    return (soft_labels * (soft_labels + 1e-7).log()).sum(dim=1).mean()


def assignment_overlap(soft_labels: Tensor, moved: Tensor) -> Tensor:
    """E <y, y'>, each sample against itself: 1 for equal one-hot rows, 0 for disjoint ones. Shapes: both (n, K)."""
    return (soft_labels * moved).sum(dim=1).mean()


def jensen_shannon(discriminator: Callable[[Tensor], Tensor], left: Tensor, right: Tensor) -> Tensor:
    """-E[log(T(l_i, r_i) + 1e-6) + log(1 - T(l_i, r_pi(i)) + 1e-6)]: falls as l and r share more information.

    `right` is shuffled in the batch as whole rows, so that what one row holds stays together. A discriminator that
    knows nothing gives 2 log 2; 0 is the best. Source: ALRDC's code (MIE module and defense).
    Shapes: left (n, a), right (n, b), discriminator (m, a + b) -> (m, 1) in (0, 1). Raises: ShapeError for n < 2.
    """
    n = len(left)
    if n < 2:
        raise ShapeError(f"a shuffle within the batch needs at least 2 samples, got {n}")
    shuffled = right[torch.randperm(n).to(right.device)]
    pairs = torch.cat([torch.cat([left, right], dim=1), torch.cat([left, shuffled], dim=1)])
    joint, independent = discriminator(pairs).chunk(2)
    return -((joint + 1e-6).log() + (1 - independent + 1e-6).log()).mean()
