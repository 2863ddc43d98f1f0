"""Ward's clustering: scikit-learn's labels, with and without all distances, K clusters where merges cost the same."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering

from robust_cluster import discover
from robust_cluster.data.base import Dataset
from robust_cluster.errors import RobustClusterError
from robust_cluster.metrics.ari import ari
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.shallow.agglomerative import merges
from robust_cluster.nn.merging import cut


def labels(model: ClusterModel, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    model.start("cluster", lambda: model.encode((x,)), seed=seed)
    assert model.fit.labels is not None
    return model.fit.labels


def test_labels_are_sklearns_whatever_the_seed(build: Callable[..., ClusterModel], digits: Dataset) -> None:
    x = digits.views[0]
    assert isinstance(x, torch.Tensor)
    expected = AgglomerativeClustering(10, linkage="ward").fit_predict(x.double().numpy())
    first = labels(build("agglomerative"), x)
    assert ari(expected, first.numpy()) == 1
    assert first.equal(labels(build("agglomerative"), x, seed=1))


def test_without_the_distances_the_merges_are_the_same() -> None:
    pytest.importorskip("fastcluster")
    data = np.random.default_rng(0).standard_normal((80, 5))
    np.testing.assert_allclose(merges(data, stored=0), merges(data, stored=80), atol=1e-10)


def test_without_fastcluster_many_samples_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fastcluster", None)
    with pytest.raises(RobustClusterError, match=r"more than 3 samples needs fastcluster \(pip install"):
        merges(np.eye(4), stored=3)


def test_merges_that_cost_the_same_leave_k_clusters() -> None:
    """The corners of a cube: the first four merges all cost 1, and a cut at a height makes all of them or none."""
    corners = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=float)
    for n_clusters in range(1, 9):
        assert len(np.unique(cut(merges(corners, stored=8), n_clusters))) == n_clusters


def test_its_estimate_is_of_all_distances_up_to_as_many_samples_as_it_stores(
    build: Callable[..., ClusterModel],
) -> None:
    config = discover.load("models", "agglomerative").Config
    few, many = build("agglomerative", stored=1797), build("agglomerative", stored=1796)
    assert config().stored == 20_000
    data = 2 * 1797 * 64 * 8
    assert few.needed() == data + 1797 * 1796 // 2 * 8  # type: ignore[operator]
    assert many.needed() == data  # type: ignore[operator]
