"""Certified radii of a smoothed clustering (Cohen, Rosenfeld and Kolter, ICML 2019), for cluster numbers as classes.

The smoothed model is g(x) = argmax_k P(f(x + eta) = k), eta ~ N(0, sigma^2 I), f the hard label of a frozen model. If
the top cluster has probability >= p > 1/2, then g is constant within L2 distance sigma * Phi^-1(p) of x (Theorem 1
there, p_B = 1 - p). p is a lower confidence bound from draws, so a certificate is wrong with probability <= alpha, each
point on its own.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from robust_cluster.errors import ConfigError, ShapeError

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
ABSTAINED = -1  # the smoothed label of a point whose top cluster is not sure


@dataclass(frozen=True)
class Certificates:
    """One certificate a point: smoothed labels (m,), -1 where abstained; L2 radius (m,), 0 where abstained.

    `lower` (m,): the lower bound of the top cluster's probability, each with confidence 1 - alpha.
    """

    labels: npt.NDArray[np.int64]
    radius: Floats
    lower: Floats

    @property
    def abstained(self) -> Flags:
        """Whether each point has no certificate, (m,): its bound is not above one half."""
        return np.asarray(self.labels == ABSTAINED)


def certify(top: Ints, counts: Ints, n: int, *, alpha: float, sigma: float) -> Certificates:
    """The certificates of m points (CERTIFY of Cohen et al.).

    Shapes: top (m,), the cluster chosen by draws of their own; counts (m,), how many of `n` fresh draws fell into it.
    sigma and the radius have one unit. Raises: ShapeError, ConfigError.
    """
    if top.ndim != 1 or top.shape != counts.shape:
        raise ShapeError(f"top and counts must be (m,), got {top.shape} and {counts.shape}")
    check_draws(n, alpha, sigma)
    lower = lower_bound(counts, n, alpha)
    sure = lower > 0.5
    radius = np.where(sure, sigma * special.ndtri(lower), 0.0)
    return Certificates(np.where(sure, top, ABSTAINED).astype(np.int64), radius, lower)


def lower_bound(counts: Ints, n: int, alpha: float) -> Floats:
    """The exact one-sided lower confidence bound of a proportion (Clopper and Pearson 1934), level 1 - alpha, (m,).

    Shapes: counts (m,) in 0..n; the bound of 0 of n is 0, that of n of n is alpha^(1/n).
    """
    if len(counts) and not 0 <= counts.min() <= counts.max() <= n:
        raise ShapeError(f"counts must be in [0, n] = [0, {n}], got {counts.min()} to {counts.max()}")
    bound = np.asarray(special.betaincinv(np.maximum(counts, 1), n - counts + 1, alpha), dtype=float)
    return np.where(counts == 0, 0.0, bound)


def radius_cap(n: int, *, alpha: float, sigma: float) -> float:
    """The largest radius that `n` draws can certify, sigma * Phi^-1(alpha^(1/n)): all of them in one cluster."""
    return float(sigma * special.ndtri(alpha ** (1 / n)))


def least_draws(alpha: float) -> int:
    """The smallest n with alpha^(1/n) > 1/2; with fewer draws every point is abstained, whatever the model."""
    n = max(1, math.floor(-math.log2(alpha)))
    while alpha ** (1 / n) <= 0.5:
        n += 1
    return n


def check_draws(n: int, alpha: float, sigma: float) -> None:
    """Raises ConfigError for draws that cannot certify anything, such as n = 1."""
    if not sigma > 0:  # NaN too
        raise ConfigError(
            f"sigma must be > 0, got {sigma:g}: without noise nothing can be certified", hint="--sigma 0.25"
        )
    if not 0 < alpha <= 0.5:
        raise ConfigError(f"alpha, the chance that a certificate is wrong, must be in (0, 0.5], got {alpha:g}")
    if n < (least := least_draws(alpha)):
        raise ConfigError(
            f"samples must be >= {least} for alpha {alpha:g}, got {n}: every point would be abstained, for even if all "
            "draws fell into one cluster its probability would not be shown to be above 1/2",
            hint="--samples 10000",
        )


def certified_share(certificates: Certificates, condition: Flags, radii: npt.ArrayLike) -> Floats:
    """The share of points, in [0, 1], not abstained, with `condition`, and certified at least to each radius, (r,).

    Shapes: condition (m,), radii (r,). Where the condition is that the smoothed label is the model's own, this is the
    stability curve, which reads no labels. Where it is that the label's class under a fixed matching is the point's,
    this is the certified ACC: a lower bound of the smoothed model's ACC under any L2 attack of that size, under that
    matching and so re-matched too. It says nothing of a model that is fitted anew to moved points.
    """
    kept = np.sort(certificates.radius[condition & ~certificates.abstained])
    at_least = len(kept) - np.searchsorted(kept, np.asarray(radii, dtype=float), side="left")
    return np.asarray(at_least / max(1, len(condition)), dtype=float)
