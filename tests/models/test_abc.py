"""ABC's loss is Eq. 3 of DCAN, and its centers are the means of what is nearest to them."""

from typing import cast

import pytest
import torch
from sklearn.cluster import KMeans
from torch.distributions import Normal, kl_divergence

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.abc import AutoencoderBasedClustering, Config, half_squared_distance
from robust_cluster.models.base import Embedding
from tests.models.conftest import Build


@pytest.fixture
def model(build: Build) -> AutoencoderBasedClustering:
    model = cast(AutoencoderBasedClustering, build("abc", n_init=1))
    torch.nn.init.normal_(model.centers)
    return model


def test_the_loss_is_the_published_sum_sample_by_sample(model: AutoencoderBasedClustering, batch: Batch) -> None:
    model.requires_grad_(False)
    terms = model.losses(batch, "cluster")
    reconstruction = clustering = 0.0
    for x in batch.views[0]:
        z = model.encode((x[None],)).z[0]
        decoded = model.decode(z[None])[0][0]
        reconstruction += 0.5 * float((x - decoded).square().mean()) / 100
        clustering += 0.1 * 0.5 * min(float((z - center).square().sum()) for center in model.centers) / 100
    expected = {"reconstruction": pytest.approx(reconstruction), "clustering": pytest.approx(clustering, rel=1e-4)}
    assert {name: term.item() for name, term in terms.items()} == expected
    model.config = Config(recon="sum")
    assert model.losses(batch, "cluster")["reconstruction"].item() == pytest.approx(64 * reconstruction)


def test_half_the_squared_distance_is_the_divergence_of_two_unit_gaussians() -> None:
    """DCAN's Lemma 1: KL(N(eta, I) || N(z, I))."""
    torch.manual_seed(0)
    z, center = torch.randn(1, 3), torch.randn(1, 3)
    expected = kl_divergence(Normal(center, 1.0), Normal(z, 1.0)).sum()
    torch.testing.assert_close(half_squared_distance(z, center), expected)


def test_a_code_is_drawn_to_its_nearest_center_and_the_centers_stay() -> None:
    z = torch.tensor([[1.0, 0.0], [9.0, 0.0]], requires_grad=True)
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0]], requires_grad=True)
    half_squared_distance(z, centers).backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[0.5, 0.0], [-0.5, 0.0]]
    assert centers.grad is None


def test_the_start_is_k_means_and_an_epoch_moves_the_centers_to_the_means(build: Build, digits: Dataset) -> None:
    model = cast(AutoencoderBasedClustering, build("abc", n_init=2))
    z = embed(model, digits.views).z
    model.start("cluster", lambda: Embedding(z, ()), seed=3)
    expected = KMeans(10, n_init=2, random_state=3).fit(z.numpy())
    torch.testing.assert_close(model.centers, torch.as_tensor(expected.cluster_centers_))
    assert model.labels(z).tolist() == expected.labels_.tolist()
    moved = z + 0.2 * torch.randn_like(z)
    labels = model.labels(moved)
    model.after_epoch("cluster", 1, lambda: Embedding(moved, ()), seed=3)
    means = torch.stack([moved[labels == k].mean(dim=0) for k in range(10)])
    torch.testing.assert_close(model.centers, means, rtol=1e-4, atol=1e-4)
    assert model.variance.item() == pytest.approx((moved - means[labels]).square().mean().item(), rel=1e-4)
    assert model.refit_labels(z, seed=3).tolist() == expected.labels_.tolist()


def test_it_starts_from_the_network_that_its_rivals_start_from(model: AutoencoderBasedClustering, batch: Batch) -> None:
    assert model.pretrained_by == "ae_kmeans"
    x = batch.views[0]
    expected = 2.5 * (model.decode(model.encode((x,)).z)[0] - x).square().sum() / 100
    torch.testing.assert_close(model.losses(batch, "pretrain"), {"reconstruction": expected})


def test_health_tells_when_the_codes_shrink(model: AutoencoderBasedClustering) -> None:
    with torch.no_grad():
        model.centers.zero_()
        assert model.health(Embedding(torch.zeros(4, 8), ())) == {"center_spread": 0.0, "half_squared_distance": 0.0}
        assert model.health(Embedding(torch.ones(4, 8), ()))["half_squared_distance"] == 4
