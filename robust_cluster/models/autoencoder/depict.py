"""DEPICT: a denoising autoencoder whose code is classified towards balanced targets (Dizaji et al., ICCV 2017).

L = -E sum_k q_k log p~_k + sum_l w_l MSE(decoder layer l, encoder layer l), p = softmax(theta z + b). p~ and decoder
see a noisy pass, q and the encoder's layers a clean one; layers are the image and the maps of both convolutions. After
an epoch q_ik ~ p_ik^2 / sum_i p_ik over all samples, as in the authors' code (the paper: p / sqrt(sum p)). Labels are
argmax p of the clean pass; training ends when the mean squared change of p in an epoch is below `tol`.

Starts from the autoencoder alone (the code keeps the epoch of least loss, here the last counts) and theta on k-means'
centers of length 1; the first epochs have k-means' labels as targets, for 90 % of the samples, until the rest agree no
better for `patience` epochs. The code takes the tenth by true labels: here it is a tenth of each k-means cluster.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.images import needed_image_shape, ranged, unranged
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.dec import sharpen
from robust_cluster.nn.denoising import SMALLEST, Alternation, DenoisingAutoencoder
from robust_cluster.nn.optim import adam

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "maps": 32,
        "patience": 1,
        "pretrain": {"epochs": 10, "batch_size": 50, "lr": 3e-3},
        "cluster": {"epochs": 10, "batch_size": 50, "lr": 3e-3},
    },
    "short": {"patience": 2, "pretrain": {"epochs": 10, "lr": 1e-3}, "cluster": {"epochs": 10, "lr": 1e-3}},
    "cpu": {  # for 10,000 images, 2,000 and 1,500 steps: 5 minutes on one core
        "maps": 16,
        "patience": 2,
        "pretrain": {"epochs": 20, "lr": 1e-3},
        "cluster": {"epochs": 15, "lr": 1e-3},
    },
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of DEPICT; the code has `--dim` K, 10 for digits."""

    image_shape: tuple[int, ...] = ()  # (channels, height, width) of vectors that are flattened images
    maps: int = 50  # of both convolutions [code]
    dropout: tuple[float, ...] = (0.1, 0.1)  # shares, before the first and the second convolution [code]
    layer_weights: tuple[float, ...] = (1.0, 0.1, 0.1)  # of image and maps in the reconstruction [code]
    held_share: float = 0.1  # of each cluster, kept out of the first epochs [code]
    patience: int = 5  # epochs of no better agreement on these, which end the first ones [code]
    tol: float = 1e-7  # mean squared change of p below which training ends; 0 never ends early [code]
    n_init: int = 20  # k-means restarts [our choice]
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=4000, batch_size=100, lr=1e-4))  # [code]
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=1000, batch_size=100, lr=1e-4))  # [code]

    def __post_init__(self) -> None:
        check_at_least(1, self, "maps", "patience", "n_init")
        check_at_least(0, self, "dropout", "layer_weights", "held_share", "tol")
        if len(self.dropout) != 2 or len(self.layer_weights) != 3:
            raise ConfigError(
                "dropout needs 2 shares and layer_weights 3 weights, such as [0.1, 0.1] and [1, 0.1, 0.1]"
            )
        if max(*self.dropout, self.held_share) >= 1:
            given = f"{list(self.dropout)} and {self.held_share}"
            raise ConfigError(f"dropout and held_share must be in [0, 1), got {given}")


