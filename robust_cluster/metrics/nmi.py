"""Normalized mutual information (NMI)."""

import numpy as np
import numpy.typing as npt


def nmi(labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> float:
    """NMI in [0, 1], over the arithmetic mean of the two entropies; 0 for a constant prediction of varied labels.

    Shapes: labels (n,), predicted (n,). The papers' authors may have used the geometric mean, scikit-learn's default
    before 0.22; the difference is small.
    """
    from sklearn.metrics import normalized_mutual_info_score  # late: it takes a second, and training does not need it

    return float(normalized_mutual_info_score(labels, predicted, average_method="arithmetic"))
