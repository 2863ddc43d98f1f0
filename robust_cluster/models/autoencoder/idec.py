"""IDEC: DEC with the reconstruction kept as a second term (Guo et al., IJCAI 2017, Eq. 8; ADEC, 2019, Eq. 4).

Encoder, decoder and centres minimise mean (x - x_hat)^2 + gamma KL(P || Q) together; everything else as DEC. Adam 1e-3
is the authors' choice for digits; for text and small images they have SGD, lr 0.1, momentum 0.99 (`optimizer`,
`cluster.lr`, `momentum`). `gamma_on` "reconstruction" puts gamma on the other term, as ADEC's Theorem 1 does. Mode
"star" is IDEC* of ADEC's Table 2: its pretraining, T, optimizer and augmentation, with gamma = 0.01.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from robust_cluster.errors import check_at_least
from robust_cluster.models.autoencoder import dec
from robust_cluster.models.base import Losses, Phase
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.dec import clustering_kl

MODES: dict[str, dict[str, Any]] = {"star": {**dec.STAR, "gamma": 0.01}, "paper": dec.PAPER}
PROFILES = dec.PROFILES


@dataclass(frozen=True)
class Config(dec.Config):
    """Hyper-parameters of IDEC."""

    gamma: float = 0.1  # the authors' code; ADEC's figures are best at 0.01
    gamma_on: Literal["clustering", "reconstruction"] = "clustering"  # the term that gamma multiplies
    optimizer: Literal["sgd", "adam"] = "adam"  # of the clustering
    # T = 140 for MNIST, 30 for USPS, 3 for REUTERS-10K (the authors' code); 20,020 steps
    cluster: Schedule = field(
        default_factory=lambda: Schedule(epochs=143, batch_size=256, steps_per_epoch=140, lr=1e-3)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "gamma")


class IDEC(dec.DEC):
    """DEC whose decoder goes on learning, and pulls the encoder with it."""

    config: Config

    def cluster_losses(self, x: Tensor, z: Tensor, targets: Tensor) -> Losses:
        """Reconstruction and clustering, weighted."""
        weights = self.loss_weights()
        return {
            "reconstruction": weights[1] * self.self_loss(x, z),
            "clustering": weights[0] * clustering_kl(targets, self.assign(z)),
        }

    def optimizers(self, phase: Phase) -> dict[str, Optimizer]:
        """As DEC's, with the decoder's parameters while clustering too."""
        if phase == "pretrain":
            return super().optimizers(phase)
        return {"model": self.new_optimizer([*self.autoencoder.parameters(), self.centers])}

    def self_loss(self, x: Tensor, z: Tensor) -> Tensor:
        """mean (x - x_hat)^2 over samples and dimensions."""
        return F.mse_loss(self.autoencoder.decoder(z), x)

    def loss_weights(self) -> tuple[float, float]:
        """(gamma, 1), or (1, gamma) where gamma is on the reconstruction."""
        gamma = self.config.gamma
        return (gamma, 1.0) if self.config.gamma_on == "clustering" else (1.0, gamma)
