"""Any method of the house as an estimator of scikit-learn.

>>> from robust_cluster.sklearn import DeepClustering
>>> from sklearn.datasets import make_blobs
>>> x, _ = make_blobs(90, centers=3, cluster_std=0.2, random_state=0)
>>> model = DeepClustering("kmeans", n_clusters=3, random_state=0).fit(x)
>>> sorted(set(model.labels_.tolist()))
[0, 1, 2]
>>> model.predict(x[:5]).tolist() == model.labels_[:5].tolist()
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from robust_cluster.verbs import cluster

if TYPE_CHECKING:
    import numpy.typing as npt


class DeepClustering(ClusterMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A clustering method with `fit`, `predict` and `transform`, the embedding.

    model: a name of `rc ls models`. settings: the model's, by dotted name, e.g. {"pretrain.epochs": 5}; dropped into a
    dictionary, as scikit-learn's `clone` wants each parameter by name. normalize, profile: as `rc cluster` takes them.
    Attributes: labels_ (n,), record_, n_features_in_. It is pickled with its run's files inside.
    """

    def __init__(
        self,
        model: str = "dec",
        n_clusters: int = 8,
        latent_dim: int = 10,
        random_state: Any = None,
        normalize: str = "none",
        profile: str = "paper",
        settings: Any = None,
    ) -> None:
        self.model = model
        self.n_clusters = n_clusters
        self.latent_dim = latent_dim
        self.random_state = random_state
        self.normalize = normalize
        self.profile = profile
        self.settings = settings

    def fit(self, X: npt.ArrayLike, y: Any = None) -> DeepClustering:
        """Train on X (n, d); y is not looked at."""
        values = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.run_ = cluster(
            self.model,
            values,
            n_clusters=self.n_clusters,
            latent_dim=self.latent_dim,
            seed=seed,
            normalize=self.normalize,  # type: ignore[arg-type]
            profile=self.profile,
            settings=self.settings,
        )
        self.labels_ = self.run_.labels
        self.record_ = self.run_.record
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The cluster (n,) of each sample."""
        check_is_fitted(self)
        return self.run_.predict(validate_data(self, X, dtype=np.float32, reset=False))

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The embedding (n, d) of each sample."""
        check_is_fitted(self)
        return self.run_.embed(validate_data(self, X, dtype=np.float32, reset=False))
