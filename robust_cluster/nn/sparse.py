"""Variances, norms and scipy's form of a sparse embedding, for k-means and the health of a clustering."""

from typing import Any

import scipy.sparse
import torch
from torch import Tensor


def scipy_csr(z: Tensor) -> "scipy.sparse.csr_array[Any, tuple[int, int]]":
    """scipy's form of a tensor (n, d) in torch's CSR layout."""
    values, columns, starts = (part.detach().cpu().numpy() for part in (z.values(), z.col_indices(), z.crow_indices()))
    return scipy.sparse.csr_array((values, columns, starts), shape=(z.shape[0], z.shape[1]))


def column_variance(z: Tensor) -> Tensor:
    """The variance (d,) of each column of z (n, d), dense or in torch's CSR layout, with n - 1 below."""
    if z.layout != torch.sparse_csr:
        return z.var(dim=0)
    n, values = len(z), z.values().double()
    zeros = values.new_zeros(z.shape[1])
    sums = zeros.index_add(0, z.col_indices(), values)
    squares = zeros.index_add(0, z.col_indices(), values.square())
    return ((squares - sums.square() / n) / (n - 1)).clamp_min(0).float()


def row_norms(z: Tensor) -> Tensor:
    """||z_i||, (n,), of z (n, d), dense or in torch's CSR layout."""
    if z.layout != torch.sparse_csr:
        norms: Tensor = z.norm(dim=1)
        return norms
    counts = z.crow_indices().diff()
    rows = torch.arange(len(z), device=z.device).repeat_interleave(counts)
    squares = torch.zeros(len(z), device=z.device).index_add(0, rows, z.values().square())
    return torch.sqrt(squares)
