"""EAMC: adversarially aligned views, fused by attention, clustered with the DDC loss (Zhou and Shen, CVPR 2020).

Encoders, head and attention descend L1 + L2' + L3 + ||k_f - sum_v w_v k_v||_F^2 + 10 sum_{v>=2} BCE(D_v(z^v), 1), the
discriminators sum_{v>=2} BCE(D_v(z^v), 0) + BCE(D_v(z^1), 1): z^1 is "real". L1 and L3 are DDC's first and third
term, L2' is `column_overlap`, k_f and k_v the Gaussian kernels of the fused f = sum_v w_v z^v and of the z^v, in
batches of n. Source: DeepMVC (Trosten et al., CVPR 2023), on which AR-DMVC's code trains it; no gradient is cut there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Losses, Outputs, Phase
from robust_cluster.models.multiview import simvc
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.ddc import ddc_terms, gaussian_kernel
from robust_cluster.nn.layers import perceptron
from robust_cluster.nn.multiview import cnn_small_features
from robust_cluster.nn.optim import adam, descend

MODES = simvc.MODES
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": simvc.PROFILES["smoke"],
    "cpu": {"cluster": {"epochs": 60}},  # at its small rates 15 epochs of a few thousand samples teach it nothing
}
TEMPERATURE = 10.0  # divides the attention's sigmoids, so that no weight is far from 1/V


@dataclass(frozen=True)
class Config(simvc.Config):
    """Hyper-parameters of EAMC, as in DeepMVC and AR-DMVC's code."""

    attention_weight: float = 1.0  # of the squared distance between the kernels
    adversarial_weight: float = 10.0  # of the encoders' part of the game
    attention_lr: float = 1e-4  # Adam's, of the attention
    discriminator_lr: float = 1e-3  # Adam's, of the discriminators
    max_norm: float | None = None  # of the gradient of encoders and head
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=20, batch_size=100, lr=1e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "attention_weight", "adversarial_weight")
        rates = (self.attention_lr, self.discriminator_lr)
        if min(rates) <= 0:
            raise ConfigError(f"attention_lr and discriminator_lr must be > 0, got {rates[0]} and {rates[1]}")


