"""DCN's loss has the assignments and centers of before, and a batch then moves its centers as a running k-means."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.dcn import DCN
from robust_cluster.models.base import Embedding
from robust_cluster.nn.gradients import term_gradients
from robust_cluster.stages import methods
from tests.models.conftest import Build, widths


@pytest.fixture
def start(build: Build, digits: Dataset) -> Callable[..., DCN]:
    def started(**settings: Any) -> DCN:
        model = build("dcn", n_init=1, **settings)
        model.start("cluster", lambda: embed(model, digits.views), 0)
        return cast(DCN, model)

    return started


def test_the_loss_is_the_published_sum_sample_by_sample(start: Callable[..., DCN], batch: Batch) -> None:
    """In the data's own units, though the network reads scaled rows."""
    model = start(cluster_weight=0.5)
    model.means.labels.copy_(torch.arange(1797) % 10)  # not the nearest
    terms = model.requires_grad_(False).losses(batch, "cluster")
    reconstruction = clustering = 0.0
    for i, x in enumerate(batch.views[0]):
        z = model.encode((x[None],)).z
        reconstruction += float((model.decode(z)[0][0] - x).square().sum()) / 100
        clustering += 0.5 * float((z[0] - model.centers[i % 10]).square().sum()) / 100
    expected = {"reconstruction": pytest.approx(reconstruction, rel=1e-4), "clustering": pytest.approx(clustering)}
    assert {name: term.item() for name, term in terms.items()} == expected


def test_the_start_is_k_means_of_the_shared_pretraining(start: Callable[..., DCN], digits: Dataset) -> None:
    model = start()
    z = embed(model, digits.views).z
    expected = KMeans(10, n_init=1, random_state=int(model.autoencoder.start_seed)).fit(z.numpy())
    torch.testing.assert_close(model.centers, torch.as_tensor(expected.cluster_centers_))
    assert model.means.labels.tolist() == expected.labels_.tolist() == model.labels(z).tolist()
    assert model.pretrained_by == "dec"


def test_a_step_moves_the_network_and_then_the_centers_by_the_new_codes(
    start: Callable[..., DCN], batch: Batch
) -> None:
    """Assignments first, all to the centers of before; then sample by sample (z - mu) / count."""
    model = start(first_count=3)
    centers, counts = model.centers.clone(), [3] * 10
    before = [parameter.clone() for parameter in model.autoencoder.parameters()]
    optimizers = model.optimizers("cluster")
    model.step(batch, "cluster", optimizers)
    changed = [not new.equal(old) for new, old in zip(model.autoencoder.parameters(), before, strict=True)]
    assert all(changed)
    z = model.encode(batch.views).z.detach()
    labels = [min(range(10), key=lambda k: float((code - centers[k]).square().sum())) for code in z]
    for code, k in zip(z, labels, strict=True):
        counts[k] += 1
        centers[k] += (code - centers[k]) / counts[k]
    torch.testing.assert_close(model.centers.detach(), centers, rtol=1e-4, atol=1e-5)
    assert model.means.labels[:100].tolist() == labels
    assert model.means.counts.tolist() == counts


def test_the_stop_and_the_health_know_how_many_samples_left_their_center(
    start: Callable[..., DCN], digits: Dataset
) -> None:
    model = start(tol=0.01)
    embedding = embed(model, digits.views)
    model.after_epoch("cluster", 1, lambda: embedding, 0)
    assert (float(model.changed), model.stop_reason()) == (0.0, "labels settled")
    model.means.labels[:180] = (model.means.labels[:180] + 1) % 10
    model.after_epoch("cluster", 2, lambda: embedding, 0)
    assert model.health(embedding)["labels_changed"] == pytest.approx(180 / 1797)
    assert model.stop_reason() is None


def test_labels_are_the_nearest_centers_and_k_means_is_scored_beside(
    start: Callable[..., DCN], digits: Dataset
) -> None:
    model = start()
    z = embed(model, digits.views).z + 0.3
    assert model.labels(z).equal(torch.cdist(z, model.centers).argmin(dim=1))
    assert model.scores_refit
    assert model.refit_labels(z, seed=3).tolist() == KMeans(10, n_init=1, random_state=3).fit_predict(z).tolist()


def test_after_a_defense_the_centers_follow_the_codes(start: Callable[..., DCN], digits: Dataset) -> None:
    """Which has neither assignments nor counts: the loss then draws to the nearest center."""
    trained = start()
    z = 1.01 * embed(trained, digits.views).z
    centers = trained.centers.clone()
    trained.finish("cluster", lambda: Embedding(z, ()), 0)
    assert trained.centers.equal(centers)
    trained.means.labels.fill_(-1)
    rows = Batch(digits.views, torch.arange(1797))
    nearest = torch.cdist(embed(trained, digits.views).z, centers).square().min(dim=1).values.mean()
    torch.testing.assert_close(trained.losses(rows, "cluster")["clustering"].detach(), nearest, rtol=1e-3, atol=1e-4)
    labels = trained.labels(z)
    trained.finish("cluster", lambda: Embedding(z, ()), 0)
    means = torch.stack([z[labels == k].mean(dim=0) for k in range(10)])
    torch.testing.assert_close(trained.centers.detach(), means, rtol=1e-4, atol=1e-4)


def test_compared_gradients_are_those_of_the_loss_and_of_the_classes_centers(
    start: Callable[..., DCN], batch: Batch
) -> None:
    model = start(cluster_weight=0.5)
    true = F.one_hot(torch.arange(100) % 10, 10).float()
    terms = model.gradient_losses(batch, true)
    weights = dict(zip(("pseudo", "self"), model.loss_weights(), strict=True))
    whole = term_gradients(model.losses(batch, "cluster"), model.gradient_parameters())
    parts = term_gradients(terms, model.gradient_parameters())
    torch.testing.assert_close(whole["clustering"], weights["pseudo"] * parts["pseudo"])
    torch.testing.assert_close(whole["reconstruction"], weights["self"] * parts["self"])
    z = model.encode(batch.views).z
    torch.testing.assert_close(terms["sup"], (z - model.centers[torch.arange(100) % 10]).square().sum() / 100)


def test_the_published_network_and_schedule() -> None:

    config = methods.resolve("models", "dcn", "paper", {})
    assert (config.cluster.epochs, config.cluster.batch_size, config.cluster.lr) == (50, 256, 1e-4)
    assert (config.optimizer, config.momentum, config.first_count, config.tol) == ("sgd", 0.9, 100, 0.0)
    model = methods.new_model("dcn", {}, DataInfo("toy", ((784,),), 100, 10, None, 1.0, ""), 10)
    assert isinstance(model, DCN)
    assert widths(model.autoencoder.encoder) == [(784, 500), (500, 500), (500, 2000), (2000, 10)]
