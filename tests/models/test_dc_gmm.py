"""DC-GMM's round: what the network descends, and gamma, y, the mixture and u after it."""

from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans
from torch.optim import Adadelta

from robust_cluster.data.base import Batch, DataInfo
from robust_cluster.measure.scores import embed
from robust_cluster.models.autoencoder.dc_gmm import DCGMM
from robust_cluster.models.base import Embedding
from robust_cluster.stages import methods
from tests.models.conftest import widths


def small(**settings: Any) -> DCGMM:
    torch.manual_seed(0)
    settings = {"hidden": [8], "n_init": 1, **settings}
    model = methods.new_model("dc_gmm", settings, DataInfo("toy", ((6,),), 60, 3, None, 1.0, ""), 4)
    assert isinstance(model, DCGMM)
    return model


def begun(vectors: Batch, **settings: Any) -> DCGMM:
    model = small(**settings)
    model.start("cluster", lambda: embed(model, vectors.views), seed=0)
    return model


def test_the_network_is_that_of_the_dec_family_with_a_sigmoid_at_the_code() -> None:
    model = methods.new_model("dc_gmm", {}, DataInfo("toy", ((1, 28, 28),), 100, 10, (0.0, 1.0), 1.0, ""), 10)
    assert isinstance(model, DCGMM)
    assert widths(model.encoder) == [(784, 500), (500, 500), (500, 2000), (2000, 10)]
    assert widths(model.decoder) == [(outputs, inputs) for inputs, outputs in reversed(widths(model.encoder))]
    images = torch.rand(3, 1, 28, 28)
    z = model.encode((10 * images,)).z
    assert 0 < z.min() < z.max() < 1
    assert model.decode(z)[0].shape == images.shape


def test_the_network_descends_both_halves_of_its_objective(vectors: Batch) -> None:
    """1/2 E||x - x_hat||^2 + 0.01 * 1000/2 E||y - f(x) + u||^2 with y and u of the batch's own rows."""
    model = begun(vectors)
    codes = model.codes
    torch.manual_seed(2)
    codes.y.copy_(torch.rand(60, 4))
    codes.u.copy_(torch.randn(60, 4))
    index = torch.tensor([41, 3, 17])
    x = vectors.views[0][index]
    terms = model.losses(Batch((x,), index), "cluster")
    f = model.encoder(x)
    y, u = codes.y[index], codes.u[index]
    expected = {
        "reconstruction": 0.5 * (model.decoder(f) - x).square().sum() / 3,
        "codes": 5 * (y - f + u).square().sum() / 3,
    }
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(model.losses(vectors, "pretrain")["reconstruction"].item(), 2 * half(model, vectors))


def half(model: DCGMM, vectors: Batch) -> float:
    return model.losses(vectors, "cluster")["reconstruction"].item()


def test_the_start_is_k_means_with_its_clusters_covariances(vectors: Batch) -> None:
    model = begun(vectors)
    z = embed(model, vectors.views).z
    labels = torch.as_tensor(KMeans(3, n_init=1, random_state=0).fit_predict(z.numpy()))
    for k in range(3):
        members = z[labels == k]
        torch.testing.assert_close(model.mixture.means[k], members.mean(dim=0))
        covariance = members.T.cov(correction=0) + 1e-5 * torch.eye(4)
        torch.testing.assert_close(model.mixture.covariances[k], covariance, rtol=1e-3, atol=1e-6)
        assert model.mixture.weights[k].item() == pytest.approx(len(members) / 60)
    assert model.codes.y.equal(z)
    assert not model.codes.u.any()


def test_after_an_epoch_come_gamma_y_the_mixture_and_u(vectors: Batch) -> None:
    """Sample by sample with the mixture that the round began with."""
    model = begun(vectors, rho=3.0)
    codes = model.codes
    torch.manual_seed(2)
    codes.u.copy_(0.1 * torch.randn(60, 4))
    y, u = codes.y.clone(), codes.u.clone()
    mixture = {name: value.clone() for name, value in model.mixture.state_dict().items()}
    f = (y + 0.05 * torch.randn(60, 4)).clamp(0, 1)
    gamma = model.assign(y)
    model.after_epoch("cluster", 1, lambda: Embedding(f, ()), seed=0)
    precisions = torch.linalg.inv(mixture["covariances"])
    for i in range(60):
        matrix = 3 * torch.eye(4) + sum(gamma[i, k] * precisions[k] for k in range(3))
        pulls = sum(gamma[i, k] * precisions[k] @ mixture["means"][k] for k in range(3))
        y[i] = torch.linalg.solve(matrix, 3 * (f[i] - u[i]) + pulls)
    torch.testing.assert_close(codes.y, y, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(codes.u, u + 0.5 * (y - f), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.mixture.weights, gamma.mean(dim=0))
    torch.testing.assert_close(model.mixture.means, gamma.T @ y / gamma.sum(dim=0)[:, None], rtol=1e-3, atol=1e-4)
    health = model.health(Embedding(f, ()))
    assert health["residual"] == pytest.approx((y - f).norm(dim=1).mean().item(), rel=1e-3)
    assert health["label_agreement"] == pytest.approx((model.labels(y) == model.labels(f)).float().mean().item())
    assert health["smallest_weight"] == pytest.approx(gamma.mean(dim=0).min().item())
    model.finish("cluster", lambda: Embedding(f, ()), seed=0)
    assert torch.equal(model.fit.labels, model.assign(y).argmax(dim=1))  # type: ignore[arg-type]


def test_a_model_that_was_loaded_has_no_labels_of_its_training() -> None:
    model = small()
    model.finish("cluster", lambda: Embedding(torch.rand(60, 4), ()), seed=0)  # as after a defense
    assert model.fit.labels is None


def test_without_a_round_behind_it_the_codes_are_those_of_the_batch_itself(vectors: Batch) -> None:
    """As in a defense, which trains a model that was loaded."""
    model = begun(vectors, rho=3.0)
    fresh = small(rho=3.0)
    fresh.load_state_dict(model.state_dict())
    z = embed(fresh, vectors.views).z
    target = fresh.mixture.pull(z, fresh.assign(z), 3.0)
    expected = 0.01 * 3 / 2 * (z - target).square().sum() / 60
    torch.testing.assert_close(fresh.losses(vectors, "cluster")["codes"].detach(), expected)


def test_labels_and_their_logarithms_are_the_mixtures_at_the_code(vectors: Batch) -> None:
    model = begun(vectors)
    z = embed(model, vectors.views).z
    assert model.labels(z).equal(model.mixture.log_joint(z).argmax(dim=1))
    torch.testing.assert_close(model.log_assign(z).exp(), model.assign(z))
    assert model.refit_labels(z, seed=0) is None


def test_the_optimizers_are_adam_and_the_scripts_adadelta() -> None:
    model = small()
    (group,) = model.optimizers("cluster")["model"].param_groups
    assert (group["lr"], group["rho"], group["eps"]) == (1.0, 0.9, 1e-7)
    assert isinstance(model.optimizers("cluster")["model"], Adadelta)
    assert model.optimizers("pretrain")["model"].param_groups[0]["lr"] == 1e-3
