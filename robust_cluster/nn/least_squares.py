"""Least squares on chosen coordinates, and with non-negative coefficients; many small problems at a time."""

import torch
from torch import Tensor

PATIENCE = 3  # full exchanges that may leave as many coordinates wrong (Kim and Park)


def solve_on(gram: Tensor, products: Tensor, kept: Tensor) -> Tensor:
    """The minimizer w (n, K) of 1/2 w' G w - b' w among those that are 0 where `kept` is False, with its gradient.

    Shapes: gram G (K, K) or (n, K, K), positive definite on what is kept; products b (n, K); kept (n, K), of bools.
    """
    keep = kept.to(products.dtype)
    system = gram * keep[:, :, None] * keep[:, None, :] + torch.diag_embed(1 - keep)
    found: Tensor = torch.linalg.solve(system, products * keep)
    return found


def positive_set(gram: Tensor, products: Tensor) -> Tensor:
    """The coordinates (n, K) that the minimizer of 1/2 w' G w - b' w over w >= 0 may have above 0; no gradient.

    Block principal pivoting (Kim and Park, SIAM J. Sci. Comput. 2011): all coordinates on the wrong side change sides;
    where that has not helped for `PATIENCE` times only the last of them does, which cannot go round in a circle.
    Shapes: gram G (K, K), positive definite; products b (n, K).
    """
    with torch.no_grad():
        tolerance = 1e-9 * products.abs().amax(dim=1, keepdim=True)
        kept = torch.zeros_like(products, dtype=torch.bool)
        slope = -products
        least = torch.full(products.shape[:1], products.shape[1] + 1, device=products.device)
        patience = torch.full_like(least, PATIENCE)
        weights = torch.zeros_like(products)
        scale = gram.diagonal()
        while True:
            wrong = torch.where(kept, weights * scale < -tolerance, slope < -tolerance)
            count = wrong.sum(dim=1)
            if not count.any():
                return kept
            is_better = count < least
            least = torch.where(is_better, count, least)
            patience = torch.where(is_better, PATIENCE, patience - 1)
            last = wrong & (wrong.flip(1).cumsum(dim=1).flip(1) == 1)
            kept = kept ^ torch.where((patience > 0)[:, None], wrong, last)
            weights = solve_on(gram, products, kept)
            slope = weights @ gram - products


def elastic_net(gram: Tensor, products: Tensor, tau: float, start: Tensor) -> Tensor:
    """The minimizer c (m,) of 1/2 c' G c - b' c + tau ||c||_1, exact: coefficients that are 0 are 0.

    Block pivoting as in `positive_set`, with three sides: below 0, at 0, above 0. Shapes: gram G (m, m), positive
    definite; products b (m,); `start` (m,), signs to begin with, those of a near problem save passes.
    """
    signs, least, patience = start.sign(), len(products) + 1, PATIENCE
    while True:
        kept = signs.nonzero().flatten()
        weights = torch.zeros_like(products)
        weights[kept] = torch.linalg.solve(gram[kept][:, kept], products[kept] - tau * signs[kept])
        slope = products - gram @ weights
        wrong = torch.where(signs != 0, weights * signs <= 0, slope.abs() > tau * (1 + 1e-9)).nonzero().flatten()
        if not len(wrong):
            return weights
        is_better = len(wrong) < least
        least, patience = min(least, len(wrong)), PATIENCE if is_better else patience - 1
        turned = wrong if patience > 0 else wrong[-1:]
        signs[turned] = torch.where(signs[turned] != 0, 0.0, slope[turned].sign())
