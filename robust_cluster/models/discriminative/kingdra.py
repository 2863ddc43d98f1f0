"""KINGDRA: an ensemble of ladder networks that learns what most of it agrees on (Gupta et al., ICLR 2020; -LADDER-1M).

Each of M ladder networks descends its denoising costs + information_weight * [H(Y|X) - 4 H(Y)] of the clean and of the
noisy labels + KL(clean || noisy). After every round of epochs the samples are linked where models agree and K buckets
are taken from the links (`nn/agreement.py`); then a cross-entropy of the buckets joins the loss, in which each bucket
has the same say. Labels are the argmax of the models' mean, after a matching of each model's clusters with the buckets.

As in the authors' code but for this: all models see the same batches, and their classes are matched with the buckets
(Hungarian method, no true label) rather than learned anew. Data of a known range are brought to [0, 1].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least, check_share
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import ClusterModel, Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.images import ranged
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.agreement import buckets
from robust_cluster.nn.information import entropies
from robust_cluster.nn.ladder import Ladder
from robust_cluster.nn.layers import flat
from robust_cluster.nn.objectives import divergence

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "models": 3,
        "hidden": (64, 64),
        "high": 2,
        "confidence": 0.5,
        "cluster": {"epochs": 20, "batch_size": 64, "lr": 5e-3},
    },
    # for 10,000 samples 7,800 steps of 3 models: 5 minutes on one core
    "cpu": {"models": 3, "hidden": (250, 250), "high": 2, "cluster": {"epochs": 50}},
}
MARGINAL = 4.0  # of H(Y) beside H(Y|X) [code]


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of KINGDRA, as in the authors' code for MNIST."""

    models: int = 10  # M [paper]
    hidden: tuple[int, ...] = (1200, 1200)  # widths of each [code]
    noise: float = 0.3  # standard deviation; 3 for Reuters [code]
    denoising_weights: tuple[float, ...] = (1000.0, 10.0, 0.1, 0.1)  # of the input and every layer [code]
    information_weight: float = 0.1  # 0.2 for Reuters, 1 for CIFAR10's features [code]
    round_epochs: int = 5  # between two takings of the buckets [code]
    low: int = 1  # more models than that must agree for a weak link; 2 for Reuters [code]
    high: int = 9  # more models than that must agree for a strong link; 8 for Reuters [code]
    confidence: float = 0.9  # largest soft label of every model, for strong links [code]
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=250, batch_size=64, lr=2e-3))  # [code]

    def __post_init__(self) -> None:
        check_at_least(1, self, "models", "hidden", "round_epochs")
        check_at_least(0, self, "noise", "denoising_weights", "information_weight", "low")
        check_share(self, "confidence")
        if not self.low <= self.high < self.models:
            allowed = f"[low, models - 1] = [{self.low}, {self.models - 1}]"
            raise ConfigError(f"high must be in {allowed}, got {self.high}", hint="--set model.high=...")
        if len(self.denoising_weights) != len(self.hidden) + 2:
            raise ConfigError(
                f"denoising_weights needs one for the input, each hidden layer and the labels, {len(self.hidden) + 2}, "
                f"got {len(self.denoising_weights)}"
            )


