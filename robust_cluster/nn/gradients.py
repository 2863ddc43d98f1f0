"""Gradients as vectors, and their cosine: the measure of feature randomness and drift (ADEC, 2019, Eqs. 5-6)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def term_gradients(terms: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """The gradient of each scalar term at the parameters, all entries in one float64 vector (p,).

    It is zero where a term does not depend on a parameter; no parameter's `grad` is touched.
    """
    found: dict[str, Tensor] = {}
    for name, term in terms.items():
        if term.requires_grad:
            parts = torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
        else:
            parts = tuple(torch.zeros_like(parameter) for parameter in parameters)
        found[name] = torch.cat([part.flatten() for part in parts]).double()
    return found


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """<l, r> / (||l|| ||r||) in [-1, 1] of two vectors (p,), a scalar; NaN where one of them is zero."""
    ratio: Tensor = left @ right / (left.norm() * right.norm())
    return ratio.clamp(-1, 1)
