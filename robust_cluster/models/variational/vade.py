"""VaDE: a variational autoencoder with a learned Gaussian mixture as its prior (Jiang et al., IJCAI 2017).

L_G = E[-log p(x | z)] + E sum_c gamma_c KL(N(mu~, s~^2) || N(mu_c, s_c^2)) + E KL(gamma || pi), gamma_c = q(c | z), one
draw of z for all (LPVDN, AAAI 2021, Eqs. 2-7). An autoencoder x -> mu~ -> x_hat is pretrained by mean squared error;
scikit-learn's mixture of all mu~ starts the prior. Labels are argmax_c gamma_c(mu~); k-means on mu~ is scored beside
them. It is LPVDN with alpha0 = 0 and alpha1 = 0: same networks, pretraining, schedule and, for one initialization and
order of batches, numbers. VaDE's own code trains 3,000 epochs of batches of 100 from weights of an unpublished
pretraining. The last incomplete batch of an epoch is left out, LPVDN's code keeps it. Published at J = 10 (--dim 10):
in wide latents components may be lost.

Outputs: for data in [0, 1] a sigmoid and cross-entropy, for others linear and squared error, summed. log s~^2 and log
s_c^2 are clamped to [-10, 10], which the paper does not do; pi is a softmax, gamma a softmax of log-densities.

Mode "linear", for data that are not in [0, 1], is ours. Pretraining leaves the head of log s~^2 as it was drawn, so
that s~ is about 1 whatever the scale of mu~, and the mixture of mu~ is too narrow for the draws, whose gamma then goes
to its widest component. Images have components of width 2, and 90 % of the draws keep the label of their mean; wine, 13
standardized columns in 64 dimensions, has widths of 0.6 to 0.9, a quarter of the draws changes its label, and within a
few epochs one or two components have all samples. So E s~^2 is added to the first s_c^2, which makes the prior the
density of what it is the prior of. And one step of Adam at 2e-3 moves mu~ there by 0.6 of its spread, at 2e-4, the
paper's for texts, by 0.08. The squared error is that of a noise of variance 1/2 in every column: columns that vary by
less, as those that were scaled to [0, 1], still end in one cluster, where the loss is lower. Standardize them
(--normalize standard).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Losses, Outputs, Phase, later
from robust_cluster.models.schedule import Schedule, StepwiseSchedule
from robust_cluster.models.variational.base import UNIT, Variational, VariationalConfig
from robust_cluster.nn.centers import kmeans
from robust_cluster.nn.variational import MixturePrior, component_kl, prior_kl

# LPVDN's Table 4; its first two columns, images, are the defaults
MODES: dict[str, dict[str, Any]] = {
    "linear": {"prior_start": "draws", "cluster": {"lr": 2e-4}},  # ours, with the step of texts
    "reuters": {"pretrain": {"batch_size": 1000}, "cluster": {"batch_size": 1000, "lr": 2e-4}},
    "reuters10k": {"pretrain": {"batch_size": 1000}, "cluster": {"batch_size": 1000, "lr": 2e-4, "epochs": 50}},
}
# of 10,000 images; after 10 epochs of pretraining, 120 steps, the mixture keeps few of its components
QUICK: dict[str, Any] = {"pretrain": {"epochs": 100}, "cluster": {"epochs": 30}}
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "hidden": (128, 128),
        "pretrain": {"epochs": 20, "batch_size": 128},
        "cluster": {"epochs": 30, "batch_size": 256},
    },
    "short": QUICK,
    "cpu": QUICK,
}
N_INIT = 10  # k-means restarts


@dataclass(frozen=True)
class Config(VariationalConfig):
    """Hyper-parameters of VaDE; `mode` chooses a column of LPVDN's Table 4."""

    # where none is asked for: images for data in [0, 1], linear for others
    mode: Literal["images", "linear", "reuters", "reuters10k"] = "images"
    corruption: float = later(0.0)  # share of the inputs that pretraining drops, in [0, 1)
    mixture_starts: int = later(1)  # fits of the mixture from as many k-means; the likeliest starts the prior
    prior_start: Literal["means", "draws"] = later("means")  # what the first mixture is the density of: mu~, or z
    log_var_start: Literal["untrained", "mean"] = later("untrained")  # the head of log s~^2: its own, or that of mu~
    pretrain: Schedule = field(default_factory=lambda: Schedule(epochs=50, batch_size=800))  # LPVDN's code
    cluster: Schedule = field(
        default_factory=lambda: StepwiseSchedule(epochs=300, batch_size=800, lr=2e-3, lr_decay=0.95, lr_epochs=10)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "mixture_starts")
        check_at_least(0, self, "corruption")
        if self.corruption >= 1:
            raise ConfigError(f"corruption must be in [0, 1), got {self.corruption}", hint="--set model.corruption=0.2")


