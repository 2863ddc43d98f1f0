"""VAE + k-means: a negative ELBO trained while clustering, then k-means on the means."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch.distributions import Normal, kl_divergence

from robust_cluster.data.base import Batch, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.variational.vae_kmeans import Config, VAEKMeans
from robust_cluster.stages.chain import Request, plan
from tests.models.conftest import Build


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_the_loss_is_the_negative_evidence_bound_of_one_draw(digits: Dataset, batch: Batch, bounds: Any) -> None:
    torch.manual_seed(0)
    model = VAEKMeans(Config(hidden=(32,)), replace(digits.info, bounds=bounds), 8)
    x = batch.views[0] if bounds is None else batch.views[0] / batch.views[0].max()
    torch.manual_seed(1)
    terms = model.losses(Batch((x,), batch.index), "cluster")
    torch.manual_seed(1)
    mean, log_var = model.network.encode(x)
    decoded = model.network.decode(mean + (0.5 * log_var).exp() * torch.randn(100, 8))
    error = F.mse_loss if bounds is None else F.binary_cross_entropy
    divergence = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum() / 100
    assert list(terms) == ["reconstruction", "kl"]
    torch.testing.assert_close(terms["reconstruction"], error(decoded, x, reduction="sum") / 100)
    torch.testing.assert_close(terms["kl"], divergence)


def test_it_trains_while_clustering_so_that_a_defense_can_train_it_on(digits: Dataset) -> None:
    planned = plan(Request("reattack", digits.ref, "vae_kmeans"), digits.info)
    assert [spec.stage for spec in planned] == ["cluster", "attack", "defend", "reattack"]
    assert (Config().cluster.epochs, Config().cluster.batch_size, Config().cluster.lr) == (100, 256, 1e-3)


def test_pretraining_it_is_refused(digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="vae_kmeans has no pretraining"):
        plan(Request("pretrain", digits.ref, "vae_kmeans"), digits.info)


def test_the_largest_soft_label_is_k_means_label_on_the_mean(build: Build, digits: Dataset) -> None:
    model = build("vae_kmeans", n_init=2)
    z = embed(model, digits.views).z
    torch.testing.assert_close(model.assign(z), torch.full((1797, 10), 0.1))  # not fitted yet
    assert not model.knows_labels()
    model.finish("cluster", lambda: embed(model, digits.views), seed=3)
    assert model.knows_labels()
    expected = KMeans(10, n_init=2, random_state=3).fit_predict(z.numpy()).tolist()
    assert model.labels(z).tolist() == expected
    torch.testing.assert_close(model.log_assign(z), model.assign(z).log())
    again = model.refit_labels(z, seed=3)
    assert again is not None
    assert again.tolist() == expected


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_equal_samples_give_soft_labels_that_are_finite(build: Build, digits: Dataset) -> None:
    model, same = build("vae_kmeans", n_init=1), (digits.views[0][:1].repeat(30, 1),)
    embedding = embed(model, same)
    model.finish("cluster", lambda: embedding, seed=0)
    assert model.assign(embedding.z).isfinite().all()


def test_a_collapsed_dimension_shows_in_the_health(build: Build, batch: Batch) -> None:
    model = cast(VAEKMeans, build("vae_kmeans"))
    with torch.no_grad():
        model.network.log_var.weight.zero_()
        model.network.log_var.bias.zero_()
        embedding = model.encode(batch.views)
    assert model.health(embedding) == {"posterior_std": 1.0}


@pytest.mark.parametrize("name", ["vae_kmeans", "vade", "lpvdn"])
def test_a_sigmoid_for_data_without_bounds_is_refused(build: Build, name: str) -> None:
    with pytest.raises(ConfigError, match=r"output 'sigmoid' needs data in \[0, 1\], digits has no such bounds") as hit:
        build(name, output="sigmoid")
    assert "--set model.output=linear" in str(hit.value)


@pytest.mark.parametrize("name", ["vae_kmeans", "vade", "lpvdn"])
def test_the_output_follows_the_data_unless_it_is_set(build: Build, digits: Dataset, name: str) -> None:
    assert not cast(Any, build(name)).network.is_bounded
    pixels = replace(digits.info, bounds=(0.0, 1.0))
    for output, expected in {"auto": True, "sigmoid": True, "linear": False}.items():
        assert VAEKMeans(Config(output=output, hidden=(8,)), pixels, 2).network.is_bounded is expected  # type: ignore[arg-type]