class DEPICT(ClusterModel):
    """z is the clean code (n, d), in (-1, 1). In a defense a sample's target comes from its own soft labels."""

    pretrained_by: ClassVar[str | None] = "depict"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("image_shape", "maps", "dropout", "layer_weights", "pretrain")
    config: Config

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse what is no image. Raises: ConfigError."""
        needed_image_shape(cls.__name__, config.image_shape, info, smallest=SMALLEST)

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        check_at_least(2, info, "n_clusters")
        self.shape = needed_image_shape(type(self).__name__, config.image_shape, info, smallest=SMALLEST)
        self.autoencoder = DenoisingAutoencoder(
            self.shape, latent_dim, maps=config.maps, dropout=config.dropout, ends=info.box is not None
        )
        self.add_clusters()
        self.is_fitting = nn.Buffer(torch.zeros((), dtype=torch.bool))  # whether k-means' labels are the targets
        self.agreement, self.waited = nn.Buffer(torch.zeros(())), nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.change = nn.Buffer(torch.ones(()))  # mean squared, of all soft labels in the last epoch
        self.fit.parts["alternation"] = Alternation(info.n_samples, info.n_clusters)

    def add_clusters(self) -> None:
        """Register what labels a code."""
        self.head = nn.Linear(self.latent_dim, self.info.n_clusters)
        self.frequencies = nn.Buffer(torch.ones(self.info.n_clusters))  # sum_i p_ik when targets were last taken

    @property
    def alternation(self) -> Alternation:
        """Targets and soft labels of all samples, on the model's device."""
        kept: Alternation = self.fit.parts["alternation"]
        return kept.to(self.change.device)

    def pretrained(self) -> nn.Module:
        """The autoencoder."""
        return self.autoencoder

    def images(self, views: Views) -> Tensor:
        """The samples (n, C, H, W), in [-1, 1] where their range is known."""
        return ranged(views[0].reshape(-1, *self.shape), self.info, -1, 1)

    def encode(self, views: Views) -> Embedding:
        """The clean code (n, d)."""
        z = self.autoencoder.encode(self.images(views))[-1]
        return Embedding(z, (z,))

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape), in the data's own units."""
        x = unranged(self.autoencoder.decode(z)[0], self.info, -1, 1)
        return (x.reshape(len(z), *self.info.shapes[0]),)

    def assign(self, z: Tensor) -> Tensor:
        """p (n, K)."""
        return self.log_assign(z).exp()

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of p, none of them infinite."""
        return torch.log_softmax(self.head(z), dim=1)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """reconstruction, and clustering while that goes on; `outputs`, which have no layers, are not used."""
        clean = self.autoencoder.encode(self.images(batch.views))
        noisy = self.autoencoder.encode(clean[0], noisy=True)[-1]
        layers = zip(self.config.layer_weights, self.autoencoder.decode(noisy), clean[:-1], strict=True)
        terms = {"reconstruction": torch.stack([w * F.mse_loss(found, wanted) for w, found, wanted in layers]).sum()}
        if phase == "cluster":
            with torch.no_grad():
                targets = self.alternation.of(batch.index, self.targets(self.soft_labels(clean[-1])))
            is_used = (~(self.is_fitting & self.alternation.is_held[batch.index])).to(noisy.dtype)
            costs = self.costs(noisy, targets)
            terms["clustering"] = (is_used * costs).sum() / is_used.sum().clamp_min(1)
        return terms

    def costs(self, z: Tensor, targets: Tensor) -> Tensor:
        """What each noisy code z (n, d) costs (n,), for targets (n, K): the cross-entropy of its soft labels."""
        return -(targets * self.log_assign(z)).sum(dim=1)

    def soft_labels(self, z: Tensor) -> Tensor:
        """What the targets are made of, and whose change ends the training: p (n, K)."""
        return self.assign(z)

    def targets(self, soft_labels: Tensor) -> Tensor:
        """q (n, K), with the cluster frequencies of the last epoch."""
        return sharpen(soft_labels, self.frequencies)

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """Adam for the autoencoder, then for all parameters."""
        net = self.autoencoder if phase == "pretrain" else self
        return {"model": adam(net.parameters(), self.schedule(phase).lr)}

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """k-means on the codes: its centers, and its labels as the first targets."""
        if phase == "cluster":
            centers, labels, _ = kmeans(embed().z, self.info.n_clusters, n_init=self.config.n_init, seed=seed)
            self.put_clusters(centers, labels)
            self.alternation.begin(labels, self.config.held_share)
            self.is_fitting.fill_(True)

    @torch.no_grad()
    def put_clusters(self, centers: Tensor, labels: Tensor) -> None:
        """Start from k-means' centers (K, d), at length 1, and its labels (n,) of all samples."""
        self.head.weight.copy_(F.normalize(centers, dim=1))
        self.head.bias.zero_()

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Look whether k-means' labels are learned; once they are, take the targets anew."""
        z = embed().z
        if self.is_fitting:
            kept = self.alternation
            rows = kept.is_held if kept.is_held.any() else torch.ones_like(kept.is_held)
            agreement = (self.labels(z) == kept.labels)[rows].float().mean()
            self.waited.copy_(torch.where(agreement > self.agreement, 0, self.waited + 1))
            self.agreement.copy_(torch.maximum(agreement, self.agreement))
            self.is_fitting.fill_(bool(self.waited < self.config.patience))
        if not self.is_fitting:
            self.refresh(z)

    @torch.no_grad()
    def refresh(self, z: Tensor) -> None:
        """Frequencies and targets from the clean codes z (n, d) of all samples."""
        soft_labels = self.soft_labels(z)
        self.frequencies.copy_(soft_labels.sum(dim=0))
        self.change.copy_(self.alternation.renew(soft_labels, self.targets(soft_labels)))

    def stop_reason(self) -> str | None:
        """The soft labels of all samples hardly changed in the last epoch."""
        return "soft labels settled" if self.change < self.config.tol else None

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Best agreement with k-means' labels on rows kept from them, and the mean squared change of soft labels."""
        return {"kmeans_agreement": float(self.agreement), "soft_label_change": float(self.change)}
