"""AAE: an autoencoder whose codes are to pass for draws from a prior (Makhzani et al., ICLR 2016 workshop).

A step on a batch: encoder and decoder descend ||x - x_hat||^2; discriminators learn prior 1, code 0; the encoder
descends the cross-entropy of its codes against 1. Variant "plain" has z ~ N(0, I), as Table 1 of DCAN describes it,
and labels by k-means on z. Variant "softmax" is the paper's own for clustering: the encoder gives y (softmax over K)
and z, the decoder reads both, y is to pass for uniform one-hot draws and z for N(0, I); the label is the argmax of y.
Widths are the paper's for MNIST; step sizes, batch and epochs are our choice.
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
from robust_cluster.models.autoencoder.ae_kmeans import single_view
from robust_cluster.models.base import Embedding, Losses, ModelConfig, Outputs, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.adversarial import discriminator_loss, frozen, generator_loss
from robust_cluster.nn.layers import flat, glorot, perceptron
from robust_cluster.nn.losses import squared_error
from robust_cluster.nn.mixture import lloyd_pass
from robust_cluster.nn.optim import adam, descend

PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "hidden": (128, 128),
        "critic": (64, 64),
        "adversarial_lr": 1e-3,
        "cluster": {"epochs": 20, "lr": 1e-3},
    },
    "cpu": {
        "hidden": (256, 256),
        "critic": (256, 256),
        "adversarial_lr": 1e-3,
        "cluster": {"epochs": 60, "batch_size": 300, "lr": 1e-3},
    },
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """Hyper-parameters of the adversarial autoencoder; `--dim 10` as published."""

    variant: Literal["plain", "softmax"] = "plain"  # "softmax" wants a small --dim: a large z leaves y nothing to say
    hidden: tuple[int, ...] = (1000, 1000)  # widths of the encoder, mirrored in the decoder
    critic: tuple[int, ...] = (1000, 1000)  # widths of each discriminator
    adversarial_lr: float = 1e-4  # Adam's, of the discriminators and of the encoder's side of the game
    n_init: int = 10  # k-means restarts
    cluster: Schedule = field(default_factory=lambda: Schedule(epochs=200, batch_size=100, lr=1e-4))

    def __post_init__(self) -> None:
        check_at_least(1, self, "hidden", "critic", "n_init")
        if self.adversarial_lr <= 0:
            raise ConfigError(f"adversarial_lr must be > 0, got {self.adversarial_lr}")


class AAE(CenterModel):
    """z of the embedding is the code (n, d), in the variant "softmax" [y, z] (n, K + d)."""

    descends_losses: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        n_soft = info.n_clusters if config.variant == "softmax" else 0
        super().__init__(config, info, n_soft + latent_dim)
        check_at_least(2, info, "n_clusters")
        self.n_soft = n_soft  # leading entries of the code that are y
        self.shape = single_view(info)
        widths = [math.prod(self.shape), *config.hidden, self.latent_dim]
        last: list[nn.Module] = [nn.Sigmoid()] if info.bounds == (0.0, 1.0) else []
        self.encoder = perceptron(widths)
        self.decoder = nn.Sequential(perceptron(widths[::-1]), *last)
        sizes = {"y": self.n_soft, "z": latent_dim}
        self.discriminators = nn.ModuleDict(
            {name: perceptron([size, *config.critic, 1]) for name, size in sizes.items() if size}
        )
        glorot(self)
        self.add_centers(self.latent_dim)

    def encode(self, views: Views) -> Embedding:
        """The code; nothing is drawn."""
        code = self.encoder(flat(views))
        z = torch.cat([code[:, : self.n_soft].softmax(dim=1), code[:, self.n_soft :]], dim=1) if self.n_soft else code
        return Embedding(z, (z,))

    def decode(self, z: Tensor) -> Views:
        """One view (n, *shape)."""
        return (self.decoder(z).unflatten(1, self.shape),)

    def soft(self, z: Tensor) -> Tensor:
        """y (n, K) of a code, back on the simplex where an attack has moved it off."""
        y = z[:, : self.n_soft].clamp_min(1e-12)
        return y / y.sum(dim=1, keepdim=True)

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K): those of the centers, or y."""
        return self.soft(z) if self.n_soft else super().assign(z)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return self.soft(z).log() if self.n_soft else super().log_assign(z)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor | None:
        """Labels (n,) of k-means fitted anew to z (n, d); None where y labels."""
        return None if self.n_soft else super().refit_labels(z, seed)

    def parts(self, z: Tensor) -> dict[str, Tensor]:
        """What each discriminator sees of a code."""
        return {"y": z[:, : self.n_soft], "z": z[:, self.n_soft :]} if self.n_soft else {"z": z}

    def priors(self, n: int) -> dict[str, Tensor]:
        """n draws of each prior: uniform one-hot rows for y, standard normal ones for z."""
        device = self.centers.device
        drawn = {"z": torch.randn(n, self.latent_dim - self.n_soft, device=device)}
        if self.n_soft:
            drawn["y"] = F.one_hot(torch.randint(self.n_soft, (n,), device=device), self.n_soft).float()
        return drawn

    def discriminator_losses(self, z: Tensor) -> Tensor:
        """The sum of the discriminators' losses on codes and as many draws: 2 ln 2 each when nothing is told apart."""
        priors, parts = self.priors(len(z)), self.parts(z)
        losses = [discriminator_loss(net(parts[name]), net(priors[name])) for name, net in self.discriminators.items()]
        return torch.stack(losses).sum()

    def game_loss(self, z: Tensor) -> Tensor:
        """The encoder's side: the sum of -E ln D over the discriminators, which get no gradient."""
        parts = self.parts(z)
        games = [generator_loss(frozen(net, parts[name]), "nonsaturating") for name, net in self.discriminators.items()]
        return torch.stack(games).sum()

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """reconstruction and adversarial. Raises: ConfigError for the phase "pretrain"."""
        if phase == "pretrain":
            raise ConfigError("AAE has no pretraining")
        z = self.encode(batch.views).z if outputs is None else outputs.embedding.z
        return {
            "reconstruction": squared_error(self.decoder(z), flat(batch.views)),
            "adversarial": self.game_loss(z),
        }

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """Adam for the autoencoder ("model"), for the discriminators, and for the encoder's side of the game."""
        lr = self.config.adversarial_lr
        return {
            "model": adam([*self.encoder.parameters(), *self.decoder.parameters()], self.schedule(phase).lr),
            "discriminators": adam(self.discriminators.parameters(), lr),
            "adversarial": adam(self.encoder.parameters(), lr),
        }

    def step(self, batch: Batch, phase: Phase, optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
        """The three updates, each on codes that the one before has left; returns the terms as the step finds them."""
        terms = self.losses(batch, phase)
        values = descend({**terms, "adversarial": terms["adversarial"].detach()}, optimizers["model"])
        with torch.no_grad():
            z = self.encode(batch.views).z
        descend({"discriminators": self.discriminator_losses(z)}, optimizers["discriminators"])
        descend({"adversarial": self.game_loss(self.encode(batch.views).z)}, optimizers["adversarial"])
        return values

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """k-means on the untrained codes, so that there are labels to watch."""
        self.fit_centers(embed().z, seed)

    def after_epoch(self, phase: Phase, epoch: int, embed: Callable[[], Embedding], seed: int) -> None:
        """Let the centers follow the codes."""
        if not self.n_soft:
            self.centers, self.variance = lloyd_pass(embed().z, self.centers)

    def fit_centers(self, z: Tensor, seed: int, *, n_init: int | None = None) -> None:
        """Put the centers on those of k-means, where it labels."""
        if not self.n_soft:
            super().fit_centers(z, seed, n_init=n_init)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Mean D of the codes per discriminator, 0.5 where they pass for draws; the mean variance of z, then 1."""
        parts = self.parts(embedding.z)
        found = {
            f"taken_for_prior_{n}": float(net(parts[n]).sigmoid().mean()) for n, net in self.discriminators.items()
        }
        return {**found, "latent_variance": float(parts["z"].var(dim=0, correction=0).mean())}
