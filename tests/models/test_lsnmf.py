"""NMF: scikit-learn's factor, coefficients by SciPy's non-negative least squares, columns below 0, sparse data."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF

from robust_cluster.data.base import DataInfo, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.models.base import Embedding
from robust_cluster.models.shallow.lsnmf import LSNMF, Config


@pytest.fixture
def x(few_digits: Dataset) -> torch.Tensor:
    view = few_digits.views[0]
    assert isinstance(view, torch.Tensor)
    return view


def fitted(x: torch.Tensor, n_clusters: int = 10, **settings: Any) -> LSNMF:
    model = LSNMF(Config(**settings), DataInfo("toy", ((x.shape[1],),), len(x), n_clusters, None, 1.0, ""), 0)
    model.start("cluster", lambda: Embedding(x, (x,)), seed=3)
    return model


def coefficients(x: torch.Tensor, model: LSNMF) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    factor = model.factor.double().numpy().T
    return np.array([nnls(factor, row)[0] for row in (x + model.shift).double().numpy()])


def test_the_label_is_the_largest_coefficient_on_sklearns_factor_with_unit_rows(x: torch.Tensor) -> None:
    model = fitted(x, max_iter=50)
    other = NMF(10, init="nndsvda", max_iter=50, random_state=3)
    with pytest.warns(Warning, match="Maximum number of iterations"):
        other.fit(x.numpy())
    unit = other.components_ / np.linalg.norm(other.components_, axis=1, keepdims=True)
    np.testing.assert_allclose(model.factor, unit, atol=1e-5)
    expected = coefficients(x, model)
    assert model.labels(x).tolist() == expected.argmax(axis=1).tolist()
    scores = model.scores(x) * model.unit
    np.testing.assert_allclose(scores.clamp_min(0), expected, rtol=1e-4, atol=1e-5)
    assert ((scores > 0).numpy() == (expected > 0)).all()
    assert model.assign(x).argmax(dim=1).equal(model.labels(x))
    assert model.health(Embedding(x, (x,))) == {"has_converged": 0, "shifted_columns": 0}


def test_labels_of_kmeans_are_those_on_the_unit_coefficients(x: torch.Tensor) -> None:
    model = fitted(x, max_iter=50, labels="kmeans")
    expected = coefficients(x, model)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    other = KMeans(10, n_init=10, random_state=3).fit(expected)
    assert model.labels(x).tolist() == other.labels_.tolist()
    np.testing.assert_allclose(model.centers, other.cluster_centers_, atol=1e-4)
    assert model.labels(x).ne(fitted(x, max_iter=50).labels(x)).any()
    assert model.labels(x.to_sparse_csr()).equal(model.labels(x))
    nothing = torch.zeros(1, 64)
    assert model.log_assign(nothing).isfinite().all()


def test_most_labels_are_those_of_the_alternation_itself(x: torch.Tensor) -> None:
    """Its W was found for the H of the pass before, ours for the last."""
    model, other = fitted(x, max_iter=300), NMF(10, init="nndsvda", max_iter=300, random_state=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = other.fit_transform(x.numpy()) * np.linalg.norm(other.components_, axis=1)
    assert (weights.argmax(axis=1) == model.labels(x).numpy()).mean() > 0.97


def test_columns_below_0_are_shifted_by_their_least_value_and_told(x: torch.Tensor) -> None:
    below = x.clone()
    below[:, 3] -= 2
    below[:, 5] += 1
    model, plain = fitted(below, max_iter=20), fitted(x + torch.eye(64)[5], max_iter=20)
    assert model.shift.nonzero().tolist() == [[3]]
    assert model.shift[3] == 2 - x[:, 3].min()
    assert model.labels(below).equal(plain.labels(x + torch.eye(64)[5]))
    assert model.health(Embedding(below, (below,)))["shifted_columns"] == 1


def test_sparse_data_have_the_same_labels_and_are_not_made_dense(x: torch.Tensor) -> None:
    sparse = x.to_sparse_csr()
    model = fitted(sparse, max_iter=20)
    assert model.labels(sparse).equal(fitted(x, max_iter=20).labels(x))
    values = x.clone()
    values[0, 0] = -1
    with pytest.raises(ConfigError, match="lsnmf takes no sparse data with values below 0"):
        fitted(values.to_sparse_csr())


def test_a_point_that_no_component_is_part_of_has_a_finite_label_and_slope(x: torch.Tensor) -> None:
    model = fitted(x, max_iter=20)
    z = torch.stack([torch.zeros(64), -x[0]]).requires_grad_()
    logs = model.log_assign(z)
    logs.max(dim=1).values.sum().backward()
    assert logs.isfinite().all()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert (z.grad.abs().sum(dim=1) > 0).all()


def test_more_clusters_than_columns_begin_at_random() -> None:
    torch.manual_seed(0)
    x = torch.rand(30, 2)
    assert fitted(x, 3).labels(x).unique().numel() > 1


@pytest.mark.parametrize("labels", ["largest", "kmeans"])
def test_soft_labels_have_the_precision_and_the_slope_of_their_points(x: torch.Tensor, labels: str) -> None:
    """Also across the points' own coordinates that are 0 and the coefficients that are."""
    model = fitted(x, max_iter=20, labels=labels).double()
    points = (x[:3, 10:13].double() + 0.01).requires_grad_()
    before, after = x[:3, :10].double(), x[:3, 13:].double()
    assert torch.autograd.gradcheck(lambda part: model.assign(torch.cat([before, part, after], dim=1)), (points,))
    assert model.assign(x.double()).dtype == model.log_assign(x.double()).dtype == torch.float64
    assert model.assign(x).dtype == torch.float32
