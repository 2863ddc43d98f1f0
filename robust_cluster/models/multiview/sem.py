"""SEM: contrastive learning between views, weighed by how much they agree (Xu et al., NeurIPS 2023).

Per view a perceptron autoencoder with code H^v and a linear projection of it, normalized: Z^v. Pretraining descends
sum_v MSE(x^v, x_hat^v); clustering adds sum_{m,n} W_mn InfoNCE(Z^m, Z^n) over all ordered pairs, also m = n. W_mn is
exp(NMI of the two views' k-means labels) - 1 ("cmi"), or exp(-MMD^2) ("mmd"): taken from H before the clustering and
from Z after each of its rounds but the last. Labels are k-means' on [Z^1 .. Z^V] of all rows, also of more than 10,000,
for which SEM's code takes mini-batch k-means.
AR-DMVC's release lacks SEM's network: network and losses are the original's, the schedule is AR-DMVC's (PatchedMNIST:
30 and 3 x 30 epochs, "mmd", "denoising"). Mode "paper" also forgets Adam's moments every epoch, as there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.metrics.nmi import nmi
from robust_cluster.models.base import Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.contrastive import info_nce
from robust_cluster.nn.ddc import squared_distances
from robust_cluster.nn.layers import perceptron
from robust_cluster.nn.optim import descend

MODES: dict[str, dict[str, Any]] = {"paper": {"reset_adam": True, "max_norm": None}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "hidden": (128,),
        "features": 32,
        "projected": 16,
        "n_init": 5,
        "pretrain": {"epochs": 1, "batch_size": 50},
        "cluster": {"epochs": 3, "batch_size": 50},
    },
    "cpu": {"n_init": 10, "pretrain": {"epochs": 15}, "cluster": {"epochs": 45}},
}
MMD_ROWS = 2000  # the first samples, as in SEM's code


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of SEM; widths and losses as in its code, schedules as in AR-DMVC's."""

    mode: Literal["clean", "paper"] = "clean"
    hidden: tuple[int, ...] = (500, 500, 2000)  # widths of the encoders, mirrored in the decoders
    features: int = 512  # dimensions of H^v
    projected: int = 128  # dimensions of Z^v
    temperature: float = 1.0  # divides the cosines
    weights: Literal["cmi", "mmd"] = "cmi"  # of pairs of views, by mutual information or mean discrepancy
    reconstruct: Literal["plain", "denoising"] = "plain"  # "denoising": of x + N(0, 1)
    rounds: int = 3  # equal parts of the clustering's epochs, between which W is taken anew
    reset_adam: bool = False  # at the start of every epoch of the clustering
    max_norm: float | None = 10.0  # of the gradient while clustering; None in AR-DMVC's code
    n_init: int = 100  # k-means restarts for the labels
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch_size=256, lr=3e-4))
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=300, batch_size=256, lr=3e-4))

    def __post_init__(self) -> None:
        check_at_least(1, self, "hidden", "features", "projected", "rounds", "n_init")
        if self.temperature <= 0 or (self.max_norm is not None and self.max_norm <= 0):
            raise ConfigError(f"temperature and max_norm must be > 0, got {self.temperature} and {self.max_norm}")
        if self.cluster.epochs % self.rounds:
            raise ConfigError(
                f"cluster.epochs must be a multiple of rounds = {self.rounds}, got {self.cluster.epochs}",
                hint=f"--set model.cluster.epochs={self.rounds * 100}",
            )


