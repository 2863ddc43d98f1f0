"""Flips: how many samples changed cluster, whatever their class."""

import numpy as np
import numpy.typing as npt

from robust_cluster.errors import ShapeError


def flip_rate(before: npt.NDArray[np.integer], after: npt.NDArray[np.integer]) -> float:
    """The share of samples, in [0, 1], whose cluster differs; both predictions are by one model, neither re-mapped.

    Shapes: before (n,), after (n,). Raises: ShapeError.
    """
    if before.ndim != 1 or before.shape != after.shape or not len(before):
        raise ShapeError(f"before and after must both be (n,) with n >= 1, got {before.shape} and {after.shape}")
    return float(np.mean(before != after))
