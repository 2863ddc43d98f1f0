"""Pairwise distributions of t-SNE (van der Maaten and Hinton, JMLR 2008) over a batch; LPVDN's Eqs. 12-17 (AAAI 2021).

P is Gaussian with a width of its own in every row, Q a Student t with one degree of freedom. Squared distances come
from products in float64: in float32, let alone bfloat16, they lose their last digits and neighbors change places.
"""

import math
from typing import Any

import torch
from torch import Tensor

from robust_cluster.errors import ConfigError
from robust_cluster.nn.precision import precision

STEPS = 64  # of the search for a row's width, at most
TOLERANCE = 1e-5  # nats, of a row's entropy; scikit-learn's too
WIDEST = 80.0  # |log beta| at most: e^80 is still a float32
FAINTEST = -60.0  # exponents below count as this: exp() and sums of float32 are ten times slower where they underflow
LEAST_Q = 1e-20  # floor of q_ij; the authors' code


def check_perplexity(perplexity: float, n: int) -> None:
    """Refuse a perplexity that no row over n - 1 others can have. Raises: ConfigError."""
    if not 1 <= perplexity <= n - 1:
        raise ConfigError(
            f"perplexity must be in [1, batch - 1] = [1, {n - 1}], got {perplexity:g}",
            hint="--set model.perplexity_share=0.01, or a larger batch",
        )


@torch.no_grad()
def joint_probabilities(z: Tensor, perplexity: float) -> Tensor:
    """p_ij = (p_j|i + p_i|j) / 2n, (n, n): symmetric, zero diagonal, sum 1; no gradient reaches z (Eqs. 12-14).

    p_j|i is proportional to exp(-||z_i - z_j||^2 / 2 eta_i^2), with eta_i such that 2^H(P_i) is the perplexity. A row
    with more copies of its nearest neighbor than that shares its mass among them. Shape: z (n, d).
    Raises: ConfigError unless 1 <= perplexity <= n - 1.
    """
    check_perplexity(perplexity, len(z))
    gaps = pairwise_squares(z).fill_diagonal_(math.inf)
    gaps -= gaps.amin(dim=1, keepdim=True)  # cancels in every p_j|i
    gaps.fill_diagonal_(0)
    exponents = gaps.mul_(-log_precisions(gaps, perplexity).exp().unsqueeze(1))
    p = exponents.clamp_min_(FAINTEST).exp_().fill_diagonal_(0)
    p /= 2 * len(p) * p.sum(dim=1, keepdim=True)
    return p + p.T


def log_precisions(gaps: Tensor, perplexity: float) -> Tensor:
    """log beta_i, (n,), beta = 1 / (2 eta^2), at which row i has the entropy log(perplexity) within `TOLERANCE`.

    Newton's method in log beta, in which the entropy of a cloud of points is nearly a line, starts from `first_guess`.
    A step that leaves the bracket of values known to be too low and too high goes to its middle instead; the first
    steps are short, for far from the answer the entropy is flat. Rows that are done drop out, after about four steps.
    Shape: gaps (n, n), each row's squared distances less the least of them, 0 on the diagonal.
    """
    target, found = math.log(perplexity), first_guess(gaps, perplexity)
    rows = torch.arange(len(gaps), device=gaps.device)
    t, low, high = found.clone(), torch.full_like(found, -WIDEST), torch.full_like(found, WIDEST)
    space = torch.empty((2, *gaps.shape), dtype=gaps.dtype, device=gaps.device)
    for step in range(STEPS):
        entropy, slope = row_entropies(gaps, t, space[:, : len(gaps)])
        found[rows] = t
        excess = entropy - target
        is_open = excess.abs() > TOLERANCE
        count = int(is_open.sum())
        if not count:
            break
        low, high = torch.where(excess > 0, t, low), torch.where(excess > 0, high, t)
        longest = 1.25**step
        moved = t + (excess / slope.clamp_min(1e-6)).clamp(-longest, 2 * longest)
        moved = torch.where((low < moved) & (moved < high), moved, (low + high) / 2)
        t = torch.where(is_open, moved, t)
        if 2 * count <= len(t):
            gaps, rows, t, low, high = (values[is_open] for values in (gaps, rows, t, low, high))
    return found


