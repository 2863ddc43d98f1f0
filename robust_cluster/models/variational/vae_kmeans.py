"""Variational autoencoder + k-means (Kingma and Welling, ICLR 2014): a yardstick of LPVDN (AAAI 2021, Tables 1-2).

L = E[-log p(x | z)] + E KL(N(mu~, s~^2) || N(0, I)) with one draw of z, then k-means on mu~. The network is LPVDN's
D-500-500-2000-J and its mirror: sigmoid and cross-entropy for data in [0, 1], else linear and squared error. It trains
while clustering, from scratch, so that a defense can train it on. The paper gives no schedule; this one is our choice.
"""

from dataclasses import dataclass, field
from typing import Any

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Losses, Outputs, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.schedule import Schedule
from robust_cluster.models.variational.base import Variational, VariationalConfig
from robust_cluster.nn.losses import standard_normal_kl

QUICK: dict[str, Any] = {"cluster": {"epochs": 40}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"hidden": (128, 128), "cluster": {"epochs": 30, "batch_size": 128}},
    "short": QUICK,
    "cpu": QUICK,
}


@dataclass(frozen=True)
class Config(VariationalConfig):
    """Hyper-parameters of the autoencoder and of k-means on it."""

    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch_size=256))
    n_init: int = 10  # k-means restarts; the paper

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "n_init")


class VAEKMeans(Variational, CenterModel):
    """k-means on the means of a variational encoder."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.add_centers(latent_dim)

    def knows_labels(self) -> bool:
        """Not before k-means: all centers are 0 until then."""
        return bool(self.centers.any())

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """reconstruction and kl. Raises: ConfigError for the phase "pretrain"."""
        if phase == "pretrain":
            raise ConfigError("vae_kmeans has no pretraining", hint="rc cluster --model vae_kmeans")
        embedding = outputs.embedding if outputs else self.encode(batch.views)
        z = outputs.z_drawn if outputs else embedding.draw()
        assert embedding.log_var is not None  # encode() gives one
        return {
            "reconstruction": self.network.reconstruction(z, batch.views[0]),
            "kl": standard_normal_kl(embedding.z, embedding.log_var),
        }

    def health(self, embedding: Embedding) -> dict[str, float]:
        """The posterior's mean standard deviation: 1 in dimensions that collapsed to the prior."""
        assert embedding.log_var is not None  # encode() gives one
        return {"posterior_std": float((0.5 * embedding.log_var).exp().mean())}
