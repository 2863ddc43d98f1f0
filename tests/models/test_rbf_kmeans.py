"""Kernel k-means: with a linear kernel it is k-means, with a Gaussian one the distances are those of the features."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_circles
from sklearn.metrics.pairwise import rbf_kernel

from robust_cluster.data.base import DataInfo, Dataset
from robust_cluster.metrics.ari import ari
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.shallow.rbf_kmeans import Config, RBFKMeans, first_labels, kernel, lloyd


def test_with_a_linear_kernel_it_is_k_means_from_the_same_start(digits: Dataset) -> None:
    view = digits.views[0]
    assert isinstance(view, torch.Tensor)
    x = view.double()
    values = x @ x.T
    first = first_labels(values, 10, torch.Generator().manual_seed(0))
    labels, total = lloyd(values, first, 10, max_iter=100)
    means = np.stack([x[first == k].mean(dim=0).numpy() for k in range(10)])
    expected = KMeans(10, init=means, n_init=1, tol=0, algorithm="lloyd").fit(x.numpy())
    assert labels.tolist() == expected.labels_.tolist()
    assert total == pytest.approx(expected.inertia_, rel=1e-6)


def test_the_kernel_is_sklearns() -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 5) + 100
    torch.testing.assert_close(
        kernel(x, 0.2), torch.from_numpy(rbf_kernel(x.double().numpy(), gamma=0.2)).float(), rtol=1e-3, atol=1e-5
    )


def test_its_width_is_one_over_the_mean_squared_norm_or_the_median_distance() -> None:
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])  # squared norms 0, 4, 16, squared distances 4, 16, 20
    info = DataInfo("three", ((2,),), 3, 2, None, 1.0, "")
    assert RBFKMeans(Config(), info, 0).rate(x) == np.float32(3 / 20)
    assert RBFKMeans(Config(width="median"), info, 0).rate(x) == 1 / 16


def test_starts_are_drawn_far_apart_and_every_cluster_has_its_own() -> None:
    x = torch.cat([torch.zeros(50, 2), torch.full((50, 2), 9.0), torch.tensor([[-9.0, 9.0]]).repeat(50, 1)])
    for seed in range(10):
        labels = first_labels(kernel(x, 1.0), 3, torch.Generator().manual_seed(seed))
        assert [labels[rows].unique().numel() for rows in torch.arange(150).split(50)] == [1, 1, 1]
        assert labels.unique().numel() == 3


def test_a_cluster_that_is_empty_takes_the_farthest_sample() -> None:
    x = torch.tensor([[0.0], [0.1], [0.2], [5.0]])
    labels, _ = lloyd(x @ x.T, torch.zeros(4, dtype=torch.int64), 2, max_iter=10)
    assert labels.tolist() == [0, 0, 0, 1]


def test_it_finds_a_ring_around_a_disc() -> None:
    x, truth = make_circles(200, factor=0.1, noise=0.02, random_state=0)
    values = kernel(torch.as_tensor(x).float(), 3.0)
    generator = torch.Generator().manual_seed(0)
    starts = [first_labels(values, 2, generator) for _ in range(10)]
    labels, _ = min((lloyd(values, first, 2, max_iter=100) for first in starts), key=lambda found: found[1])
    assert ari(truth, labels.numpy()) == 1


def test_the_best_of_several_starts_counts(build: Callable[..., ClusterModel], few_digits: Dataset) -> None:
    x = few_digits.views[0]
    assert isinstance(x, torch.Tensor)
    one, best = build("rbf_kmeans", n_init=1), build("rbf_kmeans", n_init=4)
    assert isinstance(best, RBFKMeans)
    values = kernel(x, best.rate(x))
    totals = []
    for model in (one, best):
        model.start("cluster", lambda: Embedding(x, (x,)), seed=3)
        assert model.fit.labels is not None
        totals.append(lloyd(values, model.fit.labels, 10, max_iter=1)[1])
    assert totals[1] <= totals[0]
