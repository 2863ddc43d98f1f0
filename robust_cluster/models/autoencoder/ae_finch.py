"""AE+FINCH: first-neighbor clustering of an autoencoder's embedding (Sarfraz, Sharma and Stiefelhagen, CVPR 2019).

On the pretrained autoencoder of AE+k-means. k(i) is the nearest neighbor of i by cosine; i and j are joined where
j = k(i), i = k(j) or k(i) = k(j), and the connected parts are the first partition. Its clusters become their means, and
so on. K clusters: of the smallest partition with at least K the closest pair is merged until K are left. The package
finch-clust, whose neighbors are exact here: it keeps n^2 distances and, of as much, their mask and what it leaves of
them, 55 GiB for MNIST's 70,000, where ADEC prints "out of memory". The nearest of the means, by cosine, labels
12 % of 10,000 digits otherwise (seed 0), so FINCH has labels of the rows that it was fitted on, and no others.
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from robust_cluster.data.base import DataInfo
from robust_cluster.data.formats import memory
from robust_cluster.errors import ConfigError, check_at_least, check_positive
from robust_cluster.models.autoencoder import ae_kmeans
from robust_cluster.models.base import ClusterModel, Embedding, Phase
from robust_cluster.models.shallow.base import check_distinct

PROFILES: dict[str, dict[str, Any]] = ae_kmeans.PROFILES
MATRICES = 3  # of n^2 float32 values


@dataclass(frozen=True)
class Config(ae_kmeans.Config):
    """Hyper-parameters of the autoencoder and of FINCH, which has none: `n_init` is without use."""

    memory: float | None = None  # GiB that FINCH may take; None: what the machine has left

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "memory")


class AEFinch(ae_kmeans.AEKMeans):
    """AE+k-means with FINCH in place of k-means."""

    transductive: ClassVar[bool] = True
    config: Config

    assign = ClusterModel.assign
    log_assign = ClusterModel.log_assign

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        check_at_least(2, info, "n_clusters")

    def add_centers(self, size: int) -> None:
        """It has none."""

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Label the rows. Raises: OutOfMemory before anything is allocated, ConfigError for too few first clusters."""
        if phase == "cluster":
            n = self.info.n_samples
            memory.claim(f"ae_finch of {n} samples", MATRICES * 4 * n * n, self.config.memory)
            z = embed().z
            check_distinct(z, self.info.n_clusters)
            self.fit.labels = first_neighbors(z, self.info.n_clusters)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of z (n, d), which depend on no seed."""
        return first_neighbors(z, self.info.n_clusters)


def first_neighbors(z: Tensor, n_clusters: int) -> Tensor:
    """FINCH's labels (n,) int64 of z (n, d), K of them. Raises: ConfigError where its first partition has fewer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that pynndescent, for neighbors that are not exact, is not installed
        from finch import FINCH  # late: only this method needs it
    with contextlib.redirect_stdout(io.StringIO()):  # on which it says that there are fewer
        labels = FINCH(z.cpu().numpy(), req_clust=n_clusters, ann_threshold=len(z), verbose=False)[2]
    found: Tensor = torch.as_tensor(labels, dtype=torch.int64, device=z.device).unique(return_inverse=True)[1]
    if (n_found := int(found.max()) + 1) != n_clusters:
        raise ConfigError(f"FINCH's partitions have {n_found} clusters and not {n_clusters}", hint="--clusters K")
    return found
