"""CoMVC: SiMVC with a contrastive term between the views (Trosten et al., CVPR 2021).

L = L_DDC + contrast_weight * kappa * 2/(V(V-1)) sum_{u<v} l(u, v), kappa = min_v softmax(w)_v without gradient: the
alignment counts less as the fusion turns away from a view. As in DeepMVC (Trosten et al., CVPR 2023), negatives are all
other samples of both views, where the original took those of other clusters.
"""

from dataclasses import dataclass

from torch import Tensor

from robust_cluster.data.base import Batch
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import Losses, Outputs
from robust_cluster.models.multiview import simvc
from robust_cluster.nn.contrastive import all_pairs

MODES = simvc.MODES
PROFILES = simvc.PROFILES


@dataclass(frozen=True)
class Config(simvc.Config):
    """Hyper-parameters of CoMVC, as in DeepMVC."""

    contrast_weight: float = 0.1  # of the contrastive term
    temperature: float = 0.1  # divides the cosines

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contrast_weight < 0 or self.temperature <= 0:
            raise ConfigError(f"contrast_weight must be >= 0 and temperature > 0, got {self}")


class CoMVC(simvc.SiMVC):
    """SiMVC whose views are also drawn together; sizes as in SiMVC, `latent_dim` sets none."""

    config: Config

    def kappa(self) -> Tensor:
        """min_v softmax(w)_v in (0, 1/V], a constant to the gradient."""
        return self.fusion.weights().min().detach()

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """SiMVC's terms and the weighted contrastive one."""
        contrast = all_pairs(outputs.embedding.per_view, self.config.temperature)
        weighted = self.config.contrast_weight * self.kappa() * contrast
        return super().cluster_losses(batch, outputs) | {"contrastive": weighted}
