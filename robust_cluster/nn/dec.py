"""Soft assignment and self-training of DEC (Xie et al., ICML 2016), which IDEC and ADEC share; ADEC's Eqs. 1-3."""

import torch
from torch import Tensor, nn


def student_t(z: Tensor, centers: Tensor) -> Tensor:
    """q_ij proportional to (1 + ||z_i - mu_j||^2)^-1, one degree of freedom; rows sum to 1.

    Shapes: z (n, d), centers (K, d); returns (n, K).
    """
    kernel = 1 / (1 + center_distances(z, centers))
    return kernel / kernel.sum(dim=1, keepdim=True)


def target_distribution(soft_labels: Tensor) -> Tensor:
    """p_ij proportional to q_ij^2 / sum_i q_ij; rows sum to 1. The sum is over the rows given: give the whole data set.

    Shape: (n, K). A cluster with no soft labels at all gets no target mass.
    """
    return sharpen(soft_labels, soft_labels.sum(dim=0))


def sharpen(soft_labels: Tensor, frequencies: Tensor) -> Tensor:
    """p_ij proportional to q_ij^2 / f_j for given frequencies (K,), > 0 up to rounding; rows (n, K) sum to 1."""
    weights = soft_labels.square() / frequencies.clamp_min(torch.finfo(soft_labels.dtype).tiny)
    return weights / weights.sum(dim=1, keepdim=True)


def clustering_kl(targets: Tensor, soft_labels: Tensor) -> Tensor:
    """1/n sum_i sum_j p_ij log(p_ij / q_ij), >= 0; p is a constant. Shapes: both (n, K), rows sum to 1."""
    p = targets.detach()
    tiny = torch.finfo(soft_labels.dtype).tiny
    return (torch.xlogy(p, p) - p * soft_labels.clamp_min(tiny).log()).sum(dim=1).mean()


def center_distances(z: Tensor, centers: Tensor) -> Tensor:
    """||z_i - mu_j||^2, (n, K), never negative. Shapes: z (n, d), centers (K, d)."""
    return (z.unsqueeze(1) - centers).square().sum(dim=2)


class SelfTraining(nn.Module):
    """For every sample its target p_i, zero before the first `refresh`, and the label that it had then."""

    def __init__(self, n_samples: int, n_clusters: int) -> None:
        super().__init__()
        self.targets = nn.Buffer(torch.zeros(n_samples, n_clusters))
        self.labels = nn.Buffer(torch.zeros(n_samples, dtype=torch.int64))

    def refresh(self, soft_labels: Tensor) -> Tensor:
        """Renew targets and labels from soft labels (n, K); returns the share of samples whose label changed."""
        labels = soft_labels.argmax(dim=1)
        changed = (labels != self.labels).float().mean()
        self.targets.copy_(target_distribution(soft_labels))
        self.labels.copy_(labels)
        return changed

    def of(self, rows: Tensor, soft_labels: Tensor, frequencies: Tensor) -> Tensor:
        """Targets (n, K) of the given rows; a row without one gets its own soft labels, sharpened."""
        stored = self.targets[rows]
        own = sharpen(soft_labels.detach(), frequencies)
        return torch.where(stored.sum(dim=1, keepdim=True) > 0, stored, own)
