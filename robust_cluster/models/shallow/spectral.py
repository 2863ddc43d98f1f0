"""Spectral clustering with normalized cuts (Shi and Malik, PAMI 2000) on a graph of neighbors; ADEC's "SC".

W joins each sample to its `neighbors` nearest, W = (A + A') / 2; of L_sym = I - D^-1/2 W D^-1/2 the K eigenvectors of
the smallest eigenvalues are taken, their rows made unit (Ng, Jordan and Weiss, 2001), and k-means labels these. ADEC
does not state the affinity: the graph is our choice, scikit-learn's default of 10 neighbors too. The eigenvectors are
ARPACK's, from matrix products alone, so that memory grows with n; scikit-learn's own call factors the graph.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_cluster.data.base import DataInfo
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding
from robust_cluster.models.shallow.base import BoundedConfig, Transductive
from robust_cluster.nn.spectral import Graph, normalized_cut, parts

BLOCK = 2**30  # bytes of distances at a time, scikit-learn's own bound
EDGE = 3 * 16  # bytes: value and column of an edge, in the graph, its transpose and their sum
VECTORS = 60  # float64 vectors that ARPACK works on


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of spectral clustering."""

    neighbors: int = 10  # of a sample in the graph, itself left out [our choice]
    n_init: int = 20  # k-means restarts [our choice]

    def __post_init__(self) -> None:
        check_at_least(1, self, "neighbors", "n_init")
        super().__post_init__()


class Spectral(Transductive):
    """Labels are those of the graph's nodes; a new sample is no node."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.parts = nn.Buffer(torch.zeros(()))

    @classmethod
    def check(cls, config: Config, info: DataInfo) -> None:
        """Refuse more neighbors than there are others. Raises: ConfigError."""
        most = info.n_samples - 1
        if config.neighbors > most:
            raise ConfigError(
                f"neighbors must be in [1, n_samples - 1] = [1, {most}], got {config.neighbors}",
                hint=f"--set model.neighbors={min(10, most)}",
            )

    def needed(self) -> int:
        """Distances in blocks, the graph, and the vectors of the eigenproblem."""
        n = self.info.n_samples
        return min(BLOCK, 4 * n * n) + n * (2 * self.config.neighbors * EDGE + 8 * VECTORS)

    def clustered(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of the rows z (n, d)."""
        graph = neighbor_graph(z.cpu().numpy(), self.config.neighbors)
        self.parts.fill_(parts(graph))
        return normalized_cut(graph, self.info.n_clusters, n_init=self.config.n_init, seed=seed).to(z.device)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """How many parts the graph falls into; of more than K, the small ones are one cluster."""
        return {"graph_parts": float(self.parts)}


def neighbor_graph(rows: Graph, neighbors: int) -> Graph:
    """(A + A') / 2, A_ij = 1 where row j of n, dense or sparse, is among the `neighbors` nearest to row i, not i."""
    from sklearn.neighbors import kneighbors_graph  # late: it takes a second

    joined = kneighbors_graph(rows, neighbors, include_self=False)
    return (joined + joined.T) / 2
