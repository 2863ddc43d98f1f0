"""The warm-up's losses, and k-means on the encoder's means."""

import pytest
import torch
from sklearn.cluster import KMeans
from torch.distributions import Normal, kl_divergence

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.ae_kmeans import AEKMeans
from tests.models.conftest import Build


def test_the_largest_soft_label_is_k_means_label_on_the_embedding(build: Build, digits: Dataset) -> None:
    model = build("ae_kmeans", n_init=2)
    model.finish("cluster", lambda: embed(model, digits.views), seed=3)
    z = embed(model, digits.views).z
    assert z.shape == (1797, 8)
    assert model.labels(z).tolist() == KMeans(10, n_init=2, random_state=3).fit_predict(z.numpy()).tolist()


def test_pretraining_does_not_fit_centers(build: Build, digits: Dataset) -> None:
    model = build("ae_kmeans")
    model.start("pretrain", lambda: embed(model, digits.views), seed=3)
    assert model.get_buffer("centers").count_nonzero() == 0


def test_the_autoencoder_warm_up_decodes_the_mean(build: Build, batch: Batch) -> None:
    model = build("ae_kmeans", warmup="ae")
    terms = model.losses(batch, "pretrain")
    x = batch.views[0]
    expected = 2.5 * (model.decode(model.encode((x,)).z)[0] - x).square().sum() / 100
    assert {name: pytest.approx(term.item()) for name, term in terms.items()} == {"reconstruction": expected.item()}


def test_the_variational_warm_up_decodes_a_draw_and_pays_its_divergence(build: Build, batch: Batch) -> None:
    model = build("ae_kmeans", warmup="vae")
    assert isinstance(model, AEKMeans)
    x = batch.views[0]
    torch.manual_seed(1)
    terms = model.losses(batch, "pretrain")
    torch.manual_seed(1)
    mean, log_var = model.autoencoder.encode(x)
    drawn = mean + (0.5 * log_var).exp() * torch.randn(100, 8)
    expected = 2.5 * (model.decode(drawn)[0] - x).square().sum() / 100
    divergence = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum() / 100
    assert list(terms) == ["reconstruction", "kl"]
    torch.testing.assert_close(terms["reconstruction"], expected)
    torch.testing.assert_close(terms["kl"], divergence)
