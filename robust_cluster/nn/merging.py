"""Merging the clusters of a directed graph of neighbors (Zhang, Wang, Zhao and Tang, ECCV 2012), as JULE does.

W_ij = exp(-||x_i - x_j||^2 / s^2) where j is among the nearest neighbors of i, else 0; s^2 is the mean of those squared
distances. Clusters a and b have the affinity (JULE, Yang, Parikh and Batra, CVPR 2016)

    A(a, b) = 1' W_ab W_ba 1 / |a|^2 + 1' W_ba W_ab 1 / |b|^2,

the paths of two edges from a over b back to a, and from b over a. A cluster's merit is the affinity A_1 to the most
affine of the others, and, while there are more than `FEW` clusters, the mean of A_1 - A_k over the next most affine,
k = 2, ..., K_c (JULE's local term). The cluster of most merit and the most affine to it are merged.

All affinities are exact. JULE's code adds the paths of a and of b, without those that leave a and come back to b.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Graph = Any  # a sparse matrix of scipy
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
FEW = 100  # clusters of which the affinity alone decides [JULE's code]


def neighbor_weights(squares: Floats, neighbors: Ints) -> Graph:
    """W, sparse (n, n), of each row's squared distances (n, k) to its neighbors, whose row numbers are (n, k)."""
    from scipy.sparse import csr_array  # late: it takes a second

    n, count = neighbors.shape
    mean = max(float(squares.mean()), np.finfo(np.float64).tiny)
    starts = np.arange(0, n * count + 1, count)
    return csr_array((np.exp(-squares / mean).ravel(), neighbors.ravel(), starts), shape=(n, n))


def first_clusters(nearest: Ints) -> Ints:
    """Labels (n,): the connected parts where each row is joined to its nearest neighbor, given by number (n,)."""
    return parts(np.arange(len(nearest)), nearest, len(nearest))


