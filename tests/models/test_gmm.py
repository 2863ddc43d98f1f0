"""The mixture as a model gives scikit-learn's own labels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.mixture import GaussianMixture

from robust_cluster.data.base import DataInfo, Dataset
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.models.shallow.gmm import GMM, Config


@pytest.mark.parametrize("covariance", ["diag", "spherical", pytest.param("full", marks=pytest.mark.slow)])
def test_labels_and_soft_labels_are_scikit_learns(
    build: Callable[..., ClusterModel], digits: Dataset, covariance: Any
) -> None:
    model = build("gmm", covariance=covariance, ridge=0.01, n_init=1)
    x = digits.views[0][:500]
    model.start("cluster", lambda: model.encode((x,)), seed=3)
    variance = float(x.double().var(dim=0, correction=0).mean())
    expected = GaussianMixture(10, covariance_type=covariance, reg_covar=0.01 * variance, random_state=3, max_iter=200)
    labels = expected.fit_predict(x.double().numpy())
    z = model.encode((x,)).z
    assert model.labels(z).tolist() == labels.tolist()
    soft = torch.as_tensor(expected.predict_proba(x.double().numpy())).float()
    torch.testing.assert_close(model.assign(z), soft, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(model.log_assign(z).exp(), model.assign(z))
    assert model.log_assign(z).isfinite().all()
    assert model.refit_labels(z, seed=3).tolist() == labels.tolist()  # type: ignore[union-attr]
    assert model.health(Embedding(z, ())) == {
        "has_converged": float(expected.converged_),
        "smallest_weight": pytest.approx(expected.weights_.min(), rel=1e-5),
    }


def test_em_that_was_cut_short_says_so(build: Callable[..., ClusterModel], digits: Dataset) -> None:
    model = build("gmm", max_iter=1, n_init=1)
    model.start("cluster", lambda: model.encode(digits.views), seed=3)
    assert model.health(model.encode(digits.views))["has_converged"] == 0


def test_views_stand_side_by_side_and_come_back_in_their_shapes() -> None:
    model = GMM(Config(), DataInfo("toy", ((1, 2, 2), (3,)), 6, 2, None, 1.0, ""), 0)
    views = (torch.randn(6, 1, 2, 2), torch.randn(6, 3))
    z = model.encode(views).z
    assert z.shape == (6, 7)
    assert all(part.equal(view) for part, view in zip(model.decode(z), views, strict=True))
