"""k-means on the raw data: the yardstick of every table (Lloyd 1982; k-means++ starts, best inertia of 10)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from robust_cluster.data.base import DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import ClusterModel, Embedding, ModelConfig, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.centers import center_posterior, kmeans, log_center_posterior
from robust_cluster.nn.layers import flat


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of k-means."""

    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=0))  # fitted by start(), not by descent
    n_init: int = 10  # restarts

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init")
        if self.cluster.epochs:
            raise ConfigError(f"kmeans is not trained by descent: cluster.epochs must be 0, got {self.cluster.epochs}")


class KMeansModel(ClusterModel):
    """The embedding is the data; soft labels are those of one spherical Gaussian per centre."""

    is_identity: ClassVar[bool] = True
    takes_csr: ClassVar[bool] = True

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.n_init = config.n_init
        sizes = [torch.Size(shape).numel() for shape in info.shapes]
        self.sizes = sizes
        self.register_buffer("centers", torch.zeros(info.n_clusters, sum(sizes)))
        self.register_buffer("variance", torch.ones(()))
        self.centers: Tensor
        self.variance: Tensor

    def encode(self, views: Views) -> Embedding:
        """The data themselves, views side by side: z (n, sum of sizes)."""
        return Embedding(flat(views), tuple(view.flatten(1) for view in views))

    def decode(self, z: Tensor) -> Views:
        """The views that z (n, sum of sizes) is made of."""
        parts = z.split(self.sizes, dim=1)
        return tuple(part.unflatten(1, shape) for part, shape in zip(parts, self.info.shapes, strict=True))

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) whose argmax is the nearest centre."""
        return center_posterior(z, self.centers, self.variance)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return log_center_posterior(z, self.centers, self.variance)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of k-means fitted anew to z (n, d)."""
        return kmeans(z, self.info.n_clusters, n_init=self.n_init, seed=seed)[1]

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit the centres; there is nothing to train afterwards."""
        centers, _, variance = kmeans(embed().z, self.info.n_clusters, n_init=self.n_init, seed=seed)
        self.centers.copy_(centers)
        self.variance.fill_(variance)