class KINGDRA(ClusterModel):
    """z is the models' logits side by side (n, M K), whatever `--dim` says. In a defense there are no buckets."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, config.models * info.n_clusters)
        check_at_least(2, info, "n_clusters")
        widths = [math.prod(single_view(info)), *config.hidden, info.n_clusters]
        self.ladders = nn.ModuleList(Ladder(widths, config.noise) for _ in range(config.models))
        classes = torch.arange(info.n_clusters)
        self.matching = nn.Buffer(classes.repeat(config.models, 1))  # each model's class of every bucket, (M, K)
        self.sizes = nn.Buffer(torch.zeros(info.n_clusters))  # of the buckets
        self.fit.parts["buckets"] = nn.Module()
        self.fit.parts["buckets"].register_buffer("labels", torch.full((info.n_samples,), -1))

    @property
    def members(self) -> list[Ladder]:
        """The networks of the ensemble."""
        return cast(list[Ladder], list(self.ladders))

    def rows(self, views: Views) -> Tensor:
        """The samples (n, D), in [0, 1] where their range is known."""
        return ranged(flat(views), self.info, 0, 1)

    def encode(self, views: Views) -> Embedding:
        """The logits of every model's clean pass (n, M K)."""
        x = self.rows(views)
        z = torch.cat([ladder.climb(x).logits for ladder in self.members], dim=1)
        return Embedding(z, (z,))

    def log_soft(self, z: Tensor) -> Tensor:
        """Logarithms (n, M, K) of every model's soft labels, in the order of its own classes."""
        return torch.log_softmax(z.unflatten(1, (self.config.models, self.info.n_clusters)), dim=2)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of the mean of the models' soft labels, buckets' order; none of them infinite."""
        matched = self.log_soft(z).gather(2, self.matching.expand(len(z), -1, -1))
        return matched.logsumexp(dim=1) - math.log(self.config.models)

    def assign(self, z: Tensor) -> Tensor:
        """The mean (n, K) of the models' soft labels."""
        return self.log_assign(z).exp()

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """denoising, information, noise and, once there are buckets, buckets: sums over the models."""
        if phase == "pretrain":
            raise ConfigError("KINGDRA has no pretraining")
        x, found = self.rows(batch.views), list[Losses]()
        own = self.fit.parts["buckets"].to(x.device).labels[batch.index]
        for ladder, classes in zip(self.members, self.matching, strict=True):
            clean, noisy = ladder.climb(x), ladder.climb(x, noisy=True)
            logs = [one.logits.log_softmax(dim=1) for one in (clean, noisy)]
            found.append(
                {
                    "denoising": ladder.denoising(clean, noisy, self.config.denoising_weights),
                    "information": self.config.information_weight * sum(map(information, logs), x.new_zeros(())),
                    "noise": divergence(logs[0], logs[1]).mean(),
                    "buckets": self.bucket_loss(logs[0], own, classes),
                }
            )
        return {name: torch.stack([terms[name] for terms in found]).sum() for name in found[0]}

    def bucket_loss(self, log_p: Tensor, own: Tensor, classes: Tensor) -> Tensor:
        """The cross-entropy of a model's classes (K,) for the rows' buckets (n,), as though these were drawn evenly."""
        is_in = own >= 0
        weights = is_in * self.info.n_samples / ((self.sizes > 0).sum().clamp_min(1) * self.sizes[own].clamp_min(1))
        costs = -log_p.gather(1, classes[own.clamp_min(0)][:, None])[:, 0]
        return (weights * costs).mean()

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """At the end of a round, take the buckets anew."""
        if epoch % self.config.round_epochs == 0:
            self.relabel(embed().z)

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Match the classes with the buckets of the trained models."""
        self.relabel(embed().z)

    @torch.no_grad()
    def relabel(self, z: Tensor) -> None:
        """Buckets from the logits z (n, M K) of all samples, and every model's classes matched with them.

        Classes that no bucket has are matched with the first model's, so that their numbers mean the same.
        """
        config, soft = self.config, self.log_soft(z).exp()
        largest, labels = soft.max(dim=2)
        is_sure = (largest > config.confidence).all(dim=1)
        own = buckets(labels, is_sure, self.info.n_clusters, low=config.low, high=config.high)
        self.fit.parts["buckets"].to(z.device).labels.copy_(own)
        self.sizes.copy_(torch.bincount(own[own >= 0], minlength=self.info.n_clusters))
        self.matching.copy_(matched(labels, own, self.info.n_clusters))

    def health(self, embedding: Embedding) -> dict[str, float]:
        """How many buckets there are, and the share of all samples in them."""
        return {"buckets": float((self.sizes > 0).sum()), "bucketed": float(self.sizes.sum() / self.info.n_samples)}


def information(log_p: Tensor) -> Tensor:
    """H(Y|X) - 4 H(Y), a scalar, of log-probabilities (n, K)."""
    conditional, marginal = entropies(log_p)
    return conditional - MARGINAL * marginal


def matched(labels: Tensor, own: Tensor, n_clusters: int) -> Tensor:
    """Each model's class of every bucket (M, K): the one-to-one matching that most rows agree with.

    Rows count where they have a bucket; a thousandth as much, and by what the first model's class is matched with, the
    others do. Shapes: labels (n, M), own (n,), -1 for rows without a bucket.
    """
    from scipy.optimize import linear_sum_assignment  # late: importing this takes a while

    def match(buckets: Tensor, column: Tensor, weights: Tensor) -> Tensor:
        table = torch.zeros(n_clusters * n_clusters, dtype=torch.float64)
        table.index_add_(0, (buckets * n_clusters + column).cpu(), weights.double().cpu())
        return torch.as_tensor(linear_sum_assignment(-table.view(n_clusters, n_clusters).numpy())[1])

    is_in = own >= 0
    first = match(own[is_in], labels[is_in, 0], torch.ones(int(is_in.sum())))
    guess = torch.where(is_in, own, first.argsort().to(own.device)[labels[:, 0]])
    weights = torch.where(is_in, 1.0, 1e-3)
    return torch.stack([match(guess, labels[:, j], weights) for j in range(labels.shape[1])]).to(labels.device)
