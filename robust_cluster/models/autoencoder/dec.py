"""DEC: an encoder and cluster centers trained on their own sharpened soft labels (Xie et al., ICML 2016).

After pretraining and k-means on the embedding, encoder and centers minimize KL(P || Q), q_ij the Student-t similarity
of z_i to mu_j and p_ij ~ q_ij^2 / sum_i q_ij over the whole data set, taken anew every T steps (an epoch here); labels
are argmax q, and training ends when fewer than `tol` of them changed in an epoch. The decoder stays as pretraining left
it. Network, initialization, T, tol and optimizer are those of DEC-keras (Guo).

Pretraining, which IDEC and ADEC share: `pretraining` "vanilla" is mean (x - x_hat)^2, "denoising" the same from inputs
of which a share was dropped, all layers at once (the paper's is layer by layer), "acai" ADEC's Eqs. 8-9 (2019):
mean (x - x_hat)^2 + lambda E C(x_alpha)^2 for the autoencoder, E (C(x_alpha) - alpha)^2 + E C(gamma x +
(1 - gamma) x_hat)^2 for the critic C, x_alpha decoded from a mix of two codes. Mode "star" is DEC* of ADEC's Table 2:
ADEC's pretraining, T, optimizer and augmentation with DEC's loss; mode "paper" is DEC's noise and its T of 160.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.images import image_shape
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn import interpolation
from robust_cluster.nn.adversarial import frozen
from robust_cluster.nn.augment import random_affine
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.dec import SelfTraining, clustering_kl, student_t
from robust_cluster.nn.layers import perceptron
from robust_cluster.nn.optim import adam, descend
from robust_cluster.nn.perceptrons import MirroredAutoencoder, uniform_fan_in

# 130,000 iterations (ADEC, sec. 5)
ACAI_PRETRAINING: dict[str, Any] = {"epochs": 130, "steps_per_epoch": 1000, "lr": 1e-4}
ADEC_CLUSTERING = {"epochs": 715, "steps_per_epoch": 140, "lr": 1e-3}  # 100,100 iterations (ADEC: at most 100,000)
STAR = {"pretraining": "acai", "pretrain": ACAI_PRETRAINING, "optimizer": "sgd", "cluster": ADEC_CLUSTERING}
PAPER = {"pretraining": "denoising", "pretrain": {"epochs": 100, "steps_per_epoch": 1000}}
MODES: dict[str, dict[str, Any]] = {
    "star": STAR,
    "paper": {**PAPER, "cluster": {"epochs": 125, "steps_per_epoch": 160}},
}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "hidden": (128, 128),
        "tol": 0.0,  # with so few steps an epoch few labels change at any time
        "pretrain": {"epochs": 20, "batch_size": 128, "steps_per_epoch": 15, "lr": 1e-3},
        "cluster": {"epochs": 20, "batch_size": 128, "steps_per_epoch": 10},
    },
    "short": {
        "hidden": (250, 250, 1000),
        "pretrain": {"epochs": 20, "steps_per_epoch": 100},  # 2,000 steps
        "cluster": {"epochs": 34, "steps_per_epoch": 30},  # 1,020 steps
    },
    "cpu": {  # for up to 10,000 samples: T = 30 there (DEC-keras)
        "pretrain": {"epochs": 80, "steps_per_epoch": 100},  # 8,000 steps
        "cluster": {"epochs": 134, "steps_per_epoch": 30},  # 4,020 steps
    },
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of the shared pretraining and of DEC."""

    mode: Literal["plain", "star", "paper"] = "plain"
    hidden: tuple[int, ...] = (500, 500, 2000)  # widths of the encoder; decoder and critic mirror and repeat them
    norm: Literal["unit_energy", "none"] = "unit_energy"  # one factor makes the mean of x^2 over all entries 1
    # plain, from inputs with some dropped, or ADEC's, against a critic of mixed codes
    pretraining: Literal["vanilla", "denoising", "acai"] = "vanilla"
    augment: bool | None = None  # random rotations and shifts while pretraining; None: for acai with images
    image_shape: tuple[int, ...] = ()  # (channels, height, width) of vectors that are flattened images
    corruption: float = 0.2  # share of the inputs that "denoising" drops (DEC, sec. 4)
    critic_weight: float = 0.5  # lambda of acai (ADEC)
    alpha: Literal["folded", "unit"] = "folded"  # alpha of acai uniform in [0, 1/2] (ACAI) or in [0, 1] (ADEC)
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch_size=256, lr=1e-3))
    augment_clustering: bool | None = None  # None: as while pretraining; targets are always those of clean samples
    n_init: int = 20  # k-means restarts (DEC-keras)
    optimizer: Literal["sgd", "adam"] = "sgd"  # of the clustering
    momentum: float = 0.9  # of sgd
    tol: float = 1e-3  # share of changed labels below which training ends; 0 never ends early
    # steps_per_epoch is T: 140 for 70,000 samples, 30 for up to 10,000 (DEC-keras); 20,020 steps
    cluster: Schedule = field(
        default_factory=lambda: Schedule(epochs=143, batch_size=256, steps_per_epoch=140, lr=0.01)
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init", "hidden")
        check_at_least(0, self, "corruption", "critic_weight", "momentum", "tol")
        if not self.hidden:
            raise ConfigError("hidden must be a list of widths such as [500, 500, 2000], got none")
        for name, usual in (("corruption", 0.2), ("momentum", 0.9)):
            value = getattr(self, name)
            if value >= 1:
                raise ConfigError(f"{name} must be in [0, 1), got {value}", hint=f"--set model.{name}={usual}")


class DEC(ClusterModel):
    """Deep embedded clustering; IDEC and ADEC override what is minimized.

    In a defense, which hands over no embedding of all samples, a sample's target is its own soft labels sharpened with
    the cluster frequencies of the last epoch. The critic of "acai" stands idle while clustering.
    """

    pretrained_by: ClassVar[str | None] = "dec"
    pretrain_fields: ClassVar[tuple[str, ...]] = (
        "hidden",
        "norm",
        "pretraining",
        "augment",
        "image_shape",
        "corruption",
        "critic_weight",
        "alpha",
        "pretrain",
    )
    config: Config
    critic: nn.Sequential

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse vectors where images are to be rotated and shifted. Raises: ConfigError."""
        augmented_phases(config, info)

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        shape = single_view(info)
        self.image_shape = image_shape(config.image_shape, info)
        self.augments = augmented_phases(config, info)
        is_scaled = config.norm == "unit_energy" and info.mean_square > 0
        scale = info.mean_square**-0.5 if is_scaled else 1.0
        self.autoencoder = MirroredAutoencoder(shape, latent_dim, config.hidden, scale=scale)
        if config.pretraining == "acai":
            self.critic = perceptron([math.prod(shape), *config.hidden, latent_dim])
            uniform_fan_in(self.critic)
        self.centers = nn.Parameter(torch.zeros(info.n_clusters, latent_dim))
        self.frequencies = nn.Buffer(torch.ones(info.n_clusters))  # sum_i q_ij when targets were last taken
        self.changed = nn.Buffer(torch.ones(()))  # share of labels that changed between the last two
        self.fit.parts["self_training"] = SelfTraining(info.n_samples, info.n_clusters)

    @property
    def self_training(self) -> SelfTraining:
        """Targets and labels of all samples, on the model's device."""
        kept: SelfTraining = self.fit.parts["self_training"]
        return kept.to(self.centers.device)

    def pretrained(self) -> nn.Module:
        """The autoencoder, with its scale and the seed of k-means."""
        return self.autoencoder

    def encode(self, views: Views) -> Embedding:
        """The encoder's output (n, d)."""
        z = self.autoencoder.encoder(self.autoencoder.rows(views[0]))
        return Embedding(z, (z,))

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape), in the data's own units; not clipped to their bounds."""
        return (self.autoencoder.samples(self.autoencoder.decoder(z)),)

    def assign(self, z: Tensor) -> Tensor:
        """q (n, K), Student-t similarities to the centers (DEC, Eq. 1)."""
        return student_t(z, self.centers)

    def inputs(self, batch: Batch, phase: Phase) -> Tensor:
        """Scaled rows (n, D) of a batch, rotated and shifted before where the phase has that."""
        view = batch.views[0]
        if self.augments[phase]:
            view = random_affine(view.reshape(-1, *self.image_shape))
        return self.autoencoder.rows(view)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """The terms of a phase. With `outputs`, which are of the batch as it is, nothing is rotated or shifted."""
        if phase == "pretrain":
            return self.pretraining_losses(self.inputs(batch, phase))
        x = self.inputs(batch, phase) if outputs is None else self.autoencoder.rows(batch.views[0])
        z = self.autoencoder.encoder(x) if outputs is None else outputs.embedding.z
        return self.cluster_losses(x, z, self.targets_of(batch, z))

    def pretraining_losses(self, x: Tensor) -> Losses:
        """The terms of the pretraining for rows x (n, D); the critic's own reaches the critic alone."""
        config, (encoder, decoder) = self.config, (self.autoencoder.encoder, self.autoencoder.decoder)
        if config.pretraining == "denoising":
            return {"reconstruction": F.mse_loss(decoder(encoder(F.dropout(x, config.corruption))), x)}
        z = encoder(x)
        decoded = decoder(z)
        terms = {"reconstruction": F.mse_loss(decoded, x)}
        if config.pretraining == "vanilla":
            return terms
        alpha = interpolation.draw_alpha(len(z), is_folded=config.alpha == "folded", device=z.device)
        mixed = decoder(interpolation.interpolate(z, alpha))
        gamma = torch.rand((), device=z.device)
        blended = (gamma * x + (1 - gamma) * decoded).detach()
        penalty = interpolation.interpolation_penalty(interpolation.scores(frozen(self.critic, mixed)))
        told_mixed, told_blended = (interpolation.scores(self.critic(rows)) for rows in (mixed.detach(), blended))
        return terms | {
            "adversarial": config.critic_weight * penalty,
            "critic": interpolation.critic_loss(told_mixed, alpha, told_blended),
        }

    def cluster_losses(self, x: Tensor, z: Tensor, targets: Tensor) -> Losses:
        """KL(P || Q) for rows x (n, D), their embedding z (n, d) and targets (n, K)."""
        return {"clustering": clustering_kl(targets, self.assign(z))}

    def targets_of(self, batch: Batch, z: Tensor) -> Tensor:
        """P (n, K) of a batch; `z` (n, d) serves samples without a target yet."""
        with torch.no_grad():
            return self.self_training.of(batch.index, self.assign(z), self.frequencies)

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """Adam for the autoencoder and one for the critic; then one optimizer for encoder and centers."""
        if phase == "cluster":
            return {"model": self.new_optimizer([*self.autoencoder.encoder.parameters(), self.centers])}
        networks = {"model": self.autoencoder} | ({"critic": self.critic} if self.config.pretraining == "acai" else {})
        return {name: adam(network.parameters(), self.config.pretrain.lr) for name, network in networks.items()}

    def new_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer that the configuration names for the clustering."""
        lr = self.config.cluster.lr
        return adam(parameters, lr) if self.config.optimizer == "adam" else SGD(parameters, lr, self.config.momentum)

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update; of autoencoder and then critic, both from one forward pass, where there is one."""
        critic = optimizers.get("critic")
        if critic is None:
            return super().step(batch, phase, optimizers)
        critic.zero_grad(set_to_none=True)
        values = descend(self.losses(batch, phase), optimizers["model"])
        critic.step()
        return values

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Centers on those of k-means, and the first targets.

        The seed of k-means came with the pretrained weights: methods that share these start from the same clusters.
        """
        if phase == "cluster":
            z, k = embed().z, self.info.n_clusters
            centers, _, _ = kmeans(z, k, n_init=self.config.n_init, seed=int(self.autoencoder.start_seed))
            with torch.no_grad():
                self.centers.copy_(centers)
            self.refresh(z)
            self.changed.fill_(1.0)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Take the targets anew."""
        if phase == "cluster":
            self.refresh(embed().z)

    @torch.no_grad()
    def refresh(self, z: Tensor) -> None:
        """Targets, frequencies and the share of changed labels from the embedding z (n, d) of all clean samples."""
        soft_labels = self.assign(z)
        self.changed.copy_(self.self_training.refresh(soft_labels))
        self.frequencies.copy_(soft_labels.sum(dim=0))

    def stop_reason(self) -> str | None:
        """Fewer than `tol` of the labels changed in the last epoch."""
        return "labels settled" if float(self.changed) < self.config.tol else None

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Spread of the centers, and the share of all labels that the last epoch changed."""
        centers = self.centers.detach()
        spread = (centers - centers.mean(dim=0)).norm(dim=1).mean()
        return {"center_spread": float(spread), "labels_changed": float(self.changed)}

    def gradient_parameters(self) -> list[nn.Parameter]:
        """The encoder's weights and biases: where gradients are compared to measure randomness and drift."""
        return list(self.autoencoder.encoder.parameters())

    def gradient_losses(self, batch: Batch, true_targets: Tensor) -> Losses:
        """The losses whose gradients ADEC's Eqs. 5-6 compare, on clean samples; nothing trains on them.

        "pseudo": KL to the targets; "sup": the same to `true_targets` (n, K), one-hot rows of matched classes; "self":
        the self-supervised loss of the encoder, where it has one.
        """
        x = self.autoencoder.rows(batch.views[0])
        z = self.autoencoder.encoder(x)
        soft_labels = self.assign(z)
        own = self.self_loss(x, z)
        return {
            "pseudo": clustering_kl(self.targets_of(batch, z), soft_labels),
            "sup": clustering_kl(true_targets, soft_labels),
        } | ({} if own is None else {"self": own})

    def self_loss(self, x: Tensor, z: Tensor) -> Tensor | None:
        """What trains the encoder beside KL, without its weight: nothing in DEC. Shapes: x (n, D), z (n, d)."""
        return None

    def loss_weights(self) -> tuple[float, float]:
        """The weights of KL and of `self_loss` in the encoder's objective."""
        return 1.0, 1.0


def augmented_phases(config: Config, info: DataInfo) -> dict[Phase, bool]:
    """Whether each phase rotates and shifts its samples. Raises: ConfigError where that is wanted of vectors."""
    is_image = bool(image_shape(config.image_shape, info))
    for name in ("augment", "augment_clustering"):
        if getattr(config, name) and not is_image:
            raise ConfigError(
                f"{name} rotates and shifts images, {info.name} has vectors of {info.shapes[0][0]}",
                hint=f"--set model.{name}=none, or model.image_shape=[1,28,28] for flattened images of that size",
            )
    pretrain = config.pretraining == "acai" and is_image if config.augment is None else config.augment
    cluster = pretrain if config.augment_clustering is None else config.augment_clustering
    return {"pretrain": pretrain, "cluster": cluster}
