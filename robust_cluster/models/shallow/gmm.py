"""A Gaussian mixture on the raw data, by EM (Dempster, Laird and Rubin, 1977); a yardstick of ADEC's tables.

scikit-learn's EM, started from k-means. ADEC does not state the covariances: diagonal ones here, since full ones are
singular on images; "spherical" has one variance a component.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from robust_cluster.data.base import DataInfo
from robust_cluster.errors import check_at_least
from robust_cluster.models.base import Embedding, Phase
from robust_cluster.models.shallow.base import Shallow, ShallowConfig
from robust_cluster.nn.mixture import diagonal_log_joint, full_log_joint

PROFILES: dict[str, dict[str, Any]] = {"smoke": {"n_init": 1}}


@dataclass(frozen=True)
class Config(ShallowConfig):
    """Hyper-parameters of the mixture."""

    covariance: Literal["diag", "full", "spherical"] = "diag"  # of every component
    ridge: float = 1e-6  # added to every variance, times the data's mean variance
    max_iter: int = 200  # EM passes
    n_init: int = 10  # restarts from k-means, the highest likelihood counts

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_init", "max_iter")
        check_at_least(0, self, "ridge")
        super().__post_init__()


class GMM(Shallow):
    """The embedding is the data; soft labels are the components' posterior."""

    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        check_at_least(2, info, "n_clusters")
        n_clusters, size = info.n_clusters, sum(self.sizes)
        is_full = config.covariance == "full"
        self.weights = nn.Buffer(torch.full((n_clusters,), 1 / n_clusters))
        self.means = nn.Buffer(torch.zeros(n_clusters, size))
        spread = torch.eye(size).repeat(n_clusters, 1, 1) if is_full else torch.ones(n_clusters, size)
        self.spread = nn.Buffer(spread)  # covariances (K, d, d), or precisions (K, d)
        self.has_converged = nn.Buffer(torch.zeros(()))

    def log_joint(self, z: Tensor) -> Tensor:
        """ln w_k + ln N(z; m_k, S_k) up to a constant, (n, K)."""
        form = full_log_joint if self.config.covariance == "full" else diagonal_log_joint
        return form(z, self.weights, self.means, self.spread)

    def assign(self, z: Tensor) -> Tensor:
        """The posterior (n, K) of the components."""
        return self.log_joint(z).softmax(dim=1)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return self.log_joint(z).log_softmax(dim=1)

    def fitted(self, z: Tensor, seed: int) -> GaussianMixture:
        """scikit-learn's mixture of z (n, d), in float64 on one thread."""
        config, data = self.config, z.detach().cpu().double().numpy()
        mixture = GaussianMixture(
            self.info.n_clusters,
            covariance_type=config.covariance,
            reg_covar=config.ridge * float(data.var(axis=0).mean()),
            max_iter=config.max_iter,
            n_init=config.n_init,
            random_state=seed,
        )
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `health` tells
            return mixture.fit(data)

    def refit_labels(self, z: Tensor, seed: int) -> Tensor:
        """Labels (n,) of a mixture fitted anew to z (n, d)."""
        return torch.as_tensor(self.fitted(z, seed).predict(z.detach().cpu().double().numpy()), device=z.device)

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit the mixture; there is nothing to train afterwards."""
        mixture = self.fitted(embed().z, seed)
        self.weights.copy_(torch.as_tensor(mixture.weights_))
        self.means.copy_(torch.as_tensor(mixture.means_))
        is_full = self.config.covariance == "full"
        spread = torch.as_tensor(mixture.covariances_ if is_full else mixture.precisions_)
        self.spread.copy_(spread if spread.ndim > 1 else spread.unsqueeze(1))
        self.has_converged.fill_(float(mixture.converged_))

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Whether EM converged (1 or 0) and the smallest component's weight."""
        return {"has_converged": float(self.has_converged), "smallest_weight": float(self.weights.min())}
