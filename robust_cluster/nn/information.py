"""Mutual information: of two views whose representations are distributions over codes, and of samples and clusters."""

import torch
from torch import Tensor

from robust_cluster.errors import ShapeError

SMALLEST = 1e-9  # floor of every probability


def invariant_information(left: Tensor, right: Tensor, alpha: float = 9.0) -> Tensor:
    """l_MI = -sum_ij P_ij [log P_ij - (alpha + 1) log p_i - (alpha + 1) log q_j], in nats.

    P (m, m) = (1/n) left' right, made symmetric and to sum 1; p, q its row and column sums; all at least 1e-9.
    alpha = 0 gives minus the mutual information, alpha > 0 adds alpha * (minus the two marginal entropies).
    Shapes: left and right (n, m), rows >= 0 that sum to 1; returns a scalar. Raises: ShapeError when shapes differ.
    Source: DeepMVC (Trosten et al., CVPR 2023, InfoDDC), after IIC (Ji et al., 2019); differs: none.
    """
    if left.shape != right.shape or left.ndim != 2:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise ShapeError(f"mutual information needs two views of one shape (n, m), got {shapes}")
    joint = left.T @ right / len(left)
    joint = (joint + joint.T) / 2
    joint = joint / joint.sum()
    p, q = (joint.sum(dim=axis).clamp_min(SMALLEST).log() for axis in (1, 0))
    joint = joint.clamp_min(SMALLEST)
    # sum_ij P_ij log p_i = sum_i (sum_j P_ij) log p_i, with the floored P as in the code
    marginals = (joint.sum(dim=1) * p).sum() + (joint.sum(dim=0) * q).sum()
    return (alpha + 1) * marginals - (joint * joint.log()).sum()


def entropies(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """H(Y|X) = mean_i H(p_i) and H(Y) = H(mean_i p_i) in nats; H(Y) - H(Y|X) >= 0 is what x tells of its cluster.

    Shape: log_p (n, K), log-probabilities. Source: RIM (Krause et al., 2010); IMSAT (Hu et al., ICML 2017).
    """
    p = log_p.exp()
    mean = p.mean(dim=0)
    return -(p * log_p).sum(dim=1).mean(), -torch.xlogy(mean, mean.clamp_min(torch.finfo(p.dtype).tiny)).sum()
