"""Purity: accuracy under a many-to-one map of clusters to classes, what the code of LPVDN (AAAI 2021) prints as ACC."""

from robust_cluster.metrics.accuracy import Ints, contingency


def purity(labels: Ints, predicted: Ints) -> float:
    """Purity in [0, 1]: the share of samples in their cluster's largest class; never below ACC, and grows with K.

    Shapes: labels (n,), predicted (n,). Raises: ShapeError.
    """
    return float(contingency(labels, predicted).max(axis=1).sum() / len(labels))
