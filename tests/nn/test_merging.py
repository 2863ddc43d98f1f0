"""Affinities against a plain loop, merging against one that takes all anew, and what has no affinity."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from robust_cluster.nn import merging
from robust_cluster.nn.graph import nearest_neighbors

K_S = 6


@pytest.fixture(scope="module")
def points() -> merging.Floats:
    return np.random.default_rng(3).standard_normal((30, 4))


@pytest.fixture(scope="module")
def weights(points: merging.Floats) -> merging.Graph:
    squares, numbers = nearest_neighbors(torch.from_numpy(points), K_S)
    return merging.neighbor_weights(squares.numpy(), numbers.numpy())


def affinity(w: merging.Floats, a: list[int], b: list[int]) -> float:
    """JULE's formula, term by term."""
    over_b = sum(w[i, m] * w[m, j] for i in a for m in b for j in a)
    over_a = sum(w[i, m] * w[m, j] for i in b for m in a for j in b)
    return float(over_b / len(a) ** 2 + over_a / len(b) ** 2)


def naive(w: merging.Floats, labels: merging.Ints, n_clusters: int, local: int, few: int) -> list[list[int]]:
    """Merges one pair at a time, with every affinity taken anew from the points' weights."""
    clusters = [np.flatnonzero(labels == c).tolist() for c in range(labels.max() + 1)]
    while len(clusters) > n_clusters:
        count = len(clusters)
        found = [
            [affinity(w, clusters[a], clusters[b]) if a != b else -1.0 for b in range(count)] for a in range(count)
        ]
        merits = []
        for row in found:
            best = sorted(row, reverse=True)
            gaps = sum(best[0] - one for one in best[1:local]) / (local - 1)
            merits.append(best[0] + (gaps if count > few else 0.0))
        a = merits.index(max(merits))
        b = found[a].index(max(found[a]))
        clusters[a] += clusters[b]
        del clusters[b]
    return sorted(sorted(cluster) for cluster in clusters)


def as_sets(labels: merging.Ints) -> list[list[int]]:
    return sorted(np.flatnonzero(labels == c).tolist() for c in np.unique(labels))


def test_weights_fall_with_the_distance_to_each_of_the_nearest(points: merging.Floats, weights: merging.Graph) -> None:
    squares = ((points[:, None] - points) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    kept = squares <= np.sort(squares, axis=1)[:, [K_S - 1]]
    expected = np.where(kept, np.exp(-squares / squares[kept].mean()), 0)
    np.testing.assert_allclose(weights.toarray(), expected, atol=1e-12)


def test_affinities_are_those_of_a_plain_loop(weights: merging.Graph) -> None:
    labels = np.arange(30) % 7
    found = merging.Merging(weights, labels, 5).affinities
    w = weights.toarray()
    clusters = [np.flatnonzero(labels == c).tolist() for c in range(7)]
    for a, b in itertools.permutations(range(7), 2):
        assert found[a].get(b, 0.0) == pytest.approx(affinity(w, clusters[a], clusters[b]), abs=1e-12)


@pytest.mark.parametrize("few", [0, 6, 100])
@pytest.mark.parametrize("n_clusters", [3, 9])
def test_merging_makes_the_clusters_that_all_affinities_taken_anew_make(
    points: merging.Floats, weights: merging.Graph, monkeypatch: pytest.MonkeyPatch, few: int, n_clusters: int
) -> None:
    monkeypatch.setattr(merging, "FEW", few)
    first = np.arange(30) % 15
    found = merging.merge(points, weights, first, n_clusters, local=4)
    assert set(found) == set(range(n_clusters))
    assert as_sets(found) == naive(weights.toarray(), first, n_clusters, 4, few)


def test_the_local_term_changes_what_is_merged(
    points: merging.Floats, weights: merging.Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = merging.merge(points, weights, np.arange(30) % 15, 9, local=4)
    monkeypatch.setattr(merging, "FEW", 0)
    assert as_sets(merging.merge(points, weights, np.arange(30) % 15, 9, local=4)) != as_sets(without)


def test_first_clusters_are_chains_of_nearest_neighbors() -> None:
    line = torch.tensor([[0.0], [1.0], [2.5], [10.0], [11.0], [20.0], [20.5], [22.0]])
    nearest = nearest_neighbors(line, 1)[1].flatten().numpy()
    assert merging.first_clusters(nearest).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


def test_where_no_path_is_left_the_nearest_means_are_merged() -> None:
    """Four pairs far apart, each of its own neighbor alone: (0, 1) and (4, 5) are the nearest two means."""
    x = np.array([[0.0], [1.0], [50.0], [51.0], [4.0], [5.0], [200.0], [201.0]])
    squares, numbers = nearest_neighbors(torch.from_numpy(x), 1)
    weights = merging.neighbor_weights(squares.numpy(), numbers.numpy())
    found = merging.merge(x, weights, np.arange(8), 3, local=5)
    assert as_sets(found) == [[0, 1, 4, 5], [2, 3], [6, 7]]


def test_a_cluster_without_an_affinity_joins_the_nearest_mean() -> None:
    """Row 4 has neighbors and is nobody's; rows 0 to 3 are one another's."""
    x = np.array([[0.0], [1.0], [10.0], [11.0], [13.0]])
    w = np.zeros((5, 5))
    w[0, 1] = w[1, 0] = w[2, 3] = w[3, 2] = w[4, 3] = 0.5
    assert merging.attach(x, csr_array(w), np.array([0, 1, 2, 3, 4])).tolist() == [0, 1, 2, 3, 3]


def test_equal_points_have_weights() -> None:
    squares, numbers = nearest_neighbors(torch.zeros(4, 2), 2)
    assert all(row not in others for row, others in enumerate(numbers.tolist()))
    weights = merging.neighbor_weights(squares.numpy(), numbers.numpy())
    assert weights.toarray().sum(axis=1).tolist() == [2.0] * 4


def test_a_merit_is_the_affinity_and_its_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 before 3 and, of a third other, nothing: 5 + ((5 - 3) + (5 - 0)) / 2 while there are more than a few."""
    clusters = merging.Merging(csr_array(np.ones((4, 4))), np.arange(4), 3)
    clusters.affinities[0] = {1: 5.0, 2: 3.0}
    assert clusters.merit(0) == 5
    monkeypatch.setattr(merging, "FEW", 3)
    assert clusters.merit(0) == 8.5
    clusters.affinities[0] = {}
    assert clusters.merit(0) == 0
