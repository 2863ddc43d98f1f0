"""The normalized cut against dense eigenvectors and graphs whose clusters are plain."""

import numpy as np
import scipy.sparse
import torch

from robust_cluster.nn.spectral import leading_rows, normalized_cut, parts


def blocks(sizes: tuple[int, ...], between: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """A weighted graph of blocks within which weights are near 1 and beyond which near `between`."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    weights = np.where(labels[:, None] == labels, 1.0, between) * random.uniform(0.5, 1, (len(labels),) * 2)
    return np.triu(weights, 1) + np.triu(weights, 1).T


def test_rows_are_those_of_the_leading_eigenvectors_of_the_normalized_graph() -> None:
    graph = blocks((20, 30, 25), 0.05)
    degrees = graph.sum(axis=1)
    vectors = np.linalg.eigh(graph / np.sqrt(degrees[:, None] * degrees))[1][:, -3:]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = leading_rows(scipy.sparse.csr_array(graph), 3, seed=0)
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


def test_as_many_eigenvectors_as_rows_are_found_without_lanczos() -> None:
    rows = leading_rows(scipy.sparse.csr_array(blocks((2, 2), 0.1)), 4, seed=0)
    np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-8)


def test_parts_are_counted() -> None:
    assert [parts(scipy.sparse.csr_array(blocks((5, 6, 7), between))) for between in (0, 0.1)] == [3, 1]