class SEM(CenterModel):
    """z of the embedding is [Z^1 .. Z^V] (n, V * projected), per_view the H^v (n, features); `latent_dim` sets no size.

    Views are vectors or flattened images, of any sizes. `pair_weights` is W (V, V). The decoders take the H^v, which Z
    does not tell, so there is no `decode`.
    """

    pretrained_by: ClassVar[str | None] = "sem"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("hidden", "features", "reconstruct", "pretrain")
    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        n_views = len(info.shapes)
        if n_views < 2:
            raise ConfigError(f"a multi-view method needs at least 2 views, {info.name} has 1", hint="rc ls data")
        widths = [[math.prod(shape), *config.hidden, config.features] for shape in info.shapes]
        self.encoders = nn.ModuleList(perceptron(sizes) for sizes in widths)
        self.decoders = nn.ModuleList(perceptron(sizes[::-1]) for sizes in widths)
        self.projections = nn.ModuleList(nn.Linear(config.features, config.projected) for _ in widths)
        self.pair_weights = nn.Buffer(torch.ones(n_views, n_views))
        self.add_centers(n_views * config.projected)
        self.is_new_epoch = nn.Buffer(torch.zeros((), dtype=torch.bool))

    def pretrained(self) -> nn.Module:
        """Encoders and decoders; the projections start untrained."""
        return nn.ModuleDict({"encoders": self.encoders, "decoders": self.decoders})

    def represent(self, views: Views) -> Views:
        """H^v (n, features) of every view."""
        return tuple(encoder(view.flatten(1)) for encoder, view in zip(self.encoders, views, strict=True))

    def project(self, per_view: Views) -> Views:
        """Z^v (n, projected) of every H^v, rows of norm 1."""
        return tuple(F.normalize(layer(h)) for layer, h in zip(self.projections, per_view, strict=True))

    def encode(self, views: Views) -> Embedding:
        """[Z^1 .. Z^V] and the H^v."""
        per_view = self.represent(views)
        return Embedding(torch.cat(self.project(per_view), dim=1), per_view)

    def forward(self, views: Views) -> Outputs:
        """One pass; `decoded` are the views reconstructed from the H^v."""
        embedding = self.encode(views)
        return Outputs(embedding, embedding.z, self.assign(embedding.z), self.reconstruct(embedding.per_view))

    def reconstruct(self, per_view: Views) -> Views:
        """The views (n, *shape_v) that the decoders make of the H^v, not bounded."""
        pairs = zip(self.decoders, per_view, self.info.shapes, strict=True)
        return tuple(decoder(h).unflatten(1, shape) for decoder, h, shape in pairs)

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """reconstruction, and while clustering contrastive."""
        if phase == "pretrain" or self.config.reconstruct == "denoising":
            reconstruction = self.reconstruction(batch.views)
        else:
            outputs = outputs or self(batch.views)
            reconstruction = summed_error(outputs.decoded, batch.views)
        if phase == "pretrain":
            return {"reconstruction": reconstruction}
        z = self.encode(batch.views).z if outputs is None else outputs.embedding.z
        return {"contrastive": self.contrast(z), "reconstruction": reconstruction}

    def reconstruction(self, views: Views) -> Tensor:
        """sum_v MSE(x^v, x_hat^v), a mean over batch and values, of the views or of noisy ones."""
        is_noisy = self.config.reconstruct == "denoising"
        given = tuple(view + torch.randn_like(view) for view in views) if is_noisy else views
        return summed_error(self.reconstruct(self.represent(given)), views)

    def contrast(self, z: Tensor) -> Tensor:
        """sum_{m,n} W_mn InfoNCE(Z^m, Z^n) over all ordered pairs, both orders of a pair computed as one."""
        views = z.split(self.config.projected, dim=1)
        total = z.new_zeros(())
        for m, left in enumerate(views):
            for n, right in enumerate(views[m:], start=m):
                weight = self.pair_weights[m, n] + (self.pair_weights[n, m] if n > m else 0.0)
                total = total + weight * info_nce(left, right, self.config.temperature)
        return total

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """W from H, and centers for the labels that are logged before the last ones are fitted.

        Raises: ConfigError for batches of fewer than 2 samples, which have no negatives.
        """
        if phase == "cluster":
            if self.config.cluster.batch(self.info.n_samples) < 2:
                hint = "--set model.cluster.batch_size=256, or more data: a batch is at most a fifth of them"
                raise ConfigError("a contrastive loss needs batches of at least 2 samples, got 1", hint=hint)
            embedding = embed()
            self.weigh(embedding.per_view, seed)
            self.fit_centers(embedding.z, seed, n_init=1)
            self.is_new_epoch.fill_(True)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """W from Z after each round but the last; `epoch` counts the phase's epochs that are done, from 1."""
        if phase != "cluster":
            return
        self.is_new_epoch.fill_(True)
        length = self.config.cluster.epochs // self.config.rounds
        if epoch % length == 0 and epoch < self.config.cluster.epochs:
            z = embed().z
            self.weigh(z.split(self.config.projected, dim=1), seed)
            self.fit_centers(z, seed, n_init=1)

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update; with `reset_adam` from fresh moments where an epoch begins."""
        is_clustering = phase == "cluster"
        if is_clustering and self.config.reset_adam and self.is_new_epoch:
            optimizers["model"].state.clear()
        max_norm = self.config.max_norm if is_clustering else None
        values = descend(self.losses(batch, phase), optimizers["model"], max_norm=max_norm)
        self.is_new_epoch.fill_(False)
        return values

    def weigh(self, per_view: Sequence[Tensor], seed: int) -> None:
        """Set W from one representation (n, d) per view of the whole data set."""
        n_clusters = self.info.n_clusters
        if self.config.weights == "cmi":
            labels = [kmeans(view, n_clusters, n_init=10, seed=seed)[1].cpu().numpy() for view in per_view]
            rows = [[math.exp(nmi(left, right)) - 1 for right in labels] for left in labels]
        else:
            first = [view[:MMD_ROWS] for view in per_view]
            rows = [[math.exp(-float(squared_mmd(left, right))) for right in first] for left in first]
        self.pair_weights.copy_(torch.tensor(rows))

    def health(self, embedding: Embedding) -> dict[str, float]:
        """The mean weight of a pair of different views."""
        n_views = len(self.pair_weights)
        between = self.pair_weights.sum() - self.pair_weights.diagonal().sum()
        return {"pair_weight": float(between) / (n_views * (n_views - 1))}


def summed_error(decoded: Views, views: Views) -> Tensor:
    """sum_v of the mean squared errors (over batch and values) between two tuples of views."""
    return torch.stack([F.mse_loss(found, view) for found, view in zip(decoded, views, strict=True)]).sum()


def squared_mmd(left: Tensor, right: Tensor) -> Tensor:
    """Squared maximum mean discrepancy, biased, >= 0 up to rounding; 0 for equal samples.

    Kernel: sum_{i=0..3} exp(-||a - b||^2 / (m 4^(i-2))), m the mean of ||a - b||^2 over all pairs of different rows of
    both. Shapes: left (n, d), right (n, d). Source: SEM's code.
    """
    rows = torch.cat([left, right])
    squares = squared_distances(rows, rows)
    mean = (squares.sum() / (len(rows) * (len(rows) - 1))).clamp_min(1e-12)
    kernel = torch.zeros_like(squares)
    for i in range(4):
        kernel = kernel + torch.exp(-squares / (mean * 4.0 ** (i - 2)))
    n = len(left)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - kernel[:n, n:].mean() - kernel[n:, :n].mean()
