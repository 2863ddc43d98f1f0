"""Multi-VAE: one discrete code that all views share and a continuous one per view (Xu et al., ICCV 2021).

L = sum_v P_v BCE(x_hat^v, x^v) + 30 sum_v |C_y(t) - KL(N(mu^v, s^v) || N(0, 1))| / P_v
    + 30 V |C_c(t) - (log K + E sum_a alpha_a log alpha_a)| / sum_v P_v,
P_v the pixels of view v, BCE a mean over batch and pixels, C_y and C_c capacities that grow with the step t. That is
`kl_scale` "framework" of mode "paper": DeepMVC (Trosten et al., CVPR 2023), hence AR-DMVC's code, divides only the last
two terms by P_v. The original divides the first too, so that the codes weigh 784 times as much: "original", mode
"clean". Labels are k-means' on [c, mu^1 .. mu^V], c the one-hot code; mu is not rescaled, as in DeepMVC.
AR-DMVC's code never leaves training mode: its attack meets and scores drawn codes, where in both modes none is drawn.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.losses import standard_normal_kl
from robust_cluster.nn.multiview import CnnSmallDecoder, CnnSmallEncoder, cnn_small_features
from robust_cluster.nn.optim import descend

MODES: dict[str, dict[str, Any]] = {"paper": {"kl_scale": "framework", "max_norm": None}}
# The published training, 20 epochs of 546 batches, ends at 10,920 of the capacities' 25,000 steps: so do these, at
# 5 of 11 steps (400 images in two halves) and at 585 of 1,339 (5,000).
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"hidden": 32, "capacity_steps": 11, "cluster": {"epochs": 1, "batch_size": 50}},
    "cpu": {"capacity_steps": 1339, "cluster": {"epochs": 15}},
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of Multi-VAE, as in DeepMVC.

    AR-DMVC's code trains RegDB's 206 persons with hidden 512, continuous 16 and batches of 128, 50 persons with 32.
    """

    mode: Literal["clean", "paper"] = "clean"
    hidden: int = 256  # units before the codes and after them
    continuous: int = 10  # dimensions of each view's code mu^v
    temperature: float = 0.67  # of the relaxed draws of the discrete code
    code_weight: float = 30.0  # of both capacity terms
    capacity: float = 5.0  # nats that C_y grows to; C_c grows to log K
    capacity_steps: int = 25_000  # until then; a shorter training wants as many fewer
    kl_scale: Literal["original", "framework"] = "original"  # terms over a view's pixels: all, or all but the first
    max_norm: float | None = 10.0  # of the gradient; None in AR-DMVC's code
    n_init: int = 10  # k-means restarts
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=20, batch_size=64, lr=5e-4))

    def __post_init__(self) -> None:
        check_at_least(1, self, "hidden", "continuous", "capacity_steps", "n_init")
        check_at_least(0, self, "code_weight", "capacity")
        if self.temperature <= 0 or (self.max_norm is not None and self.max_norm <= 0):
            raise ConfigError(f"temperature and max_norm must be > 0, got {self.temperature} and {self.max_norm}")


