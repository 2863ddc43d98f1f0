"""AECoDDC: view autoencoders, a contrastive term and the DDC loss (DeepMVC, Trosten et al., CVPR 2023).

L = L_DDC + contrast_weight * L_CL + recon_weight * sum_v mean (x^v - x_hat^v)^2, with L_CL the mean over pairs of views
(no kappa, unlike CoMVC) and the error a mean over batch and pixels. Pretraining: L without L_DDC, then a new Adam.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from robust_cluster.data.base import Batch, DataInfo, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import Losses, Outputs
from robust_cluster.models.multiview import comvc, simvc
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.contrastive import all_pairs
from robust_cluster.nn.multiview import CnnSmallDecoder

MODES = simvc.MODES
PROFILES = {name: {**groups, "pretrain": groups["cluster"]} for name, groups in simvc.PROFILES.items()}


@dataclass(frozen=True)
class Config(comvc.Config):
    """Hyper-parameters of AECoDDC; the schedule of the pretraining as in AR-DMVC's code (DeepMVC: 50 epochs)."""

    recon_weight: float = 1.0  # of the sum over views of mean squared errors
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=20, batch_size=100))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recon_weight < 0:
            raise ConfigError(f"recon_weight must be >= 0, got {self.recon_weight}", hint="--set model.recon_weight=1")


class AECoDDC(simvc.SiMVC):
    """SiMVC with a decoder per view on z^v; sizes as in SiMVC, `latent_dim` sets none."""

    config: Config
    pretrained_by: ClassVar[str | None] = "aecoddc"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("contrast_weight", "temperature", "recon_weight", "pretrain")

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.decoders = nn.ModuleList(CnnSmallDecoder(shape) for shape in info.shapes)

    def pretrained(self) -> nn.Module:
        """Encoders and decoders; fusion and head start untrained."""
        return nn.ModuleDict({"encoders": self.encoders, "decoders": self.decoders})

    def reconstruct(self, per_view: Views) -> Views:
        """The views (n, C, H, W) that the decoders make of the z^v."""
        return tuple(decoder(z) for decoder, z in zip(self.decoders, per_view, strict=True))

    def pretrain_losses(self, batch: Batch) -> Losses:
        """The contrastive and the reconstruction term, without a pass through the head."""
        per_view = self.represent(batch.views)
        return self.view_losses(batch, per_view, self.reconstruct(per_view))

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """SiMVC's terms and both of the pretraining."""
        views = self.view_losses(batch, outputs.embedding.per_view, outputs.decoded)
        return super().cluster_losses(batch, outputs) | views

    def view_losses(self, batch: Batch, per_view: Views, decoded: Views) -> Losses:
        """contrastive and reconstruction, weighted."""
        errors = [F.mse_loss(image, view) for image, view in zip(decoded, batch.views, strict=True)]
        return {
            "contrastive": self.config.contrast_weight * all_pairs(per_view, self.config.temperature),
            "reconstruction": self.config.recon_weight * torch.stack(errors).sum(),
        }
