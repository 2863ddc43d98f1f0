"""Agglomerative clustering with Ward's criterion (Ward, 1963), cut at K; a yardstick of ADEC's tables ("AC").

Every sample begins as a cluster, and those two are merged whose merging raises the sum of squared distances to the
means least, n_a n_b / (n_a + n_b) ||m_a - m_b||^2, until K are left. ADEC does not state the linkage: Ward's is our
choice. Up to `stored` samples SciPy keeps all n^2 / 2 distances; beyond, fastcluster's `linkage_vector` keeps the means
alone and computes every distance when it is asked (n^2 d of time). Both make the same merges. No seed has a part in it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robust_cluster.errors import RobustClusterError, check_at_least
from robust_cluster.models.shallow.base import BoundedConfig, Transductive
from robust_cluster.nn.merging import cut

FLOAT64 = 8  # bytes


@dataclass(frozen=True)
class Config(BoundedConfig):
    """Hyper-parameters of Ward's clustering."""

    stored: int = 20_000  # samples of which all distances are kept, 1.5 GiB; of more, none [our choice]

    def __post_init__(self) -> None:
        check_at_least(0, self, "stored")
        super().__post_init__()


class Agglomerative(Transductive):
    """Labels are the K subtrees of the merges; a new sample is in none."""

    config: Config

    def needed(self) -> int:
        """A float64 copy of the data, which are merged in it, and all distances where they are kept."""
        n, d = self.info.n_samples, sum(self.sizes)
        distances = n * (n - 1) // 2 if n <= self.config.stored else 0
        return FLOAT64 * (2 * n * d + distances)

    def clustered(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of the rows z (n, d). Raises: RobustClusterError without fastcluster where it is needed."""
        data = z.cpu().double().numpy()
        return torch.from_numpy(cut(merges(data, self.config.stored), self.info.n_clusters)).to(z.device)


def merges(data: Any, stored: int) -> Any:
    """Ward's n - 1 merges of data (n, d), as SciPy writes them: one a row, the cheapest first, beginning with who."""
    if len(data) <= stored:
        from scipy.cluster.hierarchy import ward  # late: it takes a second

        return ward(data)
    try:
        import fastcluster
    except ImportError as error:
        message = f"agglomerative of more than {stored} samples needs fastcluster"
        raise RobustClusterError(message, hint="pip install -e '.[agglomerative]'") from error
    return fastcluster.linkage_vector(data, method="ward")