def first_guess(gaps: Tensor, perplexity: float) -> Tensor:
    """log beta (n,) that gives about the right entropy, from the distance of each row's nearest few.

    Each row's columns are dealt into as many hands as it is to have neighbors: the hands' least gaps are about theirs.
    """
    hands = min(max(4, round(perplexity)), len(gaps))
    size = len(gaps) // hands
    least = gaps[:, : hands * size].unflatten(1, (hands, size)).amin(dim=2)
    near = least.sum(dim=1) / (hands - 1)  # one hand holds the row itself, with a gap of 0
    near = torch.maximum(near, 1e-6 * gaps.mean(dim=1))  # 0 where all of the nearest are copies
    guess: Tensor = math.log(2.5) - near.clamp_min(1e-30).log()
    return guess


def row_entropies(gaps: Tensor, t: Tensor, space: Tensor) -> tuple[Tensor, Tensor]:
    """The entropy (m,) in nats of p_j|i at log beta = t, and minus its derivative in t, which is Var(beta * gap).

    Shapes: gaps (m, n), t (m,), space (2, m, n), overwritten.
    """
    exponents = torch.mul(gaps, -t.exp().unsqueeze(1), out=space[0]).clamp_min_(FAINTEST)
    terms = torch.exp(exponents, out=space[1])
    total = terms.sum(dim=1) - 1  # without the row itself
    first = terms.mul_(exponents).sum(dim=1) / total
    second = terms.mul_(exponents).sum(dim=1) / total
    return total.log() - first, second - first.square()


def locality_kl(p: Tensor, s: Tensor) -> Tensor:
    """sum_{i != j} p_ij log(p_ij / q_ij) >= 0, q_ij = (1 + ||s_i - s_j||^2)^-1 over its sum for i != j (Eqs. 16-17).

    The gradient reaches s alone. The sum is not divided by n: P and Q each sum to 1.
    Shapes: p (n, n), symmetric, zero diagonal; s (n, d); returns a scalar. Differs from the paper: its Eq. 16 leaves
    out l = i where it must leave out l = k.
    """
    loss: Tensor = LocalityKL.apply(p, s)
    return loss


class LocalityKL(torch.autograd.Function):
    """`locality_kl` with the published gradient, 4 sum_j (p_ij - q_ij)(s_i - s_j)(1 + ||s_i - s_j||^2)^-1.

    Half the passes over (n, n) that automatic differentiation takes, and no product in reduced precision.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, s: Tensor) -> Tensor:
        """The loss; its gradient is computed along the way."""
        kernel = pairwise_squares(s).clamp_min_(0).add_(1).reciprocal_().fill_diagonal_(0)
        q = kernel / kernel.sum()
        pulls = kernel.mul_(p - q)  # (n, n), how hard j pulls i
        with precision("highest"):
            ctx.save_for_backward(4 * (pulls.sum(dim=1, keepdim=True) * s - pulls @ s))
        ratio = p.clamp_min(torch.finfo(p.dtype).tiny) / q.clamp_min_(LEAST_Q)
        return (ratio.log_() * p).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """None for p, the published gradient for s."""
        (own,) = ctx.saved_tensors
        return None, gradient * own


def pairwise_squares(z: Tensor) -> Tensor:
    """||z_i - z_j||^2, (n, n), as ||z_i||^2 + ||z_j||^2 - 2 z_i z_j' in one product; may be a rounding below 0.

    Shape: z (n, d). The product is in float64, except on a device without it (MPS).
    """
    exact = z if z.device.type == "mps" else z.double()
    exact = exact - exact.mean(dim=0)
    norms, ones = exact.square().sum(dim=1, keepdim=True), torch.ones_like(exact[:, :1])
    squares = torch.cat([-2 * exact, norms, ones], dim=1) @ torch.cat([exact, ones, norms], dim=1).T
    return squares.to(z.dtype)
