"""Clusters of a weighted graph: the normalized cut by eigenvectors (Ng, Jordan and Weiss, NeurIPS 2001)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_cluster.nn.centers import kmeans

Graph = Any  # a sparse matrix of scipy (n, n): non-negative, symmetric


def normalized_cut(graph: Graph, n_clusters: int, *, n_init: int, seed: int) -> Tensor:
    """Labels (n,) int64 of k-means, the best of `n_init` starts, on the rows of `leading_rows`."""
    rows = torch.from_numpy(leading_rows(graph, n_clusters, seed=seed))
    return kmeans(rows, n_clusters, n_init=n_init, seed=seed)[1]


def leading_rows(graph: Graph, count: int, *, seed: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Rows (n, count), each of length 1, of the leading eigenvectors of D^-1/2 W D^-1/2 = I - L_sym, D = diag(W 1).

    A row is 0 where the node has no edge. Lanczos iterations from a start that `seed` draws: nothing is factored, so
    that memory grows with the edges. A graph of more than `count` parts has more leading eigenvectors than are asked
    for, and which of them are found is left to the start.
    """
    import scipy.sparse  # late: they take a second
    from scipy.sparse.linalg import eigsh

    degrees = np.asarray(graph.sum(axis=1)).ravel().astype(np.float64)
    roots = scipy.sparse.diags_array(np.where(degrees > 0, degrees, np.inf) ** -0.5)
    start = np.random.default_rng(seed).standard_normal(len(degrees))
    n = len(degrees)
    if count < n - 1:
        vectors = eigsh(roots @ graph @ roots, k=count, which="LA", v0=start, ncv=min(n, max(2 * count + 1, 40)))[1]
    else:  # Lanczos finds fewer eigenvectors than there are rows
        vectors = np.linalg.eigh((roots @ graph @ roots).toarray())[1][:, -count:]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: np.ndarray[Any, np.dtype[np.float64]] = np.divide(vectors, norms, where=norms > 0, out=np.zeros_like(vectors))
    return rows


def parts(graph: Graph) -> int:
    """How many connected components the graph has."""
    from scipy.sparse.csgraph import connected_components

    return int(connected_components(graph, directed=False)[0])
