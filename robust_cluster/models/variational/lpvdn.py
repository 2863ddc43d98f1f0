"""LPVDN: VaDE that also maximizes the information of x and z and preserves neighborhoods (Luo et al., AAAI 2021).

L = L_G + alpha0 L_MI + alpha1 L_LP (Eq. 1), one optimizer for all networks. L_MI: a discriminator tells x's own z from
the z of another sample, and the encoder helps it (Eqs. 8-11). L_LP: KL(P || Q) of the pairwise distributions of mu~, a
constant, and of s = f_lp(mu~) over each batch (Eqs. 12-17). Labels are k-means' on s; without L_LP, which alone trains
f_lp, they are VaDE's, and k-means' on mu~ are scored beside them (ACC_refit). z of the embedding is mu~, which can be
decoded; `assign` goes through f_lp. Widths, schedule and weights are the paper's, perplexity and mi_scale its code's.
Batches come in random order, and x' of a pair is the sample before in the batch; the code draws from a second shuffled
loader. Its two draws of z are one here (Eq. 6).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Losses, Phase
from robust_cluster.models.centers import CenterModel
from robust_cluster.models.variational import vade
from robust_cluster.models.variational.base import check_hidden
from robust_cluster.nn.layers import perceptron
from robust_cluster.nn.tsne import check_perplexity, joint_probabilities, locality_kl
from robust_cluster.nn.variational import PairDiscriminator, pair_information

MODES: dict[str, dict[str, Any]] = {
    "linear": vade.MODES["linear"],
    "reuters": {**vade.MODES["reuters"], "alpha0": 1.0, "alpha1": 1e-2},  # the text has alpha1 1e-3
    "reuters10k": {**vade.MODES["reuters10k"], "alpha0": 1e-2, "alpha1": 1e-3},  # the text has alpha0 1
}
PROFILES: dict[str, dict[str, Any]] = {
    **vade.PROFILES,
    "smoke": {**vade.PROFILES["smoke"], "discriminator": (64,), "locality": (64, 64)},
}
LEAST_PERPLEXITY = 2.0  # below 1 there is no distribution; the paper's batches are never below 4


@dataclass(frozen=True)
class Config(vade.Config):
    """Hyper-parameters of LPVDN."""

    alpha0: float = 1.0  # weight of L_MI; Table 4
    alpha1: float = 1e-4  # weight of L_LP, which is a sum over pairs; Table 4
    mi_scale: float = 0.5  # factor of L_MI; 1 in Eq. 11, 1/2 in the code and in the Jensen-Shannon bound
    discriminator: tuple[int, ...] = (256,)  # hidden widths between J + D and 1
    locality: tuple[int, ...] = (256, 256, 256)  # hidden widths of f_lp
    locality_dim: int = 10  # T, dimensions of s
    perplexity_share: float = 0.01  # perplexity over batch length, in (0, 1); the code's
    n_init: int = 10  # k-means restarts; the paper

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "alpha0", "alpha1", "mi_scale")
        check_at_least(1, self, "locality_dim", "n_init")
        check_hidden(self.discriminator, "discriminator")
        check_hidden(self.locality, "locality")
        if not 0 < self.perplexity_share < 1:
            raise ConfigError(
                f"perplexity_share must be in (0, 1), got {self.perplexity_share}",
                hint="--set model.perplexity_share=0.01",
            )

    def perplexity(self, n: int) -> float:
        """The perplexity of P over a batch of n."""
        return max(LEAST_PERPLEXITY, self.perplexity_share * n)


class LPVDN(vade.VaDE, CenterModel):
    """VaDE with a discriminator of pairs and a locality network, both unused where their weight is 0."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        inputs = math.prod(info.shapes[0])
        with torch.random.fork_rng(devices=[]):  # what VaDE draws later does not depend on what is built here
            torch.default_generator.manual_seed(int(torch.randint(2**31, ())))
            self.discriminator = PairDiscriminator(latent_dim, inputs, config.discriminator)
            self.f_lp = perceptron([latent_dim, *config.locality, config.locality_dim])
        self.add_centers(config.locality_dim)
        self.is_fitted = nn.Buffer(torch.zeros((), dtype=torch.bool))  # whether k-means has labeled s

    @classmethod
    def check(cls, config: Any, info: DataInfo) -> None:
        """Refuse what VaDE does, and batches of too few samples for the perplexity. Raises: ConfigError."""
        super().check(config, info)
        if config.alpha1:
            n = config.cluster.batch(info.n_samples)
            check_perplexity(config.perplexity(n), n)

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K) whose argmax is the center nearest to f_lp(z); VaDE's until k-means is fitted."""
        return CenterModel.assign(self, z) if self.is_fitted else super().assign(z)

    def knows_labels(self) -> bool:
        """Not before k-means on s: until then they are VaDE's."""
        return bool(self.is_fitted) or not self.config.alpha1

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return CenterModel.log_assign(self, z) if self.is_fitted else super().log_assign(z)

    def points(self, z: Tensor) -> Tensor:
        """s (n, T) of z; z itself without L_LP."""
        return self.f_lp(z) if self.config.alpha1 else z

    def refit_labels(self, z: Tensor, seed: int) -> Tensor | None:
        """Labels (n,) of k-means fitted anew to s."""
        return CenterModel.refit_labels(self, z, seed)

    def cluster_losses(self, batch: Batch, embedding: Embedding, z: Tensor) -> Losses:
        """VaDE's terms, alpha0 L_MI ("information") and alpha1 L_LP ("locality"); a weight of 0 leaves its term out."""
        config, terms = self.config, super().cluster_losses(batch, embedding, z)
        if config.alpha0:
            information = pair_information(self.discriminator, z, batch.views[0])
            terms["information"] = config.alpha0 * config.mi_scale * information
        if config.alpha1:
            p = joint_probabilities(embedding.z, self.config.perplexity(len(batch)))
            terms["locality"] = config.alpha1 * locality_kl(p, self.f_lp(embedding.z))
        return terms

    def finish(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit the centers on s, where L_LP has trained f_lp."""
        if phase == "cluster" and self.config.alpha1:
            self.fit_centers(embed().z, seed)
            self.is_fitted.fill_(True)
