"""The normalized cut against dense eigenvectors and graphs whose clusters are plain."""

import numpy as np
import pytest
import scipy.sparse
import torch

from robust_cluster.nn.spectral import leading_rows, normalized_cut, parts


def blocks(sizes: tuple[int, ...], between: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """A weighted graph of blocks within which weights are near 1 and beyond which near `between`."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    weights = np.where(labels[:, None] == labels, 1.0, between) * random.uniform(0.5, 1, (len(labels),) * 2)
    return np.triu(weights, 1) + np.triu(weights, 1).T


@pytest.mark.parametrize(("sizes", "count"), [((20, 30, 25), 3), ((90, 80, 70), 3), ((90, 80, 70), 2)])
def test_rows_are_those_of_the_leading_eigenvectors_of_the_normalized_graph(sizes: tuple[int, ...], count: int) -> None:
    graph = blocks(sizes, 0.05)
    degrees = graph.sum(axis=1)
    vectors = np.linalg.eigh(graph / np.sqrt(degrees[:, None] * degrees))[1][:, -count:]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = leading_rows(scipy.sparse.csr_array(graph), count, seed=0)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-6)  # whatever basis they are in


def test_blocks_that_hardly_touch_are_the_clusters() -> None:
    labels = normalized_cut(scipy.sparse.csr_array(blocks((20, 30, 25), 0.05)), 3, n_init=5, seed=0)
    assert labels.dtype == torch.int64
    found = [labels[rows].unique().tolist() for rows in torch.arange(75).split([20, 30, 25])]
    assert sorted(found) == [[0], [1], [2]]


def test_a_node_without_an_edge_is_a_row_of_zeros() -> None:
    graph = blocks((6, 6), 0.1)
    graph[3], graph[:, 3] = 0, 0
    rows = leading_rows(scipy.sparse.csr_array(graph), 2, seed=0)
    assert (rows[3] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(np.delete(rows, 3, axis=0), axis=1), 1)


def test_parts_that_do_not_touch_are_found_each_by_itself() -> None:
    """Lanczos iterations on the whole miss most of five eigenvalues that are all 1."""
    sizes = (300, 30, 250, 20, 40)
    labels = normalized_cut(scipy.sparse.csr_array(blocks(sizes, 0)), 5, n_init=5, seed=0)
    assert sorted(rows.unique().tolist() for rows in labels.split(sizes)) == [[0], [1], [2], [3], [4]]
    rows = leading_rows(scipy.sparse.csr_array(blocks(sizes, 0)), 7, seed=0)  # two more, of the parts themselves
    assert np.linalg.matrix_rank(rows) == 7


def test_of_more_parts_than_clusters_the_largest_have_a_vector() -> None:
    rows = leading_rows(scipy.sparse.csr_array(blocks((4, 2, 3, 5), 0)), 2, seed=0)
    assert np.abs(rows).tolist() == [[0, 1]] * 4 + [[0, 0]] * 5 + [[1, 0]] * 5


def test_as_many_eigenvectors_as_rows_are_found_without_lanczos() -> None:
    rows = leading_rows(scipy.sparse.csr_array(blocks((2, 2), 0.1)), 4, seed=0)
    np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-8)


def test_parts_are_counted() -> None:
    assert [parts(scipy.sparse.csr_array(blocks((5, 6, 7), between))) for between in (0, 0.1)] == [3, 1]