def parts(rows: Ints, others: Ints, n: int) -> Ints:
    """Labels (n,) of n nodes' connected parts; rows[i] and others[i] are joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(rows)), (rows, others)), shape=(n, n))
    labels: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def cut(merged: Any, n_clusters: int) -> Ints:
    """Labels (n,) after the first n - K of n - 1 merges, as SciPy writes them: K clusters, also where merges tie."""
    n = len(merged) + 1
    made = merged[: n - n_clusters, :2].astype(np.int64)
    joined = np.repeat(n + np.arange(len(made)), 2)
    return parts(made.ravel(), joined, n + len(made))[:n]


def means(x: Floats, labels: Ints) -> Floats:
    """The mean (K, d) of the rows x (n, d) of each cluster."""
    from scipy.sparse import csr_array

    n = len(labels)
    member: Graph = csr_array((np.ones(n), (labels, np.arange(n))))
    centers: Floats = (member @ x) / np.bincount(labels)[:, None]
    return centers


def merge(x: Floats, weights: Graph, labels: Ints, n_clusters: int, *, local: int) -> Ints:
    """Labels (n,) of `n_clusters` clusters, 0, 1, ..., merged from those of `labels`; `local` is K_c.

    Where no path joins any two, the means of their x (n, d) are merged by Ward's criterion.
    """
    merging = Merging(weights, labels, local)
    while merging.count > n_clusters and merging.merge():
        pass
    labels = renumbered(merging.labels)
    if merging.count > n_clusters:
        from scipy.cluster.hierarchy import ward

        labels = cut(ward(means(x, labels)), n_clusters)[labels]
    return labels


def attach(x: Floats, weights: Graph, labels: Ints) -> Ints:
    """Labels (n,) after every cluster without an affinity has joined that of the nearest mean of x (n, d) [code]."""
    from scipy.spatial import KDTree

    alone = np.array([not affinities for affinities in Merging(weights, labels, 1).affinities])
    if not alone.any() or len(alone) == 1:
        return labels
    centers = means(x, labels)
    found = np.asarray(KDTree(centers).query(centers[alone], k=2)[1])
    own = np.flatnonzero(alone)
    nearest = np.where(found[:, 0] == own, found[:, 1], found[:, 0])  # of equal means either may come first
    joined: Ints = parts(own, nearest, len(alone))[labels]
    return joined


def renumbered(labels: Ints) -> Ints:
    """The same clusters (n,), numbered 0, 1, ..."""
    numbers: Ints = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return numbers


class Merging:
    """The clusters of a graph, and their affinities, while they are merged.

    `labels` (n,): of the rows. `affinities`: cluster -> {other: A(cluster, other) > 0}. `count`: how many are left.
    """

    def __init__(self, weights: Graph, labels: Ints, local: int) -> None:
        from scipy.sparse import csr_array

        self.labels, self.local = labels.copy(), local
        self.sizes = np.bincount(labels).tolist()
        self.count = n_clusters = len(self.sizes)
        member = csr_array((np.ones(len(labels)), (np.arange(len(labels)), labels)))
        sides = (weights @ member).tocsc(), (weights.T @ member).tocsc()  # from a row into a cluster, and back
        self.edges = [summed(*beside(sides, c)) for c in range(n_clusters)]  # rows, and their (2, m) edges
        self.paths = [self.paths_from(c) for c in range(n_clusters)]
        self.affinities: list[dict[int, float]] = [{} for _ in range(n_clusters)]
        for c, found in enumerate(self.paths):
            for other in found:
                self.relate(c, other)
        self.merits = np.array([self.merit(c) for c in range(n_clusters)])

    def paths_from(self, c: int) -> dict[int, float]:
        """Other cluster -> 1' W_cb W_bc 1, the paths from c over the other, b, back to c, where there are any."""
        rows, (into, back) = self.edges[c]
        clusters, sums = summed(self.labels[rows], (into * back)[None])
        found = dict(zip(clusters.tolist(), sums[0].tolist(), strict=True))
        return {other: value for other, value in found.items() if value > 0 and other != c}

    def relate(self, a: int, b: int) -> None:
        """Take the affinity of a and b from their paths and sizes."""
        there, back = self.paths[a].get(b, 0.0), self.paths[b].get(a, 0.0)
        self.affinities[a][b] = self.affinities[b][a] = there / self.sizes[a] ** 2 + back / self.sizes[b] ** 2

    def merit(self, c: int) -> float:
        """The affinity of c to the most affine, and how far it is above the next; 0 without any."""
        best = sorted(self.affinities[c].values(), reverse=True)[: self.local]
        if not best or self.local == 1 or self.count <= FEW:
            return best[0] if best else 0.0
        return 2 * best[0] - sum(best[1:]) / (self.local - 1)

    def merge(self) -> bool:
        """Merge the cluster of most merit and the most affine to it. False where there are no paths any more."""
        a = int(self.merits.argmax())
        if self.merits[a] <= 0:
            return False
        b = max(self.affinities[a], key=self.affinities[a].__getitem__)
        rows, values = (np.concatenate(pair, axis=-1) for pair in zip(self.edges[a], self.edges[b], strict=True))
        self.edges[a], self.edges[b] = summed(rows, values), (rows[:0], values[:, :0])
        self.labels[self.labels == b] = a
        self.sizes[a] += self.sizes[b]
        self.count -= 1
        self.paths[a], self.paths[b] = self.paths_from(a), {}
        beside_them = {*self.affinities[a], *self.affinities[b], *self.paths[a]} - {a, b}
        self.affinities[a], self.affinities[b] = {}, {}
        for other in beside_them:
            paths = self.paths[other]
            over = paths.pop(a, 0.0) + paths.pop(b, 0.0)
            if over > 0:
                paths[a] = over
            self.affinities[other].pop(b, None)
            self.relate(a, other)
        self.merits[b] = -1.0
        changed = np.flatnonzero(self.merits >= 0).tolist() if self.count == FEW else [a, *beside_them]
        for c in changed:
            self.merits[c] = self.merit(c)
        return True


def beside(sides: tuple[Graph, Graph], c: int) -> tuple[Ints, Floats]:
    """Row numbers (m,), some of them twice, and values (2, m) of column c of two CSC matrices."""
    (rows, into), (others, back) = (
        (one.indices[column], one.data[column]) for one in sides for column in [slice(*one.indptr[c : c + 2])]
    )
    values = np.zeros((2, len(rows) + len(others)))
    values[0, : len(rows)], values[1, len(rows) :] = into, back
    return np.concatenate([rows, others]), values


def summed(numbers: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Each of the numbers (m,) once, ascending, and the sums of its columns of `values` (c, m)."""
    if not len(numbers):
        return numbers, values
    order = numbers.argsort(kind="stable")
    numbers = numbers[order]
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    return numbers[first], np.add.reduceat(values[:, order], first, axis=1)
