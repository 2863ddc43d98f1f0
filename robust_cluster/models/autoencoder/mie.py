"""MIE: ConvAE that also maximizes the mutual information of x and z (ALRDC, NeurIPS 2020, supplement Eq. 4).

L_I = -E[log G(pos) + log(1 - G(neg))], G trained with the encoder. Mode "clean" pairs (x, z) as the text says; mode
"paper" pairs (mu, mu) as the released code does, which only asks that embeddings differ and never sees x.
"""

from dataclasses import dataclass

import torch
from torch import nn

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import check_at_least
from robust_cluster.models.autoencoder import convae
from robust_cluster.models.base import Losses, Outputs
from robust_cluster.nn.layers import flat, glorot, perceptron
from robust_cluster.nn.losses import jensen_shannon

MODES = convae.MODES
PROFILES = convae.PROFILES


@dataclass(frozen=True)
class Config(convae.Config):
    """Hyper-parameters of MIE."""

    information_weight: float = 1.0  # supplement, Eq. 4; 0.001 in the code's ancestor

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "information_weight")


class MIE(convae.ConvAE):
    """ConvAE with a mutual-information term while clustering and in the defense."""

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.config: Config = config
        left = latent_dim if config.mode == "paper" else torch.Size(info.shapes[0]).numel()
        widths = [left + latent_dim, latent_dim, latent_dim, latent_dim, 1]
        self.discriminator = nn.Sequential(perceptron(widths), nn.Sigmoid())
        glorot(self.discriminator)

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """ConvAE's terms and the weighted L_I."""
        mean = outputs.embedding.z
        pair = (mean, mean) if self.config.mode == "paper" else (flat(batch.views), outputs.z_drawn)
        information = jensen_shannon(self.discriminator, *pair)
        terms = super().cluster_losses(batch, outputs)
        return terms | {"information": self.config.information_weight * information}
