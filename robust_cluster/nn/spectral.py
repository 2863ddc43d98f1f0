"""Clusters of a weighted graph: the normalized cut by eigenvectors (Ng, Jordan and Weiss, NeurIPS 2001)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robust_cluster.nn.centers import kmeans

Graph = Any  # a sparse matrix of scipy (n, n): non-negative, symmetric
Floats = npt.NDArray[np.float64]
DENSE = 200  # nodes of a part whose eigenvectors LAPACK finds


def normalized_cut(graph: Graph, n_clusters: int, *, n_init: int, seed: int) -> Tensor:
    """Labels (n,) int64 of k-means, the best of `n_init` starts, on the rows of `leading_rows`."""
    rows = torch.from_numpy(leading_rows(graph, n_clusters, seed=seed))
    return kmeans(rows, n_clusters, n_init=n_init, seed=seed)[1]


def leading_rows(graph: Graph, count: int, *, seed: int) -> Floats:
    """Rows (n, count), each of length 1, of the leading eigenvectors of D^-1/2 W D^-1/2 = I - L_sym, D = diag(W 1).

    Each connected part is solved by itself, as an eigenvalue 1 for each of them is one that Lanczos iterations miss. Of
    more than `count` parts the largest have a vector; rows of the others, and of nodes without an edge, are 0.
    """
    from scipy.sparse.csgraph import connected_components  # late: it takes a second

    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels)
    most = count - int((sizes > 1).sum()) + 1  # vectors of one part, as each other has one of eigenvalue 1
    largest = np.argsort(-sizes, kind="stable")[:count]
    found: list[tuple[float, int, Any, Any]] = []  # minus the eigenvalue, the part's rank, its rows, the vector
    for rank, part in enumerate(largest):
        rows = np.flatnonzero(labels == part)
        if sizes[part] > 1:
            values, vectors = leading(graph.tocsr()[rows][:, rows], min(most, len(rows)), seed=seed)
            found += [(-value, rank, rows, vector) for value, vector in zip(values, vectors.T, strict=True)]
    matrix = np.zeros((len(labels), count))
    for column, (_, _, rows, vector) in enumerate(sorted(found, key=lambda one: one[:2])[:count]):
        matrix[rows, column] = vector
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: Floats = matrix / np.where(norms > 0, norms, 1)
    return unit


def leading(graph: Graph, count: int, *, seed: int) -> tuple[Floats, Floats]:
    """Eigenvalues (k,), the largest first, and vectors (n, k) of D^-1/2 W D^-1/2 of a connected graph; k >= 1.

    The first are 1 and D^1/2 1. ARPACK finds the others from a start that `seed` draws, by products alone: nothing is
    factored, so that memory grows with the edges.
    """
    import scipy.sparse
    from scipy.sparse.linalg import eigsh

    roots = np.sqrt(np.asarray(graph.sum(axis=1), dtype=np.float64).ravel())
    n, first = len(roots), (roots / np.linalg.norm(roots))[:, None]
    if count <= 1:
        return np.ones(1), first
    inverse = scipy.sparse.diags_array(1 / roots)
    scaled = inverse @ graph @ inverse
    if n <= max(DENSE, 2 * count):
        values, vectors = np.linalg.eigh(scaled.toarray())
    else:
        start = np.random.default_rng(seed).standard_normal(n)
        values, vectors = eigsh(scaled, k=count, which="LA", v0=start, ncv=min(n, max(2 * count + 1, 40)))
    order = np.argsort(-values)[1:count]
    return np.concatenate([[1.0], values[order]]), np.concatenate([first, vectors[:, order]], axis=1)


def parts(graph: Graph) -> int:
    """How many connected components the graph has."""
    from scipy.sparse.csgraph import connected_components

    return int(connected_components(graph, directed=False)[0])
