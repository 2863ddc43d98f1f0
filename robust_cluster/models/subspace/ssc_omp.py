"""SSC-OMP: sparse subspace clustering by orthogonal matching pursuit (You, Robinson and Vidal, CVPR 2016).

min ||x_i - sum_j c_ij x_j||^2, c_ii = 0, at most `sparsity` coefficients: again and again the sample with the largest
|<residual, x_j>| joins, and the coefficients of those that have joined are solved anew, until the residual's square is
below `tolerance`. Rows of samples are unit. Both defaults are those of the authors' class; their demo on MNIST takes 5
samples and 1e-5, on 500 principal components of scattering features. ADEC gives no features: ours are the data.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robust_cluster.errors import check_at_least
from robust_cluster.models.subspace.base import BLOCK, Subspace, SubspaceConfig, sparse_rows
from robust_cluster.nn.least_squares import solve_on

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"n_init": 5}}
ORTHOGONAL = 1e-6  # a cosine below which no sample is of use any more, about float32's precision


@dataclass(frozen=True)
class Config(SubspaceConfig):
    """Hyper-parameters of SSC-OMP."""

    sparsity: int = 10  # s, samples that one is written in (the authors' default)
    tolerance: float = 1e-6  # squared residual of a unit row that is small enough (the authors' default)

    def __post_init__(self) -> None:
        check_at_least(1, self, "sparsity")
        check_at_least(0, self, "tolerance")
        super().__post_init__()


class SSCOMP(Subspace):
    """Labels of the samples that write each other."""

    config: Config

    @property
    def kept(self) -> int:
        """`sparsity`."""
        return self.config.sparsity

    def coefficients(self, x: Tensor) -> Any:
        """C, sparse (n, n), of unit rows x (n, d)."""
        blocks = torch.arange(len(x), device=x.device).split(BLOCK)
        found = [pursue(x, rows, self.config.sparsity, tolerance=self.config.tolerance) for rows in blocks]
        columns, values = (torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))
        rows = torch.arange(len(x)).repeat_interleave(columns.shape[1]).numpy()
        return sparse_rows(rows, columns.ravel(), values.ravel(), len(x))


def pursue(x: Tensor, rows: Tensor, sparsity: int, *, tolerance: float) -> tuple[Tensor, Tensor]:
    """Which samples each of `rows` (m,) is written in, (m, s) of the row numbers of x, and the coefficients (m, s).

    Where a row was written in fewer, the coefficients of the others are 0. Shape: unit rows x (n, d), d > 1.
    """
    steps = min(sparsity, len(x) - 1)
    target = x[rows]
    residual = target
    chosen, kept = rows[:, None][:, :0], torch.zeros(len(rows), 0, dtype=torch.bool, device=x.device)
    values = target.new_zeros(len(rows), 0, dtype=torch.float64)
    barred = rows[:, None]
    for _ in range(steps):
        fit = (residual @ x.T).abs_().scatter_(1, barred, -1.0)
        best, column = fit.max(dim=1)
        goes_on = (residual.square().sum(dim=1) >= tolerance) & (best > ORTHOGONAL)
        if not goes_on.any():
            break
        chosen = torch.cat([chosen, column[:, None]], dim=1)
        kept = torch.cat([kept, goes_on[:, None]], dim=1)
        barred = torch.cat([barred, column[:, None]], dim=1)
        atoms = x[chosen].double()
        values = solve_on(atoms @ atoms.mT, (atoms @ target.double()[:, :, None])[:, :, 0], kept)
        residual = target - (values[:, None] @ atoms)[:, 0].to(x.dtype)
    short = steps - chosen.shape[1]
    return torch.nn.functional.pad(chosen, (0, short)), torch.nn.functional.pad(values, (0, short))
