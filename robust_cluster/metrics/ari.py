"""Adjusted Rand index (ARI)."""

import numpy as np
import numpy.typing as npt


def ari(labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> float:
    """ARI in [-0.5, 1]: agreement of the pairs, 0 in expectation for random clusters, 1 for equal partitions.

    Shapes: labels (n,), predicted (n,).
    """
    from sklearn.metrics import adjusted_rand_score  # late: it takes a second, and training does not need it

    return float(adjusted_rand_score(labels, predicted))