class MultiVAE(CenterModel):
    """z of the embedding is [alpha, mu^1 .. mu^V] (n, K + V * continuous), per_view the encoders' features (n, d_v).

    alpha (n, K) are the probabilities of the discrete code. `latent_dim` sets no size. One view will do, views may be
    of different sizes. `code_steps` counts the training steps that the capacities grow with.
    """

    straight_through: ClassVar[bool] = True  # see `points`
    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        n_clusters, hidden, n_views = info.n_clusters, config.hidden, len(info.shapes)
        super().__init__(config, info, n_clusters + n_views * config.continuous)
        sizes = [cnn_small_features(shape) for shape in info.shapes]
        self.encoders = nn.ModuleList(CnnSmallEncoder(shape[0]) for shape in info.shapes)
        self.bodies = nn.ModuleList(nn.Sequential(nn.Linear(size, hidden), nn.ReLU()) for size in sizes)
        self.means = nn.ModuleList(nn.Linear(hidden, config.continuous) for _ in sizes)
        self.log_vars = nn.ModuleList(nn.Linear(hidden, config.continuous) for _ in sizes)
        self.code = nn.Linear(hidden * n_views, n_clusters)
        self.decoders = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(config.continuous + n_clusters, hidden), nn.ReLU()),
                *(nn.Linear(hidden, size), nn.ReLU()),
                CnnSmallDecoder(shape),
            )
            for size, shape in zip(sizes, info.shapes, strict=True)
        )
        self.code_steps = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.add_centers(self.latent_dim)
        self.is_fitted = nn.Buffer(torch.zeros((), dtype=torch.bool))

    def represent(self, views: Views) -> tuple[Views, Views, Tensor]:
        """Features (n, d_v) and g^v (n, hidden) of every view, and log alpha (n, K)."""
        features = tuple(encoder(view) for encoder, view in zip(self.encoders, views, strict=True))
        bodies = tuple(body(feature) for body, feature in zip(self.bodies, features, strict=True))
        return features, bodies, self.code(torch.cat(bodies, dim=1)).log_softmax(dim=1)

    def encode(self, views: Views) -> Embedding:
        """[alpha, mu^1 .. mu^V] and the encoders' features; nothing is drawn."""
        features, bodies, log_alpha = self.represent(views)
        means = [mean(body) for mean, body in zip(self.means, bodies, strict=True)]
        return Embedding(torch.cat([log_alpha.exp(), *means], dim=1), features)

    def points(self, z: Tensor) -> Tensor:
        """z with alpha rounded to the one-hot c of its largest entry; the gradient is that of alpha."""
        alpha, means = z.split([self.info.n_clusters, z.shape[1] - self.info.n_clusters], dim=1)
        code = F.one_hot(alpha.argmax(dim=1), self.info.n_clusters).to(z.dtype)
        return torch.cat([code + (alpha - alpha.detach()), means], dim=1)

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) whose argmax is the center nearest to [c, mu]; alpha until k-means is fitted."""
        if not self.is_fitted:
            alpha = z[:, : self.info.n_clusters].clamp_min(1e-12)
            return alpha / alpha.sum(dim=1, keepdim=True)
        return super().assign(z)

    def knows_labels(self) -> bool:
        """Not before k-means: until then they are the discrete code's."""
        return bool(self.is_fitted)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite once k-means is fitted."""
        return super().log_assign(z) if self.is_fitted else ClusterModel.log_assign(self, z)

    def consensus(self, embedding: Embedding) -> Tensor:
        """alpha (n, K), the part of z that the views share."""
        return embedding.z[:, : self.info.n_clusters]

    def decode(self, z: Tensor) -> Views:
        """The views (n, *shape_v) of c and mu^v."""
        code, *means = self.points(z).split([self.info.n_clusters, *[self.config.continuous] * len(self.means)], dim=1)
        return self.decoded(tuple(means), code)

    def decoded(self, continuous: Views, code: Tensor) -> Views:
        """The views (n, *shape_v) of a code y^v (n, continuous) each and the shared code (n, K)."""
        pairs = zip(self.decoders, continuous, strict=True)
        return tuple(decoder(torch.cat([y, code], dim=1)) for decoder, y in pairs)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """The three terms on drawn codes: y = mu + s^(1/2) eps, c a relaxed draw; `outputs` has none and is not used.

        Raises: ConfigError for the phase "pretrain".
        """
        if phase == "pretrain":
            raise ConfigError("MultiVAE has no pretraining")
        _, bodies, log_alpha = self.represent(batch.views)
        means = [mean(body) for mean, body in zip(self.means, bodies, strict=True)]
        log_vars = [head(body) for head, body in zip(self.log_vars, bodies, strict=True)]
        drawn = tuple(Embedding(mean, (), s).draw() for mean, s in zip(means, log_vars, strict=True))
        decoded = self.decoded(drawn, relaxed_draw(log_alpha, self.config.temperature))
        pixels = [math.prod(shape) for shape in self.info.shapes]
        errors = [F.binary_cross_entropy(image, view) for image, view in zip(decoded, batch.views, strict=True)]
        scales = pixels if self.config.kl_scale == "framework" else [1] * len(pixels)
        kls = [standard_normal_kl(mean, s) for mean, s in zip(means, log_vars, strict=True)]
        for_continuous, for_code = self.capacities()
        gaps = [(for_continuous - kl).abs() / size for kl, size in zip(kls, pixels, strict=True)]
        code_gap = (for_code - code_divergence(log_alpha)).abs() * len(pixels) / sum(pixels)
        weight = self.config.code_weight
        return {
            "reconstruction": torch.stack([s * error for s, error in zip(scales, errors, strict=True)]).sum(),
            "continuous": weight * torch.stack(gaps).sum(),
            "discrete": weight * code_gap,
        }

    def capacities(self) -> tuple[Tensor, Tensor]:
        """C_y and C_c in nats, each from 0 to its most over the first `capacity_steps` steps."""
        share = (self.code_steps / self.config.capacity_steps).clamp_max(1.0)
        return share * self.config.capacity, share * math.log(self.info.n_clusters)

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update, after which the capacities are a step further."""
        values = descend(self.losses(batch, phase), optimizers["model"], max_norm=self.config.max_norm)
        self.after_step(phase)
        return values

    def after_step(self, phase: Phase) -> None:
        """The capacities grow by a step."""
        self.code_steps.add_(1)

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit k-means to [c, mu]; DeepMVC's code passes once over more than 15,000 rows in portions, here all count.

        The centers are those of the data it was trained on: an attack on another half is scored with these.
        """
        self.fit_centers(embed().z, seed)
        self.is_fitted.fill_(True)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """How sure the discrete code is, in [1/K, 1], and how far the capacities have grown, in [0, 1]."""
        alpha = embedding.z[:, : self.info.n_clusters].detach()
        share = float((self.code_steps / self.config.capacity_steps).clamp_max(1.0))
        return {"code_confidence": float(alpha.max(dim=1).values.mean()), "capacity_share": share}


def relaxed_draw(log_alpha: Tensor, temperature: float) -> Tensor:
    """A draw near a corner of the simplex, softmax((log alpha + g) / temperature), g = -log(-log u), u uniform in 0..1.

    Shape: (n, K) -> (n, K), rows sum to 1. Source: Multi-VAE (Gumbel softmax).
    """
    u = torch.rand_like(log_alpha).clamp_min(1e-12)
    return ((log_alpha - (-u.log()).log()) / temperature).softmax(dim=1)


def code_divergence(log_alpha: Tensor) -> Tensor:
    """KL of the discrete code to the uniform one, log K + E sum_a alpha_a log alpha_a, in [0, log K] nats.

    Shape: log_alpha (n, K), normalized.
    """
    return math.log(log_alpha.shape[1]) + (log_alpha.exp() * log_alpha).sum(dim=1).mean()
