"""Clustering accuracy (ACC) under a one-to-one map of clusters to classes, and its chance level."""

import numpy as np
import numpy.typing as npt

from robust_cluster.errors import ShapeError

Ints = npt.NDArray[np.integer]


def match(labels: Ints, predicted: Ints, *, n_clusters: int | None = None) -> npt.NDArray[np.int64]:
    """The class of each cluster under the one-to-one map that maximizes ACC (Hungarian method), -1 where it has none.

    Shapes: labels (n,) in 0..C-1; predicted (n,) in 0..K-1; returns (K,). K is `n_clusters` or max(predicted) + 1.
    A cluster has no class when K > C, or when it shares no sample with the class left for it: such a pair is arbitrary,
    and other predictions must not be scored as right by it. Raises: ShapeError.
    """
    from scipy.optimize import linear_sum_assignment  # late: it takes half a second, and training does not need it

    counts = contingency(labels, predicted, n_clusters=n_clusters)
    clusters, classes = linear_sum_assignment(counts, maximize=True)
    mapping = np.full(len(counts), -1, dtype=np.int64)
    mapping[clusters] = np.where(counts[clusters, classes] > 0, classes, -1)
    return mapping


def accuracy(labels: Ints, predicted: Ints) -> float:
    """ACC in [0, 1]: the share of samples whose cluster's class is theirs, clusters mapped one-to-one by `match`."""
    return accuracy_under(match(labels, predicted), labels, predicted)


def accuracy_under(mapping: npt.NDArray[np.int64], labels: Ints, predicted: Ints) -> float:
    """ACC in [0, 1] under a map fixed beforehand, e.g. `match` on the clean predictions; never above `accuracy`.

    Shapes: mapping (K,), labels (n,), predicted (n,) in 0..K-1. Raises: ShapeError.
    """
    _check(labels, predicted)
    if predicted.max() >= len(mapping):
        raise ShapeError(
            f"The mapping covers clusters 0..{len(mapping) - 1}, got a sample in cluster {predicted.max()}",
            hint="give n_clusters to match()",
        )
    return float(np.mean(mapping[predicted] == labels))


def chance_accuracy(labels: Ints, n_clusters: int, *, draws: int = 200, seed: int = 0) -> float:
    """The chance floor of ACC, in [0, 1]: mean ACC of `draws` uniformly random assignments to `n_clusters` clusters.

    It lies above 1/K because the map is fitted to each assignment. Shapes: labels (n,).
    """
    rng = np.random.default_rng(seed)
    return float(np.mean([accuracy(labels, rng.integers(n_clusters, size=len(labels))) for _ in range(draws)]))


def contingency(labels: Ints, predicted: Ints, *, n_clusters: int | None = None) -> npt.NDArray[np.int64]:
    """(K, C) counts of samples by cluster and class."""
    _check(labels, predicted)
    n_classes = int(labels.max()) + 1
    rows = int(predicted.max()) + 1 if n_clusters is None else n_clusters
    if predicted.max() >= rows:
        raise ShapeError(f"Clusters must be in [0, n_clusters - 1] = [0, {rows - 1}], got {predicted.max()}")
    cells = predicted.astype(np.int64) * n_classes + labels.astype(np.int64)
    return np.bincount(cells, minlength=rows * n_classes).reshape(rows, n_classes)


def _check(labels: Ints, predicted: Ints) -> None:
    """Raises ShapeError unless both are non-empty (n,) of numbers >= 0."""
    if labels.ndim != 1 or labels.shape != predicted.shape or not len(labels):
        raise ShapeError(f"labels and predicted must be (n,) with n >= 1, got {labels.shape} and {predicted.shape}")
    if min(labels.min(), predicted.min()) < 0:
        raise ShapeError(f"labels and predicted must be >= 0, got {min(labels.min(), predicted.min())}")
