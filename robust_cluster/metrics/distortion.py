"""Size of a perturbation of the embedding, D (ALRDC, NeurIPS 2020, supplement and released code), in every variant."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robust_cluster.errors import ShapeError


@dataclass(frozen=True)
class Distortion:
    """How far points moved; each value is >= 0, and 0 when nothing moved. A larger D is no robustness by itself."""

    D: float  # no unit; mean over dimensions j of sum_i |delta_ij| / sum_i |mu_ij|, as in the first released code
    D_code: float  # latent units; 1000 * mean |delta_ij|, the final code's sum over a batch of 1000
    D_abs: float  # latent units; mean |delta_ij|
    D_norm: float  # no unit; mean ||delta_i|| / mean ||mu_i||, not inflated by dimensions that mu does not use
    mean_share: float  # in [0, 1]; share of sum_i ||delta_i||^2 that one shift common to all samples explains


def distortion(mu: npt.NDArray[np.floating], delta: npt.NDArray[np.floating]) -> Distortion:
    """All variants of D for clean embeddings `mu` moved by `delta`, summed in float64.

    Shapes: mu (n, d), delta (n, d). A dimension where mu is 0 in every sample has no ratio: it is left out of D when
    delta is 0 there too (0 / 0 says nothing), and makes D infinite when delta is not. D_norm is infinite when every mu
    is 0 and some delta is not. Raises: ShapeError.
    """
    if mu.ndim != 2 or mu.shape != delta.shape or not mu.size:
        raise ShapeError(f"mu and delta must both be (n, d) with n, d >= 1, got {mu.shape} and {delta.shape}")
    mu = np.asarray(mu, dtype=np.float64)
    delta = np.asarray(delta, dtype=np.float64)
    moved = np.abs(delta).sum(axis=0)
    size = np.abs(mu).sum(axis=0)
    counted = (size > 0) | (moved > 0)
    D_abs = float(np.abs(delta).mean())
    total = float(np.square(delta).sum())
    common = len(delta) * float(np.square(delta.mean(axis=0)).sum())
    return Distortion(
        D=float(np.mean(_ratio(moved[counted], size[counted]))) if counted.any() else 0.0,
        D_code=1000 * D_abs,
        D_abs=D_abs,
        D_norm=float(_ratio(_mean_norm(delta), _mean_norm(mu))),
        mean_share=min(1.0, common / total) if total > 0 else 0.0,
    )


def _mean_norm(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Mean L2 norm of the rows, as a 0-d array."""
    return np.asarray(np.linalg.norm(rows, axis=1).mean())


def _ratio(moved: npt.NDArray[np.floating], size: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """moved / size, 0 where nothing moved, infinite where only `size` is 0."""
    ratio = np.where(moved > 0, np.inf, 0.0)
    np.divide(moved, size, out=ratio, where=size > 0)
    return ratio
