"""AR-DMVC-AM: AR-DMVC with the attack mitigator, a divergence between clean and moved labels (Huang et al., ICML 2024).

L = L_AR-DMVC + gamma * D_KL, P the soft labels of the views and Q those of the moved views: a bound on what the moved
views tell of the moved labels beyond what the views tell, I(x~; a~ | x). The bound is D_KL(Q || P); the released code
takes D_KL(P || Q), the default here. gamma is the code's too; the paper is said to take 1 for every data set.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from robust_cluster.attacks.base import Surface
from robust_cluster.data.base import Views
from robust_cluster.defenses import ar_dmvc
from robust_cluster.errors import check_at_least, check_positive
from robust_cluster.models.base import ClusterModel, Embedding, Losses, Outputs

MODES: dict[str, dict[str, Any]] = ar_dmvc.MODES
PROFILES: dict[str, dict[str, Any]] = ar_dmvc.PROFILES
GAMMA = {"noisyfashion": 1.0}  # by the start of the data set's name, 0.1 for all others


@dataclass(frozen=True)
class Config(ar_dmvc.Config):
    """Hyper-parameters of AR-DMVC and of the attack mitigator, as in AR-DMVC's code."""

    gamma: float | None = None  # of the mitigator; 1 NoisyFashion, else 0.1
    kl_direction: Literal["clean_adv", "adv_clean"] = "clean_adv"  # D_KL(P || Q) or D_KL(Q || P)
    kl_detach: Literal["none", "clean"] = "none"  # "clean": no gradient through P
    kl_eps: float = 1e-4  # added to every probability

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "gamma")
        check_positive(self, "kl_eps")


class ArDmvcAm(ar_dmvc.ArDmvc):
    """AR-DMVC with one more term, "mitigator"; gamma 0 is AR-DMVC."""

    config: Config

    def __init__(self, config: Config, surface: Surface) -> None:
        super().__init__(config, surface)
        self.gamma = ar_dmvc.or_published(config.gamma, GAMMA, name=surface.model.info.name, default=0.1)

    def contrasts(self, model: ClusterModel, clean: Embedding, moved: Embedding, others: Views) -> Tensor:
        """Each sample's part of L_CL and of the mitigator, (n,): what the two inner terms of the defense make small."""
        own = model.assign(clean.z) + self.config.kl_eps, model.assign(moved.z) + self.config.kl_eps
        p, q = own if self.config.kl_direction == "clean_adv" else own[::-1]
        return super().contrasts(model, clean, moved, others) + self.gamma * (p * (p.log() - q.log())).sum(dim=1)

    def extra_terms(self, clean: Outputs, moved: Outputs) -> Losses:
        """gamma times the divergence between the soft labels of both passes."""
        p, q = clean.soft_labels, moved.soft_labels
        p = p.detach() if self.config.kl_detach == "clean" else p
        pair = (p, q) if self.config.kl_direction == "clean_adv" else (q, p)
        return {"mitigator": self.gamma * divergence(*pair, eps=self.config.kl_eps)}


def divergence(p: Tensor, q: Tensor, *, eps: float = 1e-4) -> Tensor:
    """D_KL(p || q) = 1/n sum_ij p_ij log(p_ij / q_ij) in nats, `eps` added to every entry before; a scalar >= 0.

    Shapes: p and q (n, K), rows sum to 1; eps > 0. Rows are not scaled back to sum 1, as in AR-DMVC's code.
    """
    p, q = p + eps, q + eps
    return (p * (p.log() - q.log())).sum(dim=1).mean()
