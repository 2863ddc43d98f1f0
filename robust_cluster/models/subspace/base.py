"""What subspace clusterings share: each sample is written in few others, and the graph of who needs whom is cut.

C (n, n), its diagonal 0: row i has the coefficients with which the rows of X, made unit, sum up to row i. The rows of C
are made unit, |C| is symmetrized to the weights of a graph, and the K leading eigenvectors of its I - L_sym are
clustered (You et al., CVPR 2016, "Scalable Sparse Subspace Clustering", and their code).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.data.base import DataInfo
from robust_cluster.errors import check_at_least
from robust_cluster.models.base import Embedding
from robust_cluster.models.shallow.base import BoundedConfig, Transductive
from robust_cluster.nn.spectral import Graph, normalized_cut, parts

BLOCK = 1000  # samples whose products with all others are held at a time
VECTORS = 60  # float64 vectors that the eigenproblem works on
ENTRY = 3 * 16  # bytes: value and column of a coefficient, in C, its transpose and their sum


@dataclass(frozen=True)
class SubspaceConfig(BoundedConfig):
    """A config of a method that cuts a graph of coefficients."""

    n_init: int = 20  # k-means restarts (the authors' code)

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init")
        super().__post_init__()


class Subspace(Transductive):
    """Labels are those of the graph's nodes; a new sample is no node."""

    config: SubspaceConfig

    def __init__(self, config: SubspaceConfig, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.parts, self.alone = nn.Buffer(torch.zeros(())), nn.Buffer(torch.zeros(()))

    @property
    @abstractmethod
    def kept(self) -> int:
        """How many coefficients a row of C has at most."""

    @abstractmethod
    def coefficients(self, x: Tensor) -> Graph:
        """C, sparse (n, n), of unit rows x (n, d)."""

    def needed(self) -> int:
        """The products of a block with all samples, C, and the vectors of the eigenproblem."""
        n, d = self.info.n_samples, sum(self.sizes)
        return 4 * n * (3 * BLOCK + d) + n * (2 * self.kept * ENTRY + 8 * VECTORS)

    def clustered(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of the rows z (n, d)."""
        rows = unit_rows(abs(self.coefficients(F.normalize(z))))
        graph = self.weights(rows)
        self.parts.fill_(parts(graph))
        self.alone.fill_(float((rows.sum(axis=1) == 0).mean()))
        return normalized_cut(graph, self.info.n_clusters, n_init=self.config.n_init, seed=seed).to(z.device)

    def weights(self, rows: Graph) -> Graph:
        """The graph (|C| + |C|') / 2, from the unit rows of |C|."""
        return (rows + rows.T) / 2

    def health(self, embedding: Embedding) -> dict[str, float]:
        """How many parts the graph has, K at best, and the share of the samples that no others sum up to."""
        return {"graph_parts": float(self.parts), "alone": float(self.alone)}


def unit_rows(coefficients: Graph) -> Graph:
    """Sparse rows (n, n) divided by their norms; those of zeros stay."""
    import scipy.sparse  # late: it takes a second
    from scipy.sparse.linalg import norm

    norms = norm(coefficients, axis=1)
    return (scipy.sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ coefficients).tocsr()


def sparse_rows(rows: Any, columns: Any, values: Any, n: int) -> Graph:
    """C (n, n) of its entries, those that are 0 left out."""
    from scipy.sparse import csr_array

    found = csr_array((values, (rows, columns)), shape=(n, n))
    found.eliminate_zeros()
    return found
