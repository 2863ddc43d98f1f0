"""Soft assignment and self-training of DEC (Xie et al., ICML 2016), which IDEC and ADEC share; ADEC's Eqs. 1-3."""

import torch
from torch import Tensor


def student_t(z: Tensor, centers: Tensor) -> Tensor:
    """q_ij proportional to (1 + ||z_i - mu_j||^2)^-1, one degree of freedom; rows sum to 1.

    Shapes: z (n, d), centers (K, d); returns (n, K).
    """
    kernel = 1 / (1 + squared_distances(z, centers))
    return kernel / kernel.sum(dim=1, keepdim=True)


def target_distribution(soft_labels: Tensor) -> Tensor:
    """p_ij proportional to q_ij^2 / sum_i q_ij; rows sum to 1. The sum is over all rows given: give the whole data set.

    Shape: (n, K). A cluster that holds nothing at all gets no target mass.
    """
    weights = soft_labels.square() / soft_labels.sum(dim=0).clamp_min(torch.finfo(soft_labels.dtype).tiny)
    return weights / weights.sum(dim=1, keepdim=True)


def clustering_kl(targets: Tensor, soft_labels: Tensor) -> Tensor:
    """1/n sum_i sum_j p_ij log(p_ij / q_ij), >= 0; p is a constant. Shapes: both (n, K), rows sum to 1."""
    p = targets.detach()
    tiny = torch.finfo(soft_labels.dtype).tiny
    return (torch.xlogy(p, p) - p * soft_labels.clamp_min(tiny).log()).sum(dim=1).mean()


def squared_distances(z: Tensor, centers: Tensor) -> Tensor:
    """||z_i - mu_j||^2, (n, K), never negative. Shapes: z (n, d), centers (K, d)."""
    return (z.unsqueeze(1) - centers).square().sum(dim=2)
