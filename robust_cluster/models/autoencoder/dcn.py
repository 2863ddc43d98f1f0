"""DCN: an autoencoder whose codes are drawn to the centers of a running k-means (Yang et al., ICML 2017).

A batch takes three steps: encoder and decoder descend E ||x - x_hat||^2 + cluster_weight * E ||z - mu_s||^2 with
centers mu and assignments s constant; its samples go to the nearest center of their new codes, argmin_k ||z - mu_k||;
and one after the other they move it, count_s += 1, mu_s += (z_i - mu_s) / count_s. The paper writes the weight as
lambda / 2. Counts start at 100 (the authors' code), so that the first samples do not carry k-means' centers off.

Network and pretraining are those of the DEC family, as in ADEC's tables (2019), in place of the authors' layers trained
one by one; the reconstruction is in the data's own units, whatever scale the network reads. Labels are the nearest
center's; those of k-means on the final codes are scored beside them (ACC_refit).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import check_at_least
from robust_cluster.models.autoencoder import dec
from robust_cluster.models.base import Embedding, Losses, Outputs, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.centers import RunningMeans, kmeans
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.mixture import lloyd_pass

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {**dec.PROFILES["smoke"], "cluster": {"epochs": 10, "batch_size": 128, "lr": 1e-3}},
    "short": {**dec.PROFILES["short"], "cluster": {"epochs": 10}},
    "cpu": {  # for 10,000 samples, 4,950 steps: 6 minutes on one core
        "hidden": (250, 250, 1000),
        "pretrain": {"epochs": 30, "steps_per_epoch": 100},
        "cluster": {"epochs": 50},
    },
}


@dataclass(frozen=True)
class Config(dec.Config):
    """Hyper-parameters of DCN, as in the authors' code for MNIST where it has them."""

    mode: Literal["plain"] = "plain"  # there is no other; ADEC gives DCN no variant of its own
    cluster_weight: float = 1.0  # of the squared distance to the center, beside a reconstruction of weight 1 [code]
    first_count: int = 100  # samples that a center counts for when training begins [code]
    tol: float = 0.0  # DCN has no such end [code]
    optimizer: Literal["sgd", "adam"] = "sgd"  # of the clustering, with momentum 0.9 [code]
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=50, batch_size=256, lr=1e-4))  # [code]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "cluster_weight")
        check_at_least(1, self, "first_count")


class DCN(dec.DEC):
    """Deep clustering network. In a defense, which has no assignments, a sample's center is the one nearest to it."""

    scores_refit: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.centers.requires_grad_(False)  # they are means, not descended
        self.fit.parts = {"means": RunningMeans(info.n_samples, info.n_clusters, config.first_count)}

    @property
    def means(self) -> RunningMeans:
        """Assignments and counts, on the model's device."""
        kept: RunningMeans = self.fit.parts["means"]
        return kept.to(self.centers.device)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """reconstruction and clustering; the shared pretraining's terms while pretraining."""
        if phase == "pretrain":
            return super().losses(batch, phase)
        x = self.inputs(batch, phase) if outputs is None else self.autoencoder.rows(batch.views[0])
        z = self.autoencoder.encoder(x) if outputs is None else outputs.embedding.z
        assigned = self.centers[self.means.of(batch.index, z, self.centers)].detach()
        return {
            "reconstruction": self.self_loss(x, z),
            "clustering": self.config.cluster_weight * squared_error(z, assigned),
        }

    def self_loss(self, x: Tensor, z: Tensor) -> Tensor:
        """E ||x - x_hat||^2 in the data's own units, for scaled rows x (n, D) and codes z (n, d)."""
        return squared_error(self.autoencoder.decoder(z), x) / self.autoencoder.scale.square()

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """As DEC's while pretraining; then one for encoder and decoder, none of which moves the centers."""
        if phase == "pretrain":
            return super().optimizers(phase)
        return {"model": self.new_optimizer(self.autoencoder.parameters())}

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """A step down the losses; while clustering, then the batch's assignments and centers from its new codes."""
        values = super().step(batch, phase, optimizers)
        if phase == "cluster":
            with torch.no_grad():
                self.means.update(batch.index, self.encode(batch.views).z, self.centers)
        return values

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Centers and assignments of k-means on the pretrained codes, with the seed that came with these."""
        if phase == "cluster":
            seed = int(self.autoencoder.start_seed)
            centers, labels, _ = kmeans(embed().z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)
            self.centers.copy_(centers)
            self.means.labels.copy_(labels)

    def refresh(self, z: Tensor) -> None:
        """Note the share of all samples whose nearest center, at the embedding z (n, d), is no longer the assigned."""
        self.changed.copy_((self.labels(z) != self.means.labels).float().mean())

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """After a defense, which has moved the codes and not the centers, put these on the means of what they hold."""
        if phase == "cluster" and not self.means.is_begun:
            with torch.no_grad():
                self.centers.copy_(lloyd_pass(embed().z, self.centers)[0])

    def refit_labels(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of k-means fitted anew to z (n, d)."""
        return kmeans(z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)[1]

    def gradient_losses(self, batch: Batch, true_targets: Tensor) -> Losses:
        """The distance to the assigned center, to the matched class's, and the reconstruction, on clean samples."""
        x = self.autoencoder.rows(batch.views[0])
        z = self.autoencoder.encoder(x)
        assigned = self.centers[self.means.of(batch.index, z, self.centers)]
        return {
            "pseudo": squared_error(z, assigned),
            "sup": squared_error(z, true_targets @ self.centers),
            "self": self.self_loss(x, z),
        }

    def loss_weights(self) -> tuple[float, float]:
        """(cluster_weight, 1)."""
        return self.config.cluster_weight, 1.0
