"""Contrastive losses between the representations of one batch in two or more views."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_cluster.errors import ShapeError


def info_nce(left: Tensor, right: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over the 2n rows of -log(e^{<r_i, p_i>/t} / sum_{j != i} e^{<r_i, r_j>/t}), p_i the row's other view.

    The rows are left above right; each has one positive and 2n - 2 negatives, the other samples of both views. Inner
    products are those of the rows as given: normalize them first for cosines. Shapes: left and right (n, d), t > 0.
    Raises: ShapeError when shapes differ or n < 2. Source: SEM (Xu et al., NeurIPS 2023); differs: none.
    """
    if left.shape != right.shape or len(left) < 2:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise ShapeError(f"a contrastive loss needs two views of one shape (n, d) with n >= 2 samples, got {shapes}")
    n = len(left)
    rows = torch.cat([left, right])
    similarities = (rows @ rows.T / temperature).fill_diagonal_(-math.inf)
    partners = torch.arange(2 * n, device=rows.device).roll(n)
    return F.cross_entropy(similarities, partners)


def contrastive(left: Tensor, right: Tensor, temperature: float = 0.1) -> Tensor:
    """l(u, v): the mean cross-entropy of the anchors in one view plus that of the anchors in the other, on cosines.

    Negatives are all other samples of both views, not only those of other clusters; symmetric in its views.
    Shapes: left and right (n, d). Raises: ShapeError when shapes differ or n < 2.
    Source: DeepMVC (Trosten et al., CVPR 2023), after SimCLR; differs: none.
    """
    # a mean over 2n anchors is half the sum of the two directions' means
    return 2 * info_nce(F.normalize(left), F.normalize(right), temperature)


def all_pairs(views: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """2/(V(V-1)) sum_{u<v} l(u, v): the mean of `contrastive` over all pairs of V >= 2 views (n, d).

    Raises: ShapeError for fewer than two views. Source: DeepMVC, generalized contrastive loss.
    """
    if len(views) < 2:
        raise ShapeError(f"a contrastive loss needs at least 2 views, got {len(views)}")
    pairs = [contrastive(left, right, temperature) for left, right in itertools.combinations(views, 2)]
    return torch.stack(pairs).mean()
