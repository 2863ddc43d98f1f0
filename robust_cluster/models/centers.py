"""What methods share whose labels are those of k-means: the nearest of the centers that it found."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robust_cluster.models.base import ClusterModel, Embedding, Phase
from robust_cluster.nn.centers import center_posterior, kmeans, log_center_posterior


class CenterModel(ClusterModel):
    """A model whose buffers `centers` (K, d) and `variance` label what `points` makes of z.

    Its config has `n_init`, the restarts of k-means.
    """

    config: Any
    centers: Tensor
    variance: Tensor

    def add_centers(self, size: int) -> None:
        """Register centers of `size` dimensions, all 0 until `fit_centers`."""
        self.register_buffer("centers", torch.zeros(self.info.n_clusters, size))
        self.register_buffer("variance", torch.ones(()))

    def points(self, z: Tensor) -> Tensor:
        """What k-means clusters of an embedding (n, d); z itself unless the method says otherwise."""
        return z

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) whose argmax is the nearest center."""
        return center_posterior(self.points(z), self.centers, self.variance)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return log_center_posterior(self.points(z), self.centers, self.variance)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor | None:
        """Labels (n,) of k-means fitted anew to z (n, d)."""
        return kmeans(self.points(z), self.info.n_clusters, n_init=self.config.n_init, seed=seed)[1]

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit the centers on the embedding of all rows that it was trained on."""
        if phase == "cluster":
            self.fit_centers(embed().z, seed)

    def fit_centers(self, z: Tensor, seed: int, *, n_init: int | None = None) -> None:
        """Put centers and variance on those of k-means on z (n, d), from the config's restarts or from `n_init`."""
        restarts = self.config.n_init if n_init is None else n_init
        centers, _, variance = kmeans(self.points(z), self.info.n_clusters, n_init=restarts, seed=seed)
        self.centers.copy_(centers)
        self.variance.fill_(variance)
