"""IMSAT: a classifier that knows much about its input and stays put near it (Hu et al., ICML 2017).

L = E KL(p(x) || p(x + r)) + weight * [H(Y|X) - mu H(Y)], p(x) = softmax(network(x)), H(Y|X) the mean entropy of p and
H(Y) the entropy of their mean, both over a batch; p(x) in the first term is a constant. r has the length
radius_share * (distance of x to its tenth neighbor) and a direction that is random ("rpt") or the one of the steepest
KL, found by one power iteration from a random one ("vat"). The pass of x + r leaves batch norm's statistics alone.

Settings are those of the authors' code for MNIST, which has "vat"; DCAN (2025) compares with "rpt", for which we take
the same radius. Data of a known range are brought to [-1, 1] (there x / 128 - 1), others are taken as they are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least, check_positive
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.images import ranged
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.graph import neighbor_distances
from robust_cluster.nn.information import entropies
from robust_cluster.nn.layers import batch_norm_mode, flat
from robust_cluster.nn.objectives import divergence

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {"hidden": (256, 256), "cluster": {"epochs": 20, "batch_size": 128, "lr": 1e-2}},
    "short": {"hidden": (500, 500), "cluster": {"epochs": 10}},  # 400 steps
    "cpu": {"hidden": (500, 500)},  # for 10,000 samples, 2,000 steps: 4 minutes on one core, 6 for "vat"
}
FIRST_SCALE, LAST_SCALE = 0.1, 1e-4  # of the initial weights over 1 / sqrt(inputs) [code]


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of IMSAT, as in the authors' code for MNIST."""

    perturbation: Literal["rpt", "vat"] = "rpt"  # DCAN's Table 2; the code has "vat"
    hidden: tuple[int, ...] = (1200, 1200)  # widths, each with batch norm and ReLU [paper]
    weight: float = 0.1  # lambda, of the information beside the perturbed term [paper]
    marginal_weight: float = 4.0  # mu, of H(Y) beside H(Y|X) [paper]
    neighbors: int = 10  # whose distance sets the radius [code]
    radius_share: float = 0.25  # radius over that distance [code]
    probe: float = 10.0  # xi, length of the step at which "vat" takes its gradient [code]
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=50, batch_size=250, lr=2e-3))  # [code]

    def __post_init__(self) -> None:
        check_at_least(1, self, "hidden", "neighbors")
        check_at_least(0, self, "weight", "marginal_weight", "radius_share")
        check_positive(self, "probe")
        if not self.hidden:
            raise ConfigError("hidden must be a list of widths such as [1200, 1200], got none")


class IMSAT(ClusterModel):
    """z is the last hidden layer (n, hidden), whatever `--dim` says; labels are the argmax of p."""

    config: Config

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse more neighbors than there are. Raises: ConfigError."""
        if config.neighbors >= info.n_samples:
            allowed = f"[1, n_samples - 1] = [1, {info.n_samples - 1}]"
            raise ConfigError(f"neighbors must be in {allowed}, got {config.neighbors}", hint="--set model.neighbors=1")

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, config.hidden[-1])
        check_at_least(2, info, "n_clusters")
        layers: list[nn.Module] = []
        width = math.prod(single_view(info))
        for size in config.hidden:
            layers += [scaled_linear(width, size, FIRST_SCALE), nn.BatchNorm1d(size), nn.ReLU()]
            width = size
        self.body = nn.Sequential(*layers)
        self.head = scaled_linear(width, info.n_clusters, LAST_SCALE)
        self.mean_radius = nn.Buffer(torch.ones(()))  # of samples that have none: those of a defense
        self.fit.parts["radii"] = nn.Module()
        self.fit.parts["radii"].register_buffer("radius", torch.zeros(info.n_samples))
        self.is_measuring = False

    def rows(self, views: Views) -> Tensor:
        """The samples (n, D), in [-1, 1] where their range is known."""
        return ranged(flat(views), self.info, -1, 1)

    def encode(self, views: Views) -> Embedding:
        """The last hidden layer (n, hidden)."""
        x = self.rows(views)
        z = x if self.is_measuring else self.body(x)
        return Embedding(z, (z,))

    def assign(self, z: Tensor) -> Tensor:
        """p (n, K)."""
        return self.log_assign(z).exp()

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of p, none of them infinite."""
        return torch.log_softmax(self.head(z), dim=1)

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Take every sample's radius: the embedding of the whole data set is the samples themselves for a moment."""
        if phase == "cluster":
            self.is_measuring = True
            x = embed().z
            self.is_measuring = False
            radius = self.config.radius_share * neighbor_distances(x, self.config.neighbors)
            self.fit.parts["radii"].radius.copy_(radius)
            self.mean_radius.copy_(radius.mean())

    def radii(self, index: Tensor) -> Tensor:
        """The radius (n, 1) of the given rows; a row without one gets the mean."""
        own = self.fit.parts["radii"].to(index.device).radius[index]
        return torch.where(own > 0, own, self.mean_radius).unsqueeze(1)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """perturbed, conditional_entropy and marginal_entropy, weighted. Raises: ConfigError for "pretrain"."""
        if phase == "pretrain":
            raise ConfigError(f"{type(self).__name__} has no pretraining")
        embedding = self.encode(batch.views) if outputs is None else outputs.embedding
        log_p = self.log_assign(embedding.z)
        conditional, marginal = entropies(log_p)
        weight = self.config.weight
        return {
            "perturbed": self.perturbed(self.rows(batch.views), log_p.detach(), self.radii(batch.index)),
            "conditional_entropy": weight * conditional,
            "marginal_entropy": -weight * self.config.marginal_weight * marginal,
        }

    def perturbed(self, x: Tensor, log_p: Tensor, radii: Tensor) -> Tensor:
        """E KL(p || p(x + r)), a scalar, for rows x (n, D), constant log p (n, K) and lengths (n, 1) of r."""
        direction = unit(torch.randn_like(x))
        if self.config.perturbation == "vat":
            direction = self.steepest(x, log_p, direction)
        return divergence(log_p, self.beside(x + radii * direction)).mean()

    def beside(self, x: Tensor) -> Tensor:
        """log p (n, K) of rows (n, D), a pass that changes no statistic of the batch norms."""
        with batch_norm_mode(self.body, "batch" if self.training else "eval"):
            return self.log_assign(self.body(x))

    @torch.enable_grad()
    def steepest(self, x: Tensor, log_p: Tensor, direction: Tensor) -> Tensor:
        """The unit gradient (n, D) of KL(p || p(x + probe * d)) at d = direction."""
        d = direction.clone().requires_grad_()
        kl = divergence(log_p, self.beside(x + self.config.probe * d)).sum()
        return unit(torch.autograd.grad(kl, d)[0])


def unit(rows: Tensor) -> Tensor:
    """Each row of (n, D) with length 1; a row of zeros stays."""
    return F.normalize(rows, dim=1, eps=torch.finfo(rows.dtype).tiny)


def scaled_linear(inputs: int, outputs: int, scale: float) -> nn.Linear:
    """A linear layer with weights from N(0, scale^2 / inputs) and zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0.0, scale * inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer
