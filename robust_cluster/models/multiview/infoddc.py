"""InfoDDC: mutual information between views whose features are distributions, and the DDC loss (CVPR 2023).

L = L_DDC + information_weight * sum_{u<v} l_MI(z^u, z^v), z^v = softmax over the encoder's features; fusion and head
act on these z^v. Source: DeepMVC (Trosten et al., CVPR 2023), whose code also sums l_MI(z^u, z^u) for u < V, probably
an oversight: mode "paper" does so too, mode "clean" does not. Pretraining, off by default (AR-DMVC's code has it on
PatchedMNIST only): the sum of l_MI with weight 1.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robust_cluster.data.base import Batch, Views
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import Losses, Outputs
from robust_cluster.models.multiview import simvc
from robust_cluster.models.schedule import Schedule
from robust_cluster.nn.information import invariant_information

MODES = {"paper": {**simvc.MODES["paper"], "self_pairs": True}}
PROFILES = {name: {**groups, "pretrain": groups["cluster"]} for name, groups in simvc.PROFILES.items()}


@dataclass(frozen=True)
class Config(simvc.Config):
    """Hyper-parameters of InfoDDC, as in DeepMVC."""

    information_weight: float = 0.1  # of the sum of l_MI while clustering
    alpha: float = 9.0  # weight of the marginal entropies in l_MI
    self_pairs: bool = False  # l_MI of views 1..V-1 with themselves too; on in DeepMVC's code
    pretrain_first: bool = False  # AR-DMVC's code: on PatchedMNIST only
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=20, batch_size=100))

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.information_weight, self.alpha) < 0:
            raise ConfigError(f"information_weight and alpha must be >= 0, got {self}")


class InfoDDC(simvc.SiMVC):
    """SiMVC on softmaxed features that tell of each other; sizes as in SiMVC, `latent_dim` sets none."""

    config: Config
    pretrained_by: ClassVar[str | None] = "infoddc"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("alpha", "self_pairs", "pretrain")

    @classmethod
    def has_pretraining(cls, config: Any) -> bool:
        """Only with `pretrain_first`."""
        return bool(config.pretrain_first)

    def pretrained(self) -> nn.Module:
        """The encoders; fusion and head start untrained."""
        return self.encoders

    def represent(self, views: Views) -> Views:
        """z^v (n, d), rows sum to 1."""
        return tuple(features.softmax(dim=1) for features in super().represent(views))

    def pretrain_losses(self, batch: Batch) -> Losses:
        """The sum of l_MI, weight 1."""
        return {"information": self.information(self.represent(batch.views))}

    def cluster_losses(self, batch: Batch, outputs: Outputs) -> Losses:
        """SiMVC's terms and the weighted sum of l_MI."""
        weighted = self.config.information_weight * self.information(outputs.embedding.per_view)
        return super().cluster_losses(batch, outputs) | {"information": weighted}

    def information(self, per_view: Views) -> Tensor:
        """Sum of l_MI over pairs u < v of views, with `self_pairs` over u <= v, u < V."""
        first = 0 if self.config.self_pairs else 1
        pairs = [(left, right) for u, left in enumerate(per_view[:-1]) for right in per_view[u + first :]]
        return torch.stack([invariant_information(*pair, alpha=self.config.alpha) for pair in pairs]).sum()
