"""Variational autoencoder + k-means (Kingma and Welling, ICLR 2014): a yardstick of LPVDN (AAAI 2021, Tables 1-2).

L = E[-log p(x | z)] + E KL(N(mu~, s~^2) || N(0, I)) with one draw of z, then k-means on mu~. The network is LPVDN's
D-500-500-2000-J and its mirror: sigmoid and cross-entropy for data in [0, 1], else linear and squared error. It trains
while clustering, from scratch, so that a defense can train it on. The paper gives no schedule; this one is our choice.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.centers import center_posterior, kmeans, log_center_posterior
from robust_cluster.nn.losses import standard_normal_kl
from robust_cluster.nn.variational import VariationalAutoencoder

Output = Literal["auto", "sigmoid", "linear"]
UNIT = (0.0, 1.0)  # bounds of data that a sigmoid can give
QUICK: dict[str, Any] = {"cluster": {"epochs": 40}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"hidden": (128, 128), "cluster": {"epochs": 30, "batch_size": 128}},
    "short": QUICK,
    "cpu": QUICK,
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of the autoencoder and of k-means on it."""

    hidden: tuple[int, ...] = (500, 500, 2000)  # widths of the encoder, mirrored in the decoder; the paper
    output: Output = "auto"  # of the decoder; auto: sigmoid for data in [0, 1], else linear
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch_size=256))
    n_init: int = 10  # k-means restarts; the paper

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init")
        check_hidden(self.hidden)


class VAEKMeans(ClusterModel):
    """k-means on the means of a variational encoder."""

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.config: Config = config
        self.network = new_network(config.hidden, config.output, info, latent_dim)
        self.register_buffer("centers", torch.zeros(info.n_clusters, latent_dim))
        self.register_buffer("variance", torch.ones(()))
        self.centers: Tensor
        self.variance: Tensor

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Nothing, for data that its decoder can give. Raises: ConfigError."""
        check_output(config.output, info)

    def encode(self, views: Views) -> Embedding:
        """Mean and log-variance of the posterior, each (n, d)."""
        mean, log_var = self.network.encode(views[0])
        return Embedding(mean, (mean,), log_var)

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape)."""
        return (self.network.decode(z),)

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) whose argmax is the nearest centre; all equal until k-means is fitted."""
        return center_posterior(z, self.centers, self.variance)

    def knows_labels(self) -> bool:
        """Not before k-means: all centres are 0 until then."""
        return bool(self.centers.any())

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return log_center_posterior(z, self.centers, self.variance)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of k-means fitted anew to z (n, d)."""
        return kmeans(z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)[1]

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

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit the centres on the embedding."""
        if phase == "cluster":
            centers, _, variance = kmeans(embed().z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)
            self.centers.copy_(centers)
            self.variance.fill_(variance)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """The posterior's mean standard deviation: 1 in dimensions that collapsed to the prior."""
        assert embedding.log_var is not None  # encode() gives one
        return {"posterior_std": float((0.5 * embedding.log_var).exp().mean())}


def new_network(hidden: tuple[int, ...], output: Output, info: DataInfo, latent_dim: int) -> VariationalAutoencoder:
    """The network for a data set's only view. Raises: ConfigError as `check_output`."""
    check_output(output, info)
    is_bounded = output == "sigmoid" or (output == "auto" and info.bounds == UNIT)
    return VariationalAutoencoder(single_view(info), latent_dim, hidden, is_bounded=is_bounded)


def check_output(output: Output, info: DataInfo) -> None:
    """Nothing, for data that such a decoder can give. Raises: ConfigError for several views, or a sigmoid elsewhere."""
    single_view(info)
    if output == "sigmoid" and info.bounds != UNIT:
        raise ConfigError(
            f"output 'sigmoid' needs data in [0, 1], {info.name} has no such bounds; 'linear' and 'auto' are allowed",
            hint="--set model.output=linear, or images with --flatten --normalize none",
        )


def check_hidden(hidden: tuple[int, ...], name: str = "hidden") -> None:
    """Nothing, when there are widths and all are at least 1. Raises: ConfigError."""
    if not hidden or min(hidden) < 1:
        raise ConfigError(f"{name} must be a list of widths >= 1 such as [500, 500, 2000], got {list(hidden)}")
