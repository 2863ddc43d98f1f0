"""An embedding in torch's CSR layout gives what its dense form gives."""

import pytest
import scipy.sparse
import torch
from sklearn.datasets import make_blobs
from torch import Tensor

from robust_cluster.data.sparse import canonical, view_of
from robust_cluster.nn.centers import center_posterior, kmeans
from robust_cluster.nn.sparse import column_variance, row_norms, scipy_csr


@pytest.fixture
def dense() -> Tensor:
    points, _ = make_blobs(60, 5, centers=3, random_state=1)
    z = torch.tensor(points, dtype=torch.float32)
    z[z.abs() < 3] = 0
    z[7] = 0
    return z


@pytest.fixture
def sparse(dense: Tensor) -> Tensor:
    return view_of(canonical(scipy.sparse.csr_array(dense.numpy()))).csr()


def test_moments_are_those_of_the_dense_form(dense: Tensor, sparse: Tensor) -> None:
    torch.testing.assert_close(column_variance(sparse), dense.var(dim=0))
    torch.testing.assert_close(row_norms(sparse), dense.norm(dim=1))
    assert torch.equal(column_variance(dense), dense.var(dim=0))
    assert torch.equal(row_norms(dense), dense.norm(dim=1))


def test_scipys_form_has_the_same_entries(dense: Tensor, sparse: Tensor) -> None:
    assert torch.equal(torch.from_numpy(scipy_csr(sparse).toarray()), dense)


def test_kmeans_of_the_sparse_form_finds_the_centers_of_the_dense_one(dense: Tensor, sparse: Tensor) -> None:
    centers, labels, variance = kmeans(sparse, 3, n_init=4, seed=0)
    expected, dense_labels, dense_variance = kmeans(dense, 3, n_init=4, seed=0)
    order = [int(labels[dense_labels == k].mode().values) for k in range(3)]
    torch.testing.assert_close(centers[order], expected)
    assert variance == pytest.approx(dense_variance, rel=1e-5)
    soft = center_posterior(sparse, centers, torch.tensor(variance))
    torch.testing.assert_close(soft, center_posterior(dense, centers, torch.tensor(variance)))
    assert soft.argmax(dim=1).tolist() == labels.tolist()
