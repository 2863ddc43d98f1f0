"""Whitened principal components are scikit-learn's, up to their signs."""

import torch
from sklearn.decomposition import PCA

from robust_cluster.nn.whitening import Whitening


def test_rows_are_scikit_learns_whitened_components_of_length_1() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 6) @ torch.randn(6, 6) + 3
    whitening = Whitening(6, 4)
    whitening.fit(x)
    expected = torch.as_tensor(PCA(4, whiten=True).fit_transform(x.double().numpy())).float()
    expected = expected / expected.norm(dim=1, keepdim=True)
    signs = (whitening(x) * expected).sum(dim=0).sign()
    torch.testing.assert_close(whitening(x), signs * expected, rtol=1e-3, atol=1e-4)


def test_directions_without_variance_are_left_out() -> None:
    x = torch.randn(50, 4) @ torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 1]]).repeat(2, 1)  # of rank 2
    whitening = Whitening(4, 4)
    whitening.fit(x)
    assert (whitening.projection.abs().sum(dim=0) > 0).tolist() == [True, True, False, False]
    assert whitening(x).isfinite().all()
    whitening.fit(torch.ones(5, 4))
    assert not whitening(torch.ones(5, 4)).any()
