"""ConvAE: a VAE with one unit Gaussian per cluster as its prior and a softmax head (ALRDC, NeurIPS 2020, Eqs. 1-3).

L_C = recon_weight * E||x - x_hat||^2 + E sum_k y_k KL(N(mu, e^s) || N(m_k, I)) + E sum_k y_k log y_k,
with y = head(mu) and x_hat = decoder(z), z = mu + exp(s/2) eps. Symbols: mu, s the encoder's heads (n, d), m the
prior means (K, d). Mode "clean" starts from the shared pretrained autoencoder, puts m on k-means' centers and fits the
head to k-means' labels before the joint training; mode "paper" trains jointly, from m = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.autoencoder import ae_kmeans
from robust_cluster.models.autoencoder.ae_kmeans import autoencoder_losses, single_view
from robust_cluster.models.base import ClusterModel, Embedding, Losses, Outputs, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.layers import GaussianAutoencoder, glorot, perceptron
from robust_cluster.nn.losses import mixture_prior_kl, negative_entropy, squared_error
from robust_cluster.nn.optim import adam, descend

MODES = {"paper": {"cluster": {"epochs": 50, "batch_size": 100, "steps_per_epoch": None, "window": 0}}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        **ae_kmeans.PROFILES["smoke"],
        "head": (64, 64),
        "cluster": {"epochs": 10, "batch_size": 128, "steps_per_epoch": 20},
    },
    "cpu": {
        **ae_kmeans.PROFILES["cpu"],
        "head": (256, 256, 128),
        "cluster": {"epochs": 50, "batch_size": 300},  # 2,500 steps
    },
    "short": {
        **ae_kmeans.PROFILES["short"],
        "head": (256, 256, 128),
        "cluster": {"epochs": 10, "batch_size": 100},  # 500 steps
    },
}


@dataclass(frozen=True)
class Config(ae_kmeans.Config):
    """Hyper-parameters of ConvAE; the loss weights are those of ALRDC's code."""

    mode: Literal["clean", "paper"] = "clean"
    head: tuple[int, ...] = (1024, 1024, 512)  # hidden widths of the softmax head
    prior_weight: float = 1.0  # of the KL from the clusters' Gaussians
    entropy_weight: float = 1.0  # of sum_k y_k log y_k of the soft labels
    head_steps: int = 500  # at most; ends at 99 % agreement with k-means' labels
    cluster: Schedule = field(
        default_factory=lambda: Schedule(epochs=300, batch_size=1000, steps_per_epoch=50, window=10)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "prior_weight", "entropy_weight", "head_steps")
        check_at_least(1, self, "head")


class ConvAE(ClusterModel):
    """The base clustering network of ALRDC; "Conv" for images, a perceptron for vectors."""

    version: ClassVar[int] = 2
    pretrained_by: ClassVar[str | None] = "ae_kmeans"
    pretrain_fields: ClassVar[tuple[str, ...]] = ae_kmeans.AEKMeans.pretrain_fields

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.config: Config = config
        self.autoencoder = GaussianAutoencoder(single_view(info), latent_dim, config.hidden)
        self.head = perceptron([latent_dim, *config.head, info.n_clusters])
        self.centers = nn.Parameter(torch.zeros(info.n_clusters, latent_dim))
        glorot(self.head)

    @classmethod
    def has_pretraining(cls, config: Any) -> bool:
        """Only in mode "clean"."""
        return bool(config.mode == "clean")

    def pretrained(self) -> nn.Module:
        """The autoencoder."""
        return self.autoencoder

    def encode(self, views: Views) -> Embedding:
        """Mean and log-variance of the posterior, each (n, d)."""
        mean, log_var = self.autoencoder.encode(views[0])
        return Embedding(mean, (mean,), log_var)

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape)."""
        return (self.autoencoder.decode(z),)

    def assign(self, z: Tensor) -> Tensor:
        """softmax(head(z)), (n, K). Its input is mu, not a draw, as in ALRDC's code."""
        return torch.softmax(self.head(z), dim=1)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, exact where a saturated head underflows, so that it still has a gradient."""
        return torch.log_softmax(self.head(z), dim=1)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """The terms of L_C, weighted; the warm-up's terms while pretraining."""
        if phase == "pretrain":
            return autoencoder_losses(self.autoencoder, batch.views[0], self.config)
        return self.cluster_losses(batch, outputs or self(batch.views))

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """reconstruction, prior and entropy: the three terms of Eq. 3."""
        config, embedding, y = self.config, outputs.embedding, outputs.soft_labels
        if embedding.log_var is None:
            raise ConfigError("ConvAE's prior term needs a posterior variance")
        prior = mixture_prior_kl(y, embedding.z, embedding.log_var, self.centers)
        return {
            "reconstruction": config.recon_weight * squared_error(outputs.decoded[0], batch.views[0]),
            "prior": config.prior_weight * prior,
            "entropy": config.entropy_weight * negative_entropy(y),
        }

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Prior means on k-means' centers, head fitted to k-means' labels. Mode "paper" starts from m = 0."""
        if phase != "cluster" or self.config.mode == "paper":
            return
        z = embed().z
        centers, labels, _ = kmeans(z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)
        with torch.no_grad():
            self.centers.copy_(centers)
            if self.config.warmup == "ae":
                self._start_variance(z[torch.randperm(len(z))[:1000].to(z.device)])
        self._fit_head(z, labels)

    def _start_variance(self, z: Tensor) -> None:
        """Put the log-variance head, which a warm-up without noise leaves untrained, on one constant s.

        s minimizes the joint loss in s: with the decoded image changing by a e^s on average for noise of variance e^s,
        recon_weight * a e^s + d/2 (e^s - 1 - s) is least at e^s = d/2 / (recon_weight * a + d/2). The network is not
        linear, so a is measured at the s it gives, a few times. From random variances the reconstruction error starts
        40 times too high, and in the first steps most clusters are lost; Graph does not find them again.
        """
        half = z.shape[1] / 2
        noise, log_var = torch.randn_like(z), 0.0
        for _ in range(5):
            changed = squared_error(self.decode(z)[0], self.decode(z + math.exp(log_var / 2) * noise)[0])
            slope = self.config.recon_weight * float(changed) / math.exp(log_var)
            log_var = math.log(half / (slope + half))
        head = self.autoencoder.log_var
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, log_var)

    def _fit_head(self, z: Tensor, labels: Tensor) -> None:
        """Cross-entropy of head(z) against k-means' labels until 99 % agree, at most `head_steps` steps of 1,000."""
        optimizer = adam(self.head.parameters(), 1e-3)
        for step in range(self.config.head_steps):
            rows = torch.randperm(len(z))[:1000].to(z.device)
            descend({"head": F.cross_entropy(self.head(z[rows]), labels[rows])}, optimizer)
            if step % 10 == 9 and (self.labels(z) == labels).float().mean() >= 0.99:
                return

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Spread and size of the prior means: a net may make fixed moves harmless by mere scale."""
        spread = (self.centers - self.centers.mean(dim=0)).norm(dim=1).mean()
        return {"center_spread": float(spread), "center_norm": float(self.centers.norm(dim=1).mean())}
