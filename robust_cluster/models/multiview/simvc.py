"""SiMVC: one encoder per view, fusion by learned weights, the DDC clustering loss (Trosten et al., CVPR 2021).

L = L_DDC(h, A), h = head.hidden(sum_v softmax(w)_v z^v), z^v the features of view v, A the soft labels. Networks and
loss as in DeepMVC (Trosten et al., CVPR 2023), on which AR-DMVC (ICML 2024) is built. Mode "clean" cuts the gradient
to a global norm of 10, as DeepMVC does; mode "paper" does not, as AR-DMVC's released code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.ddc import ddc_terms, gaussian_kernel
from robust_cluster.nn.multiview import ClusterHead, CnnSmallEncoder, WeightedMean, cnn_small_features
from robust_cluster.nn.optim import descend

MODES: dict[str, dict[str, Any]] = {"paper": {"max_norm": None}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"cluster": {"epochs": 1, "batch_size": 50}},
    "cpu": {"cluster": {"epochs": 15}},
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of SiMVC; schedule as in AR-DMVC's code, the rest as in DeepMVC."""

    mode: Literal["clean", "paper"] = "clean"
    hidden: int = 100  # units of h
    relative_sigma: float = 0.15  # sigma^2 of the kernel in median squared distances of h
    max_norm: float | None = 10.0  # of the gradient while clustering; None in AR-DMVC's code
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=20, batch_size=100))

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.relative_sigma <= 0 or (self.max_norm is not None and self.max_norm <= 0):
            raise ConfigError(f"hidden must be >= 1 and relative_sigma and max_norm > 0, got {self}")


class SiMVC(ClusterModel):
    """The base of the DDC methods: z of the embedding is h (n, `hidden`), per_view the z^v (n, d).

    `latent_dim` sets no size: z^v has the encoder's features (1024 for 28 x 28 pixels) and h `hidden` units.
    """

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.config: Config = config
        features = image_features(info)
        self.encoders = nn.ModuleList(CnnSmallEncoder(shape[0]) for shape in info.shapes)
        self.fusion = WeightedMean(len(info.shapes))
        self.head = ClusterHead(features, info.n_clusters, config.hidden)

    def represent(self, views: Views) -> Views:
        """z^v (n, d) of every view."""
        return tuple(encoder(view) for encoder, view in zip(self.encoders, views, strict=True))

    def reconstruct(self, per_view: Views) -> Views:
        """Views decoded from the z^v; none for methods without decoders."""
        return ()

    def encode(self, views: Views) -> Embedding:
        """h (n, hidden) and the z^v (n, d)."""
        per_view = self.represent(views)
        return Embedding(self.head.hidden(self.fusion(per_view)), per_view)

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) of h."""
        return self.head.assign(z)

    def forward(self, views: Views) -> Outputs:
        """One pass; `decoded` are the views reconstructed from the z^v, none without decoders."""
        embedding = self.encode(views)
        decoded = self.reconstruct(embedding.per_view)
        return Outputs(embedding, embedding.z, self.assign(embedding.z), decoded)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """The method's weighted terms. Raises: ConfigError when a method without pretraining is asked for its terms."""
        if phase == "pretrain":
            return self.pretrain_losses(batch)
        return self.cluster_losses(batch, outputs or self(batch.views))

    def pretrain_losses(self, batch: Batch) -> Losses:
        """Terms of the pretraining, for methods that have one."""
        raise ConfigError(f"{type(self).__name__} has no pretraining")

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """The three terms of L_DDC."""
        h = outputs.embedding.z
        return ddc_terms(h, outputs.soft_labels, gaussian_kernel(h, self.config.relative_sigma))

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse batches of fewer samples than clusters. Raises: ConfigError."""
        schedule, n, n_clusters = config.cluster, info.n_samples, info.n_clusters
        size = schedule.batch(n)
        if size < n_clusters:
            reason = f"{size}, the smaller of batch_size = {schedule.batch_size} and a fifth of {n} samples"
            raise ConfigError(
                f"the clustering loss needs batches of at least n_clusters = {n_clusters} samples, got {reason}",
                hint=f"--set model.cluster.batch_size={n_clusters}, more data or fewer clusters",
            )

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Refuse data that were not checked when the run was planned. Raises: ConfigError."""
        if phase == "cluster":
            self.check(self.config, self.info)

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update; the gradient is cut while clustering only, as in DeepMVC."""
        max_norm = self.config.max_norm if phase == "cluster" else None
        return descend(self.losses(batch, phase), optimizers["model"], max_norm=max_norm)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """The weight of each view in the fusion; a view near 0 is no longer looked at."""
        return {f"view_weight_{v}": weight for v, weight in enumerate(self.fusion.weights().tolist(), start=1)}


def image_features(info: DataInfo) -> int:
    """Features that the small convolutional encoder makes of every view, one number for all.

    Raises: ConfigError for fewer than two views or views of different size, ShapeError for what is no such image.
    """
    if len(info.shapes) < 2:
        raise ConfigError(f"a multi-view method needs at least 2 views, {info.name} has 1", hint="rc ls data")
    features = [cnn_small_features(shape) for shape in info.shapes]
    if len(set(features)) > 1:
        shapes = ", ".join(str(shape) for shape in info.shapes)
        raise ConfigError(f"views that are fused must be images of one size, {info.name} has {shapes}")
    return features[0]
