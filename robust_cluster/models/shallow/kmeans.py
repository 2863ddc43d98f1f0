"""k-means on the raw data: the yardstick of every table (Lloyd 1982; k-means++ starts, best inertia of 10)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from robust_cluster.data.base import DataInfo
from robust_cluster.errors import check_at_least
from robust_cluster.models.base import Embedding, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.shallow.base import Shallow, ShallowConfig


@dataclass(frozen=True)
class Config(ShallowConfig):
    """Hyper-parameters of k-means."""

    n_init: int = 10  # restarts

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init")
        super().__post_init__()


class KMeansModel(Shallow, CenterModel):
    """The embedding is the data; soft labels are those of one spherical Gaussian per center."""

    takes_csr: ClassVar[bool] = True

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.add_centers(sum(self.sizes))

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit the centers; there is nothing to train afterwards."""
        self.fit_centers(embed().z, seed)
