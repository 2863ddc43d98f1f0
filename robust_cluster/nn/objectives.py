"""Objectives (n,) that standard attacks ascend, one value a sample, without labels of the data.

The label c of a sample is the model's own at the clean point. The margin is the loss of Carlini and Wagner (2017) on
log-probabilities: it is defined for two clusters, where the difference of logits ratio of Croce and Hein (ICML 2020)
needs three. The divergence is that of TRADES (Zhang et al., ICML 2019).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def log_margin(log_y: Tensor, labels: Tensor) -> Tensor:
    """log y_c - log max_{k != c} y_k, (n,), of log-probabilities (n, K): negative once a sample has left cluster c."""
    own = log_y.gather(1, labels[:, None])[:, 0]
    other = log_y.scatter(1, labels[:, None], -torch.inf).max(dim=1).values
    return own - other


def margin(log_y: Tensor, labels: Tensor) -> Tensor:
    """max_{k != c} log y_k - log y_c, (n,), of log-probabilities (n, K) and clean labels c (n,); K >= 2."""
    return -log_margin(log_y, labels)


def divergence(clean: Tensor, moved: Tensor) -> Tensor:
    """KL(y || y~) = sum_k y_k (log y_k - log y~_k), (n,) >= 0, of log-probabilities log y and log y~, both (n, K).

    Its gradient at y~ = y is zero, so an ascent has to start elsewhere.
    """
    return (clean.exp() * (clean - moved)).sum(dim=1)


def displacement(clean: Sequence[Tensor], moved: Sequence[Tensor]) -> Tensor:
    """sum_v ||z^v - z~^v||^2, (n,), over representations z^v (n, ...); at z~ = z its gradient is zero too."""
    changes = [(z - other).flatten(1) for z, other in zip(clean, moved, strict=True)]
    return torch.stack([change.square().sum(dim=1) for change in changes]).sum(dim=0)


def targeted(log_y: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
    """log y_t - log y_c, (n,), of log-probabilities (n, K), clean labels c (n,) and the clusters t (n,) aimed at."""
    chosen = log_y.gather(1, torch.stack([goals, labels], dim=1))
    return chosen[:, 0] - chosen[:, 1]


def aimed(log_y: Tensor, goals: Tensor) -> Tensor:
    """log y_t - max_{k != t} log y_k, (n,), of log-probabilities (n, K) and the clusters t (n,) aimed at.

    Above 0 once a sample is in cluster t: the targeted loss of Carlini and Wagner (2017), with the sign to ascend it.
    """
    return log_margin(log_y, goals)


def nearest_others(log_y: Tensor, labels: Tensor) -> Tensor:
    """The other clusters of every sample from its likeliest to its unlikeliest, (n, K - 1), of log-probabilities."""
    masked = log_y.scatter(1, labels[:, None], -torch.inf)
    return masked.argsort(dim=1, descending=True, stable=True)[:, :-1]