class EAMC(simvc.SiMVC):
    """SiMVC with attention in place of learned fusion weights, and a discriminator per view after the first.

    The attention gives each batch one weight per view, the mean over its samples, in evaluation too, as in DeepMVC: a
    sample's h and labels depend, a little, on the batch it comes in. `latent_dim` sets no size.
    """

    descends_losses: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        del self.fusion  # its weights would be parameters that nothing trains
        n_views, features = len(info.shapes), cnn_small_features(info.shapes[0])
        self.attention = perceptron([features * n_views, 100, 50, n_views], activation=None)
        self.discriminators = nn.ModuleList(discriminator(features) for _ in info.shapes[1:])

    def view_weights(self, per_view: Views) -> Tensor:
        """w (V,): the batch's mean of softmax(sigmoid(attention(z)) / 10); sums to 1, near 1/V."""
        scores: Tensor = self.attention(torch.cat(per_view, dim=1))
        return (scores.sigmoid() / TEMPERATURE).softmax(dim=1).mean(dim=0)

    def encode(self, views: Views) -> Embedding:
        """h (n, hidden) of the views fused with this batch's weights, and the z^v (n, d)."""
        per_view = self.represent(views)
        return Embedding(self.head.hidden(weighted_sum(self.view_weights(per_view), per_view)), per_view)

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """The terms that encoders, head and attention descend, weighted."""
        config, per_view = self.config, outputs.embedding.per_view
        weights = self.view_weights(per_view)
        kernels = [gaussian_kernel(z, config.relative_sigma) for z in per_view]
        fused = gaussian_kernel(weighted_sum(weights, per_view), config.relative_sigma)
        h = outputs.embedding.z
        ddc = ddc_terms(h, outputs.soft_labels, gaussian_kernel(h, config.relative_sigma))
        games = [critic(z) for critic, z in zip(self.discriminators, per_view[1:], strict=True)]
        adversarial = torch.stack([F.binary_cross_entropy(game, torch.ones_like(game)) for game in games]).sum()
        return {
            "ddc_1": ddc["ddc_1"],
            "ddc_2": column_overlap(outputs.soft_labels),
            "ddc_3": ddc["ddc_3"],
            "attention": config.attention_weight * (fused - weighted_sum(weights, tuple(kernels))).square().sum(),
            "adversarial": config.adversarial_weight * adversarial,
        }

    def discriminator_loss(self, per_view: Views) -> Tensor:
        """sum_{v>=2} BCE(D_v(z^v), 0) + BCE(D_v(z^1), 1), a scalar: 2 (V - 1) log 2 when nothing is told apart."""
        total = per_view[0].new_zeros(())
        for critic, z in zip(self.discriminators, per_view[1:], strict=True):
            fake, real = critic(z), critic(per_view[0])
            total = total + F.binary_cross_entropy(fake, torch.zeros_like(fake))
            total = total + F.binary_cross_entropy(real, torch.ones_like(real))
        return total

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """Adam for encoders and head ("model"), for the attention, and, with beta_1 0.5, for the discriminators."""
        model = [*self.encoders.parameters(), *self.head.parameters()]
        config, late = self.config, (0.95, 0.999)
        return {
            "model": adam(model, self.schedule(phase).lr, late),
            "attention": adam(self.attention.parameters(), config.attention_lr, late),
            "discriminators": adam(self.discriminators.parameters(), config.discriminator_lr, (0.5, 0.999)),
        }

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """One update of encoders, head and attention, then of the discriminators on new z^v; returns the first terms.

        The discriminators' loss is no part of what is descended; `health` tells how they fare.
        """
        optimizers["attention"].zero_grad(set_to_none=True)
        values = descend(self.losses(batch, phase), optimizers["model"], max_norm=self.config.max_norm)
        optimizers["attention"].step()
        with torch.no_grad():
            per_view = self.represent(batch.views)
        descend({"discriminators": self.discriminator_loss(per_view)}, optimizers["discriminators"])
        return values

    def health(self, embedding: Embedding) -> dict[str, float]:
        """The weight of each view, and of each after the first D_v(z^v): near 0.5 it passes for the first."""
        with torch.no_grad():
            weights = self.view_weights(embedding.per_view)
            games = [critic(z).mean() for critic, z in zip(self.discriminators, embedding.per_view[1:], strict=True)]
        found = {f"view_weight_{v}": weight for v, weight in enumerate(weights.tolist(), start=1)}
        return found | {f"taken_for_view_1_{v}": float(game) for v, game in enumerate(games, start=2)}


def discriminator(features: int) -> nn.Sequential:
    """A network (n, features) -> (n, 1) in (0, 1): 256, 256 and 128 units with LeakyReLU 0.2, then a sigmoid."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((features, 256), (256, 256), (256, 128)):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(128, 1), nn.Sigmoid())


def weighted_sum(weights: Tensor, tensors: Views) -> Tensor:
    """sum_v w_v t_v of V tensors of one shape; weights (V,)."""
    # sums in full precision: a product over the views might be taken in bfloat16
    return torch.stack([weight * tensor for weight, tensor in zip(weights, tensors, strict=True)]).sum(dim=0)


def column_overlap(soft_labels: Tensor) -> Tensor:
    """L2' = 2/(K(K-1)) sum_{a<b} <alpha_a, alpha_b>, alpha_a column a of the soft labels (n, K): 0 for one-hot rows.

    Grows with n, unlike DDC's second term, which compares rows. Source: DeepMVC (EAMC).
    """
    n_clusters = soft_labels.shape[1]
    # ||sum_a alpha_a||^2 - sum_a ||alpha_a||^2 = 2 sum_{a<b} <alpha_a, alpha_b>
    return (soft_labels.sum(dim=1).square().sum() - soft_labels.square().sum()) / (n_clusters * (n_clusters - 1))
