"""The kNN graph of a batch, the orthonormal output layer and the smoothness term, against plain loops."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors, kneighbors_graph
from torch import Tensor

from robust_cluster.errors import ConfigError, ShapeError
from robust_cluster.nn import graph
from robust_cluster.nn.graph import neighbor_weights, orthonormal, smoothness


def points(n: int = 41, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def soft_labels(n: int = 41, n_clusters: int = 4, seed: int = 1) -> Tensor:
    return (3 * points(n, n_clusters, seed)).softmax(dim=1)


def plain_weights(z: Tensor, neighbors: int, bandwidth: float | None, *, count_self: bool) -> Tensor:
    """The definition, sample by sample."""
    n = len(z)
    distances = [[math.dist(a, b) for b in z.tolist()] for a in z.tolist()]
    near = [
        sorted((j for j in range(n) if count_self or j != i), key=lambda j: distances[i][j])[:neighbors]
        for i in range(n)
    ]
    sigma = bandwidth or sorted(distances[i][near[i][-1]] for i in range(n))[n // 2]
    directed = torch.zeros(n, n)
    for i in range(n):
        for j in near[i]:
            directed[i, j] = math.exp(-(distances[i][j] ** 2) / (2 * sigma**2))
    symmetric = (directed + directed.T) / 2
    return symmetric - torch.diag(symmetric.diagonal())


def test_the_graph_is_symmetric_non_negative_without_self_loops_and_has_3_neighbors_a_row() -> None:
    weights = neighbor_weights(points(), 3)
    assert weights.equal(weights.T)
    assert (weights >= 0).all()
    assert weights.diagonal().count_nonzero() == 0
    assert ((weights > 0).sum(dim=1) >= 3).all()


def test_the_edges_are_those_of_scikit_learns_neighbors() -> None:
    directed = torch.as_tensor(kneighbors_graph(points().numpy(), 3).toarray()) > 0
    assert (neighbor_weights(points(), 3) > 0).equal(directed | directed.T)


@pytest.mark.parametrize(
    ("bandwidth", "count_self"), [(None, False), (1.97, True), (0.5, False)], ids=["clean", "paper", "own bandwidth"]
)
def test_the_weights_are_the_definitions(bandwidth: float | None, count_self: bool) -> None:
    weights = neighbor_weights(points(), 3, bandwidth=bandwidth, count_self=count_self)
    torch.testing.assert_close(weights, plain_weights(points(), 3, bandwidth, count_self=count_self))


def test_a_point_that_counts_itself_has_one_neighbor_less() -> None:
    line = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert neighbor_weights(line, 2, bandwidth=1.97, count_self=True).equal(
        neighbor_weights(line, 1, bandwidth=1.97, count_self=False)
    )


def test_no_gradient_flows_through_the_graph() -> None:
    assert not neighbor_weights(points().requires_grad_(), 3).requires_grad


def test_equal_points_have_finite_weights() -> None:
    weights = neighbor_weights(torch.ones(6, 2), 3)
    assert weights.isfinite().all()
    assert weights.max() == 1


@pytest.mark.parametrize("neighbors", [0, 5])
def test_neighbors_that_a_batch_cannot_give_are_refused(neighbors: int) -> None:
    with pytest.raises(ConfigError) as caught:
        neighbor_weights(points(5), neighbors)
    assert str(caught.value) == (
        f"neighbors must be in [1, batch - 1] = [1, 4], got {neighbors} (--set model.neighbors=3)"
    )


def test_the_gram_matrix_of_orthonormal_labels_is_the_identity() -> None:
    """Within 1e-3."""
    y = orthonormal(soft_labels(200), 1e-4)
    torch.testing.assert_close(y.T @ y / 200, torch.eye(4), atol=1e-3, rtol=0)


def test_orthonormal_labels_span_what_the_labels_span() -> None:
    y = soft_labels(200)
    mixing = torch.linalg.lstsq(y, orthonormal(y, 1e-4)).solution
    torch.testing.assert_close(y @ mixing, orthonormal(y, 1e-4), atol=1e-4, rtol=0)
    assert mixing.tril(-1).abs().max() < 1e-3  # (L^-1)^T is upper triangular


@pytest.mark.parametrize("ridge", [1e-4, 1e-7])
def test_exactly_constant_labels_do_not_crash_and_cost_nothing(ridge: float) -> None:
    """The ridge takes over, so this layer does not protect from collapse."""
    constant = torch.full((41, 4), 0.25, requires_grad=True)
    cost = smoothness(neighbor_weights(points(), 3), orthonormal(constant, ridge)) / 41
    cost.backward()
    assert cost.item() == pytest.approx(0, abs=1e-5)
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


def test_smoothness_is_the_double_sum() -> None:
    weights, y = neighbor_weights(points(), 3), soft_labels()
    loop = sum(
        weights[i, j].item() * (y[i] - y[j]).square().sum().item() for i in range(41) for j in range(41) if i != j
    )
    assert loop > 1
    assert smoothness(weights, y).item() == pytest.approx(loop, rel=1e-5)


def test_one_hot_labels_pay_twice_the_weight_of_each_edge_between_clusters() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert smoothness(weights, y).item() == 2 * (0.5 * 2)


def test_weights_of_another_batch_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"weights \(3, 3\) do not fit 4 samples"):
        smoothness(torch.zeros(3, 3), torch.zeros(4, 2))


def test_the_gradient_through_the_orthonormal_layer_is_right() -> None:
    weights = neighbor_weights(points(8).double(), 3)
    y = soft_labels(8, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: smoothness(weights, orthonormal(y, 1e-4)), [y])


def test_the_distance_to_a_neighbor_is_scikit_learns_whatever_the_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(50, 4)
    expected, _ = NearestNeighbors(n_neighbors=6).fit(x).kneighbors(x)
    for rows in (1000, 7):
        monkeypatch.setattr(graph, "ROWS", rows)
        found = graph.neighbor_distances(x, 5)
        torch.testing.assert_close(found, torch.as_tensor(expected[:, 5], dtype=torch.float32))
