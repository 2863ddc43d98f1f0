"""DeepCluster: a network learns to tell its own features' clusters, which are renewed (Caron et al., ECCV 2018).

Between epochs: features of all images -> principal components, whitened, of length 1 -> k-means of many clusters ->
pseudo-labels, and a classifier that starts anew. In an epoch network and classifier descend the cross-entropy of the
pseudo-labels; a sample weighs 1 / (size of its cluster), which the paper calls equivalent to drawing clusters evenly,
as its code does. Features are the last layer's before its ReLU. Labels: k-means of K clusters on the prepared features
of the trained network; the paper has none, and ADEC (2019), which compares with it, does not say.

For small images: two convolutions and a layer of 128 in place of AlexNet, no Sobel filter, 64 components, 10 K pseudo-
clusters, and rotations and shifts in place of crops and flips. Momentum and weight decay are the authors'.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.images import needed_image_shape
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.augment import random_affine
from robust_cluster.nn.centers import kmeans, nearest
from robust_cluster.nn.whitening import Whitening

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"maps": (8, 16), "features": 32, "cluster": {"epochs": 10, "batch_size": 64, "lr": 0.05}},
    "short": {"cluster": {"epochs": 5}},
    "cpu": {"maps": (16, 32), "cluster": {"epochs": 20}},  # for 10,000 images, 780 steps: 5 minutes on one core
}
HEAD_STD = 0.01  # of the classifier's first weights [code]
ITERATIONS = 20  # of k-means for pseudo-labels [code]


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of DeepCluster."""

    image_shape: tuple[int, ...] = ()  # (channels, height, width) of vectors that are flattened images
    maps: tuple[int, ...] = (32, 64)  # of the 3x3 convolutions, each with batch norm, ReLU, pooling [our choice]
    features: int = 128  # of the last layer [our choice]
    components: int = 64  # at most, of the features; 256 of AlexNet's 4,096 [our choice]
    clusters_per_cluster: int = 10  # pseudo-clusters over K; the paper's 10,000 for 1,000 classes
    augment: bool = True  # small random rotations and shifts while training [our choice]
    momentum: float = 0.9  # [code]
    weight_decay: float = 1e-5  # [code]
    n_init: int = 10  # k-means restarts for the labels [our choice]
    # the code has a learning rate of 0.05 and 200 epochs for ImageNet [our choice]
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=50, batch_size=256, lr=0.01))

    def __post_init__(self) -> None:
        check_at_least(1, self, "maps", "features", "components", "clusters_per_cluster", "n_init")
        check_at_least(0, self, "momentum", "weight_decay")
        if not self.maps:
            raise ConfigError("maps must be a list such as [32, 64], got none")


