"""SR-k-means' loss, assignments, centers and labels, against loops over samples and clusters."""

import math

import pytest
import torch

from robust_cluster.data.base import Batch
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.sr_kmeans import SRKMeans
from robust_cluster.stages import methods
from tests.models.test_depict import images as images
from tests.models.test_depict import small


@pytest.fixture
def begun(images: Batch) -> SRKMeans:
    model = small(name="sr_kmeans", temperature=0.1)
    assert isinstance(model, SRKMeans)
    model.start("cluster", lambda: embed(model, images.views), seed=5)
    return model


def squares(z: torch.Tensor, model: SRKMeans) -> list[list[float]]:
    return [[float((row - center).square().sum()) for center in model.centers] for row in z]


def test_the_cost_is_the_soft_distance_less_the_length_over_lambda_k(begun: SRKMeans) -> None:
    torch.manual_seed(0)
    z, q = torch.randn(7, 5), torch.randn(7, 3).softmax(dim=1)
    distances = squares(z, begun)
    expected = [
        (sum(float(q[i, k]) * distances[i][k] for k in range(3)) - float(z[i].square().sum())) / 0.3 for i in range(7)
    ]
    assert begun.costs(z, q).tolist() == pytest.approx(expected, rel=1e-4)


def test_a_refresh_takes_q_by_the_old_centers_and_then_the_centers_by_q(begun: SRKMeans, images: Batch) -> None:
    z = embed(begun, images.views).z
    weights = [[math.exp(-value / 0.3) for value in row] for row in squares(z, begun)]
    q = torch.tensor([[value / sum(row) for value in row] for row in weights])
    begun.refresh(z)
    torch.testing.assert_close(begun.alternation.targets, q)
    centers = [sum(q[i, k] * z[i] for i in range(120)) / q[:, k].sum() for k in range(3)]
    torch.testing.assert_close(begun.centers, torch.stack(centers), rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
    torch.testing.assert_close(begun.shares, q.mean(dim=0))
    before = begun.soft_labels(z)
    begun.refresh(z)
    torch.testing.assert_close(begun.change, (before - q).square().mean())


def test_labels_are_the_codes_own_scores(begun: SRKMeans, images: Batch) -> None:
    z = embed(begun, images.views).z
    scores = [
        [float(row @ begun.centers[k]) / 0.3 + 0.5 * math.log(float(begun.shares[k])) for k in range(3)] for row in z
    ]
    torch.testing.assert_close(begun.assign(z), torch.tensor(scores).softmax(dim=1), rtol=1e-4, atol=1e-5)
    assert begun.labels(z).tolist() == [row.index(max(row)) for row in scores]


def test_the_start_is_k_means_with_its_shares(begun: SRKMeans, images: Batch) -> None:
    z, labels = embed(begun, images.views).z, begun.alternation.labels
    means = torch.stack([z[labels == k].mean(dim=0) for k in range(3)])
    torch.testing.assert_close(begun.centers, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(begun.shares, torch.bincount(labels) / 120)


def test_an_empty_cluster_keeps_its_center_and_finite_labels(begun: SRKMeans) -> None:
    begun.centers[2] = 1e6
    begun.refresh(torch.zeros(120, 5))
    assert begun.centers[2].tolist() == [1e6] * 5
    assert begun.log_assign(torch.zeros(2, 5)).isfinite().all()


def test_the_pretraining_is_depicts_and_what_is_descended_the_autoencoder(begun: SRKMeans) -> None:
    assert begun.pretrained_by == "depict"
    (group,) = begun.optimizers("cluster")["model"].param_groups
    assert len(group["params"]) == len(list(begun.autoencoder.parameters()))
    config = methods.resolve("models", "sr_kmeans", "paper", {})
    assert (config.temperature, config.tol, config.cluster.epochs, config.cluster.lr) == (1e-4, 1e-5, 500, 1e-3)


def test_in_a_defense_q_comes_from_the_clean_code(begun: SRKMeans, images: Batch) -> None:
    fresh = small(name="sr_kmeans", temperature=0.1)
    fresh.load_state_dict(begun.state_dict())
    torch.manual_seed(3)
    found = fresh.losses(images, "cluster")["clustering"]
    torch.manual_seed(3)
    noisy = fresh.autoencoder.encode(fresh.images(images.views), noisy=True)[-1]
    q = fresh.soft_labels(embed(fresh, images.views).z)
    torch.testing.assert_close(found, fresh.costs(noisy, q).mean())
