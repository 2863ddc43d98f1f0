"""ABC: an autoencoder whose codes are drawn to their nearest centre (Song et al., CIARP 2013; Eq. 3 of DCAN).

L = 1/2 ||x - x_hat||^2 + cluster_weight * 1/2 ||z - eta*||^2, eta* the centre nearest to z, a constant of the step; the
first term is a mean over the inputs ("mean", as in ClustPy, whose weight and schedule ours are) or their sum ("sum",
Eq. 3 as printed). After each epoch the centres are the means of the codes assigned to them. With unit variances the
second term is KL(N(eta*, I) || N(z, I)) (DCAN, Lemma 1). Starts from the pretrained autoencoder of AE+k-means, with the
centres on k-means. Nothing keeps the encoder from shrinking its codes: `health` tells.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import check_at_least
from robust_cluster.models.autoencoder import ae_kmeans
from robust_cluster.models.base import Embedding, Losses, Outputs, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.dec import center_distances
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.mixture import lloyd_pass

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {**ae_kmeans.PROFILES["smoke"], "cluster": {"epochs": 10, "batch_size": 128}},
    "cpu": {**ae_kmeans.PROFILES["cpu"], "cluster": {"epochs": 60, "batch_size": 300}},
    "short": {**ae_kmeans.PROFILES["short"], "cluster": {"epochs": 10, "batch_size": 100}},
}


@dataclass(frozen=True)
class Config(ae_kmeans.Config):
    """Hyper-parameters of ABC; `--dim 10` for the network of the DEC family."""

    cluster_weight: float = 0.1  # lambda of DCAN's Eq. 3
    recon: Literal["mean", "sum"] = "mean"  # over the inputs; "sum" weighs the centres less, by the number of inputs
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=150, batch_size=256, lr=1e-4))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "cluster_weight")


class AutoencoderBasedClustering(ae_kmeans.AEKMeans):
    """AE+k-means with centres that the encoder is trained towards; the label is the nearest centre."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        check_at_least(2, info, "n_clusters")

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """reconstruction and clustering; the warm-up's terms while pretraining."""
        if phase == "pretrain":
            return super().losses(batch, phase)
        z = self.encode(batch.views).z if outputs is None else outputs.embedding.z
        x = batch.views[0]
        error = squared_error(self.autoencoder.decode(z), x)
        return {
            "reconstruction": 0.5 * (error if self.config.recon == "sum" else error / x[0].numel()),
            "clustering": self.config.cluster_weight * half_squared_distance(z, self.centers),
        }

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Centres of k-means on the pretrained embedding."""
        if phase == "cluster":
            self.fit_centers(embed().z, seed)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Centres are the means of what is assigned to them; one that holds nothing stays."""
        self.centers, self.variance = lloyd_pass(embed().z, self.centers)

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Once more: a defense may have moved the embedding since."""
        if phase == "cluster":
            self.centers, self.variance = lloyd_pass(embed().z, self.centers)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Spread of the centres and distance to the nearest: both go to 0 when the encoder shrinks its codes."""
        spread = (self.centers - self.centers.mean(dim=0)).norm(dim=1).mean()
        return {
            "center_spread": float(spread),
            "half_squared_distance": float(half_squared_distance(embedding.z, self.centers)),
        }


def half_squared_distance(z: Tensor, centers: Tensor) -> Tensor:
    """E 1/2 ||z - eta*||^2, eta* the nearest centre; no gradient to the centres. Shapes: z (n, d), centers (K, d)."""
    return 0.5 * center_distances(z, centers.detach()).min(dim=1).values.mean()
