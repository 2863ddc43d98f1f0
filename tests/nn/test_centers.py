"""k-means and the soft labels of its centers, against scikit-learn."""

import warnings

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.distributions import MultivariateNormal

from robust_cluster.data.base import Batch
from robust_cluster.nn.centers import RunningMeans, center_posterior, kmeans, log_center_posterior


def test_kmeans_is_scikit_learns_with_its_inertia_per_value(batch: Batch) -> None:
    x = batch.views[0]
    centers, labels, variance = kmeans(x, 10, n_init=3, seed=5)
    expected = KMeans(10, n_init=3, random_state=5).fit(x.numpy())
    assert labels.tolist() == expected.labels_.tolist()
    torch.testing.assert_close(centers, torch.as_tensor(expected.cluster_centers_))
    distances = (x - centers[labels]).square().mean()
    torch.testing.assert_close(torch.tensor(variance), distances)


def test_soft_labels_of_centers_are_the_posterior_of_equal_spherical_gaussians() -> None:
    z, centers, variance = torch.randn(7, 3).double(), torch.randn(4, 3).double(), torch.tensor(0.7).double()
    components = MultivariateNormal(centers, variance * torch.eye(3).double())
    densities: Tensor = components.log_prob(z.unsqueeze(1)).exp()
    torch.testing.assert_close(center_posterior(z, centers, variance), densities / densities.sum(dim=1, keepdim=True))


def test_log_labels_are_the_logarithms_of_the_soft_labels_and_finite_where_those_underflow() -> None:
    centers, variance = torch.tensor([[0.0, 0.0], [30.0, 0.0]]), torch.tensor(1.0)
    near, far = torch.tensor([[14.0, 1.0]]), torch.tensor([[-10.0, 0.0]])
    torch.testing.assert_close(
        log_center_posterior(near, centers, variance), center_posterior(near, centers, variance).log()
    )
    assert center_posterior(far, centers, variance)[0, 1] == 0
    # ||z - m_0||^2 = 100, ||z - m_1||^2 = 1600
    torch.testing.assert_close(log_center_posterior(far, centers, variance)[0, 1], torch.tensor(-750.0))


@pytest.mark.parametrize(
    "z",
    [
        torch.tensor([[0.0, 0.0], [10.0, 10.0]]).repeat(5, 1),
        torch.ones(6, 2),
        torch.zeros(6, 2),
        torch.full((6, 2), 1e-20),
    ],
)
def test_samples_that_lie_on_their_centers_have_soft_labels(z: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer points than clusters: what a collapse looks like
        centers, labels, variance = kmeans(z, 2, n_init=1, seed=0)
    soft = center_posterior(z, centers, torch.tensor(variance))
    assert torch.allclose(soft.sum(dim=1), torch.ones(len(z)))
    if len(z.unique(dim=0)) == 2:
        assert torch.equal(soft.argmax(dim=1), labels)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_far_from_the_origin_soft_labels_are_as_sharp_as_at_it(offset: float) -> None:
    z = torch.randn(300, 3) + torch.tensor([offset, 0.0, 0.0])
    centers, labels, variance = kmeans(z, 4, n_init=3, seed=0)
    assert variance == pytest.approx(float((z - centers[labels]).square().mean()), rel=1e-3)
    exact = -0.5 * torch.cdist(z.double(), centers.double()).square() / variance
    torch.testing.assert_close(
        center_posterior(z, centers, torch.tensor(variance)), exact.softmax(dim=1).float(), atol=1e-4, rtol=1e-4
    )


def test_a_center_that_takes_all_samples_is_their_running_mean() -> None:
    """Over several batches; what it counted for in the beginning weighs as so many samples on its first place."""
    z = torch.randn(50, 3, dtype=torch.float64) + 5
    means, centers = RunningMeans(50, 2, 4), torch.tensor([[4.0, 4, 4], [-99, 0, 0]], dtype=torch.float64)
    assert not means.is_begun
    for rows in torch.arange(50).split(20):
        means.update(rows, z[rows], centers)
    expected = (4 * torch.full((3,), 4.0, dtype=torch.float64) + z.sum(dim=0)) / 54
    torch.testing.assert_close(centers[0], expected)
    assert centers[1].tolist() == [-99, 0, 0]
    assert means.counts.tolist() == [54, 4]
    assert means.is_begun
    assert not means.labels.any()


def test_a_row_without_a_center_gets_the_nearest_and_the_others_keep_theirs() -> None:
    means = RunningMeans(3, 2, 1)
    means.labels[:] = torch.tensor([1, -1, 0])
    z, centers = torch.tensor([[0.1], [0.9], [0.8]]), torch.tensor([[0.0], [1.0]])
    assert means.of(torch.tensor([0, 1, 2]), z, centers).tolist() == [1, 1, 0]


def test_k_means_ends_after_the_passes_that_it_is_given() -> None:
    z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    found = [kmeans(z, 8, n_init=1, seed=0, max_iter=passes)[0] for passes in (1, 300)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = KMeans(8, n_init=1, random_state=0, max_iter=1).fit(z.numpy()).cluster_centers_
    torch.testing.assert_close(found[0], torch.as_tensor(expected))
    assert not found[0].equal(found[1])
