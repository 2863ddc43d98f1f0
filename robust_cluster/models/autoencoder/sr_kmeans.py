"""SR-k-means: k-means with soft assignments on the code of a denoising autoencoder (Jabi et al., TPAMI 2019).

L = reconstruction + [E sum_k q_k ||z~ - theta_k||^2 - E ||z~||^2] / (lambda K), the autoencoder, its reconstruction and
its noisy pass z~ being DEPICT's, whose pretraining is shared. After an epoch, for the clean codes z of all samples,
q_ik ~ exp(-||z_i - theta_k||^2 / (lambda K)), then theta_k = sum_i q_ik z_i / sum_i q_ik; steps take both as constants.
Labels are argmax_k theta_k'z / (lambda K) + 1/2 ln mean_i q_ik of the clean pass, as in the authors' code. The first
epochs learn k-means' labels as DEPICT's do; training ends when the mean squared change of q in an epoch is below `tol`.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.errors import check_positive
from robust_cluster.models.autoencoder import depict
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.dec import center_distances
from robust_cluster.nn.mixture import log_weights

PROFILES: dict[str, dict[str, Any]] = depict.PROFILES


@dataclass(frozen=True)
class Config(depict.Config):
    """Hyper-parameters of SR-k-means."""

    temperature: float = 1e-4  # lambda, of the soft assignments; K times it divides the squared distances [code]
    tol: float = 1e-5  # mean squared change of q below which training ends; 0 never ends early [code]
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=500, batch_size=100, lr=1e-3))  # [code]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "temperature")


class SRKMeans(depict.DEPICT):
    """DEPICT with centers theta (K, d), which are means, in place of a classifier that is descended."""

    config: Config

    def add_clusters(self) -> None:
        """Register centers, at random places until k-means gives them theirs, and the clusters' shares."""
        n_clusters = self.info.n_clusters
        self.centers = nn.Buffer(F.normalize(torch.randn(n_clusters, self.latent_dim), dim=1))
        self.shares = nn.Buffer(torch.full((n_clusters,), 1 / n_clusters))

    @property
    def width(self) -> float:
        """lambda K."""
        return self.config.temperature * self.info.n_clusters

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of the soft labels, none of them infinite."""
        return torch.log_softmax(z @ self.centers.T / self.width + 0.5 * log_weights(self.shares), dim=1)

    def costs(self, z: Tensor, targets: Tensor) -> Tensor:
        """[sum_k q_k ||z - theta_k||^2 - ||z||^2] / (lambda K), (n,), of noisy codes z (n, d) and q (n, K)."""
        distances = (targets * center_distances(z, self.centers)).sum(dim=1)
        return (distances - z.square().sum(dim=1)) / self.width

    def soft_labels(self, z: Tensor) -> Tensor:
        """q (n, K), by the distances to the centers."""
        return torch.softmax(-center_distances(z, self.centers) / self.width, dim=1)

    def targets(self, soft_labels: Tensor) -> Tensor:
        """q itself."""
        return soft_labels

    def put_clusters(self, centers: Tensor, labels: Tensor) -> None:
        """Start from k-means' centers and its clusters' shares."""
        self.centers.copy_(centers)
        self.shares.copy_(torch.bincount(labels, minlength=len(centers)) / len(labels))

    @torch.no_grad()
    def refresh(self, z: Tensor) -> None:
        """q of all samples by the centers of before, then centers and shares by q; an empty cluster's center stays."""
        q = self.soft_labels(z)
        self.change.copy_(self.alternation.renew(q, q))
        masses = q.sum(dim=0).unsqueeze(1)
        self.centers.copy_(torch.where(masses > 0, q.T @ z / masses.clamp_min(torch.finfo(q.dtype).tiny), self.centers))
        self.shares.copy_(q.mean(dim=0))
