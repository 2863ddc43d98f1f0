"""Spectral clustering: circles that k-means cannot part, the graph by hand, scikit-learn's clusters."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import make_circles

from robust_cluster.data.base import DataInfo, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.metrics.ari import ari
from robust_cluster.models.shallow.spectral import Config, Spectral, neighbor_graph


def test_it_parts_two_circles_and_says_that_the_graph_has_two_parts() -> None:
    x, truth = make_circles(300, factor=0.4, noise=0.03, random_state=0)
    model = Spectral(Config(), DataInfo("circles", ((2,),), 300, 2, None, 1.0, ""), 0)
    model.start("cluster", lambda: model.encode((torch.as_tensor(x).float(),)), seed=0)
    assert model.fit.labels is not None
    assert ari(truth, model.fit.labels.numpy()) == 1
    assert model.health(model.encode((torch.zeros(1, 2),))) == {"graph_parts": 2}


def test_the_graph_joins_each_sample_to_its_neighbors_and_not_to_itself() -> None:
    """On a line at 0, 1, 3: 0 and 1 are each other's nearest, 3 has 1, which does not have it back."""
    graph = neighbor_graph(np.array([[0.0], [1.0], [3.0]]), 1).toarray()
    assert graph.tolist() == [[0, 1, 0], [1, 0, 0.5], [0, 0.5, 0]]


@pytest.mark.slow
def test_on_digits_it_is_k_means_on_dense_eigenvectors(few_digits: Dataset) -> None:
    x = few_digits.views[0]
    assert isinstance(x, torch.Tensor)
    model = Spectral(Config(), few_digits.info, 0)
    model.start("cluster", lambda: model.encode((x,)), seed=0)
    graph = neighbor_graph(x.numpy(), 10).toarray()
    degrees = graph.sum(axis=1)
    vectors = np.linalg.eigh(graph / np.sqrt(degrees[:, None] * degrees))[1][:, -10:]
    expected = KMeans(10, n_init=20, random_state=0).fit_predict(
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    )
    assert model.fit.labels is not None
    assert ari(expected, model.fit.labels.numpy()) == 1


def test_on_digits_it_agrees_with_sklearns_own_way_of_it(few_digits: Dataset) -> None:
    """Which scales the eigenvectors otherwise; 1 would be the same clusters, 0 unrelated ones."""
    x = few_digits.views[0]
    assert isinstance(x, torch.Tensor)
    model = Spectral(Config(), few_digits.info, 0)
    model.start("cluster", lambda: model.encode((x,)), seed=0)
    graph = neighbor_graph(x.numpy(), 10)
    other = SpectralClustering(10, affinity="precomputed", random_state=0).fit_predict(graph)
    assert model.fit.labels is not None
    assert ari(other, model.fit.labels.numpy()) > 0.8


def test_more_neighbors_than_others_are_refused() -> None:
    info = DataInfo("few", ((2,),), 5, 2, None, 1.0, "")
    with pytest.raises(ConfigError, match=r"neighbors must be in \[1, n_samples - 1\] = \[1, 4\], got 10 \(--set"):
        Spectral.check(Config(), info)