class DeepCluster(CenterModel):
    """z is the last layer's output (n, features), whatever `--dim` says; labels are the nearest center's.

    In a defense, which has no pseudo-labels of its own, a sample's is the pseudo-cluster nearest to it.
    """

    config: Config

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse what is no image, and fewer samples than pseudo-clusters. Raises: ConfigError."""
        needed_image_shape("DeepCluster", config.image_shape, info, smallest=2 ** len(config.maps))
        n, n_pseudo = info.n_samples, config.clusters_per_cluster * info.n_clusters
        if n_pseudo > n:
            raise ConfigError(
                f"DeepCluster has clusters_per_cluster * n_clusters = {n_pseudo} pseudo-clusters of {n} samples",
                hint=f"--set model.clusters_per_cluster={n // info.n_clusters} or less",
            )

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, config.features)
        check_at_least(2, info, "n_clusters")
        self.shape = needed_image_shape("DeepCluster", config.image_shape, info, smallest=2 ** len(config.maps))
        layers: list[nn.Module] = []
        for inputs, outputs in zip((self.shape[0], *config.maps), config.maps, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        side = [size // 2 ** len(config.maps) for size in self.shape[1:]]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(config.maps[-1] * side[0] * side[1], config.features)
        )
        self.body.to(memory_format=torch.channels_last)  # faster on a CPU
        n_pseudo, components = config.clusters_per_cluster * info.n_clusters, min(config.components, config.features)
        self.head = nn.Linear(config.features, n_pseudo)
        self.whitening = Whitening(config.features, components)
        self.add_centers(components)
        self.pseudo_centers = nn.Buffer(torch.zeros(n_pseudo, components))
        self.pseudo_sizes = nn.Buffer(torch.ones(n_pseudo))
        self.head_is_new = nn.Buffer(torch.zeros((), dtype=torch.bool))  # its momentum is another classifier's
        self.is_finished = nn.Buffer(torch.zeros((), dtype=torch.bool))
        self.fit.parts["pseudo"] = nn.Module()
        self.fit.parts["pseudo"].register_buffer("labels", torch.full((info.n_samples,), -1))
        self.restart_head()

    def encode(self, views: Views) -> Embedding:
        """The features (n, features)."""
        z = self.body(views[0].reshape(-1, *self.shape))
        return Embedding(z, (z,))

    def points(self, z: Tensor) -> Tensor:
        """The features as k-means sees them, whitened and of length 1 (n, components)."""
        points: Tensor = self.whitening(z)
        return points

    def knows_labels(self) -> bool:
        """Not before k-means on the trained features: the centers of two epochs are not one another's."""
        return bool(self.is_finished)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """The weighted cross-entropy of the pseudo-labels. With `outputs`, of the batch as it is, nothing is moved."""
        if phase == "pretrain":
            raise ConfigError("DeepCluster has no pretraining")
        if outputs is None:
            images = batch.views[0].reshape(-1, *self.shape)
            z = self.encode((random_affine(images) if self.config.augment else images,)).z
        else:
            z = outputs.embedding.z
        pseudo = self.pseudo_labels(batch.index, z)
        weights = self.sample_weights()[pseudo]
        return {"pseudo_labels": (weights * F.cross_entropy(self.head(z.relu()), pseudo, reduction="none")).mean()}

    def pseudo_labels(self, index: Tensor, z: Tensor) -> Tensor:
        """The pseudo-labels (n,) of rows; a row without one gets that of the pseudo-cluster nearest to its z."""
        stored = self.fit.parts["pseudo"].to(index.device).labels[index]
        with torch.no_grad():
            return torch.where(stored >= 0, stored, nearest(self.points(z), self.pseudo_centers))

    def sample_weights(self) -> Tensor:
        """n / (number of clusters that hold some * size) of each pseudo-cluster: their mean over all samples is 1."""
        sizes = self.pseudo_sizes
        return sizes.sum() / ((sizes > 0).sum() * sizes.clamp_min(1))

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """One SGD for network and classifier."""
        config, nets = self.config, [*self.body.parameters(), *self.head.parameters()]
        return {"model": SGD(nets, self.schedule(phase).lr, config.momentum, weight_decay=config.weight_decay)}

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update; the first of an epoch gives the new classifier a momentum of its own."""
        if self.head_is_new:
            for parameter in self.head.parameters():
                optimizers["model"].state.pop(parameter, None)
            self.head_is_new.fill_(False)
        return super().step(batch, phase, optimizers)

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """The first pseudo-labels, of the untrained features."""
        if phase == "cluster":
            self.relabel(embed().z, seed)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Pseudo-labels of the features as they are now, and a new classifier."""
        self.relabel(embed().z, seed + epoch)

    def relabel(self, z: Tensor, seed: int) -> None:
        """Whitening, pseudo-clusters and a new classifier from the features z of all samples; K centers to watch."""
        self.whitening.fit(z)
        points = self.points(z)
        found = kmeans(points, len(self.pseudo_centers), n_init=1, seed=seed, max_iter=ITERATIONS)
        self.pseudo_centers.copy_(found[0])
        self.fit.parts["pseudo"].to(z.device).labels.copy_(found[1])
        self.pseudo_sizes.copy_(torch.bincount(found[1], minlength=len(self.pseudo_centers)))
        self.restart_head()
        self.head_is_new.fill_(True)
        self.fit_centers(z, seed, n_init=1)

    def restart_head(self) -> None:
        """Weights from N(0, 0.01^2), biases 0."""
        nn.init.normal_(self.head.weight, 0.0, HEAD_STD)
        nn.init.zeros_(self.head.bias)

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Whitening and centers of the trained features, which give the labels."""
        z = embed().z
        self.whitening.fit(z)
        self.fit_centers(z, seed)
        self.is_finished.fill_(True)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """How many pseudo-clusters hold samples, and the share of these in the largest."""
        sizes = self.pseudo_sizes
        return {"pseudo_clusters": float((sizes > 0).sum()), "largest_pseudo_share": float(sizes.max() / sizes.sum())}