class VaDE(Variational):
    """The autoencoder and its mixture prior; z of the embedding is mu~."""

    scores_refit: ClassVar[bool] = True
    pretrained_by: ClassVar[str | None] = "vade"
    pretrain_fields: ClassVar[tuple[str, ...]] = ("hidden", "output", "corruption", "pretrain")

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        self.prior = MixturePrior(info.n_clusters, latent_dim)

    @classmethod
    def usual_mode(cls, info: DataInfo) -> str | None:
        """ "linear" for data that a sigmoid cannot give."""
        return None if info.bounds == UNIT else "linear"

    def pretrained(self) -> nn.Module:
        """The autoencoder; its log-variance head is untrained."""
        return self.network

    def assign(self, z: Tensor) -> Tensor:
        """gamma (n, K) of z (n, J)."""
        return self.log_assign(z).exp()

    def log_assign(self, z: Tensor) -> Tensor:
        """log gamma (n, K), none of them infinite."""
        return self.prior.log_responsibilities(z)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor | None:
        """Labels (n,) of k-means fitted to z (n, J)."""
        return kmeans(z, self.info.n_clusters, n_init=N_INIT, seed=seed)[1]

    def losses(self, batch: Batch, phase: Phase, outputs: Outputs | None = None) -> Losses:
        """The terms of L_G; the mean squared error of x_hat(mu~) while pretraining."""
        if phase == "pretrain":
            x = batch.views[0]
            given = F.dropout(x, self.config.corruption) if self.config.corruption else x
            return {"reconstruction": F.mse_loss(self.network.decode(self.network.encode(given)[0]), x)}
        embedding = outputs.embedding if outputs else self.encode(batch.views)
        return self.cluster_losses(batch, embedding, outputs.z_drawn if outputs else embedding.draw())

    def cluster_losses(self, batch: Batch, embedding: Embedding, z: Tensor) -> Losses:
        """reconstruction, prior and components, which sum to L_G; z (n, J) is the draw that all of them see."""
        assert embedding.log_var is not None  # encode() gives one
        log_gamma = self.prior.log_responsibilities(z)
        return {
            "reconstruction": self.network.reconstruction(z, batch.views[0]),
            "prior": prior_kl(log_gamma.exp(), embedding.z, embedding.log_var, self.prior),
            "components": component_kl(log_gamma, self.prior.log_weights()),
        }

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """The prior becomes a mixture fitted to all mu~; where it is asked, log s~^2 becomes mu~, s_c^2 the draws'."""
        if phase == "cluster":
            self.prior.fit(embed().z, seed, n_init=self.config.mixture_starts)
            if self.config.log_var_start == "mean":
                self.network.log_var.load_state_dict(self.network.mean.state_dict())
            if self.config.prior_start == "draws":
                log_var = embed().log_var
                assert log_var is not None  # encode() gives one
                self.prior.widen(log_var.exp().mean(dim=0))

    def health(self, embedding: Embedding) -> dict[str, float]:
        """How the components are used: pi's extremes and effective number e^H(pi), the least share of argmax gamma."""
        log_weights = self.prior.log_weights().detach()
        owners = self.prior.log_responsibilities(embedding.z).argmax(dim=1)
        sizes = torch.bincount(owners, minlength=len(log_weights))
        return {
            "pi_min": float(log_weights.min().exp()),
            "pi_max": float(log_weights.max().exp()),
            "effective_components": float((-(log_weights.exp() * log_weights).sum()).exp()),
            "smallest_component": float(sizes.min()) / len(owners),
        }
