"""EnSC: elastic net subspace clustering by an oracle guided active set (You, Li, Robinson and Vidal, CVPR 2016).

min_c tau ||c||_1 + (1 - tau) / 2 ||c||^2 + alpha / 2 ||x_i - X' c||^2, c_ii = 0, alpha = gamma times the largest value
at which c = 0: tau / max_j |<x_i, x_j>|. The net is solved on the `atoms` samples that correlate most; then those join
whose |<delta, x_j>| > tau, delta = alpha (x_i - X' c), those of zero coefficient leave, and so on until no sample is
outside the oracle region, at most `rounds` times. At most `atoms` join at a time, the largest. Of the coefficients the
`kept` largest stay. Rows of samples are unit. ADEC gives neither settings nor features: ours are the data; gamma and
the graph are those of the authors' class, tau that of their demo on MNIST, as the class's 1 leaves nothing elastic. The
demo has gamma 200 and "neighbors", on 500 principal components of scattering features.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from robust_cluster.errors import check_at_least, check_share
from robust_cluster.models.shallow.spectral import neighbor_graph
from robust_cluster.models.subspace.base import BLOCK, Subspace, SubspaceConfig, sparse_rows
from robust_cluster.nn.least_squares import elastic_net

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"gamma": 10.0, "rounds": 5, "n_init": 5}}
SLACK = 1e-4  # by which a correlation may exceed tau, relative: products with all samples are float32
RIDGE = 1e-9  # added to the products of atoms, which may be as many as their dimensions or repeat


@dataclass(frozen=True)
class Config(SubspaceConfig):
    """Hyper-parameters of EnSC."""

    tau: float = 0.9  # in (0, 1], the share of the l1 norm (the authors' demo; 1 in their class)
    gamma: float = 50.0  # > 1, alpha over the largest alpha at which all coefficients are 0 (class; 200 in the demo)
    graph: Literal["symmetric", "neighbors"] = (
        "symmetric"  # (|C| + |C|') / 2 (class), or the nearest rows of |C| (demo)
    )
    neighbors: int = 3  # of the graph "neighbors" (demo)
    atoms: int = 100  # samples that the active set begins with (the authors' code)
    rounds: int = 40  # times that the active set may change (the authors' code)
    kept: int = 50  # largest coefficients of a sample (the authors' code)

    def __post_init__(self) -> None:
        check_share(self, "tau")
        check_at_least(1, self, "gamma", "neighbors", "atoms", "rounds", "kept")
        super().__post_init__()


class EnSC(Subspace):
    """Labels of the samples that write each other."""

    config: Config

    @property
    def kept(self) -> int:
        """The config's."""
        return self.config.kept

    def coefficients(self, x: Tensor) -> Any:
        """C, sparse (n, n), of unit rows x (n, d)."""
        blocks = torch.arange(len(x), device=x.device).split(BLOCK)
        entries = [largest(*one, self.config.kept) for rows in blocks for one in active_sets(x, rows, self.config)]
        counts = torch.tensor([len(columns) for columns, _ in entries])
        rows = torch.arange(len(x)).repeat_interleave(counts).numpy()
        columns, values = (torch.cat(part).cpu().numpy() for part in zip(*entries, strict=True))
        return sparse_rows(rows, columns, values, len(x))

    def weights(self, rows: Any) -> Any:
        """The graph of the nearest rows of |C|, or the base's."""
        if self.config.graph == "symmetric":
            return super().weights(rows)
        return neighbor_graph(rows, min(self.config.neighbors, rows.shape[0] - 1))


def active_sets(x: Tensor, rows: Tensor, config: Config) -> list[tuple[Tensor, Tensor]]:
    """Who each of `rows` (m,) of the unit rows x (n, d) is written in: row numbers and float64 coefficients, none 0."""
    tau = config.tau
    own = torch.arange(len(rows), device=x.device), rows
    fit = (x[rows] @ x.T).abs_()
    fit[own] = -1
    best = fit.amax(dim=1)
    first = fit.topk(min(config.atoms, len(x) - 1)).indices
    found = [(columns, torch.zeros(len(columns), dtype=torch.float64, device=x.device)) for columns in first]
    alphas = config.gamma * tau / best.double()
    is_open = (best > 0).tolist()  # a row of zeros is written in none
    for _ in range(config.rounds):
        residual = torch.zeros_like(x[rows])
        for row in [row for row, goes_on in enumerate(is_open) if goes_on]:
            columns, before = found[row]
            atoms, target = x[columns].double(), x[rows[row]].double()
            gram = atoms @ atoms.T
            gram.diagonal().add_((1 - tau) / alphas[row] + RIDGE)
            values = elastic_net(gram, atoms @ target, float(tau / alphas[row]), before)
            is_used = values != 0
            found[row] = columns[is_used], values[is_used]
            residual[row] = target - values @ atoms
        outside = (residual @ x.T).abs_() * alphas[:, None].float()
        outside[own] = 0
        for row, (columns, _) in enumerate(found):
            outside[row, columns] = 0
        most = outside.topk(min(config.atoms, len(x) - 1))
        for row in [row for row, goes_on in enumerate(is_open) if goes_on]:
            joined = most.indices[row][most.values[row] > tau * (1 + SLACK)]
            is_open[row] = len(joined) > 0
            columns, values = found[row]
            found[row] = torch.cat([columns, joined]), torch.cat([values, values.new_zeros(len(joined))])
        if not any(is_open):
            break
    return [(columns[values != 0], values[values != 0]) for columns, values in found]


def largest(columns: Tensor, values: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The `kept` columns and values of largest size."""
    order = values.abs().argsort(descending=True, stable=True)[:kept]
    return columns[order], values[order]
