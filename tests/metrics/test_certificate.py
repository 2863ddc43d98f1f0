"""Certified radii: bounds against scipy, closed forms of a half-space, and how often a certificate is wrong."""

import numpy as np
import pytest
from scipy import stats

from robust_cluster.errors import ConfigError, ShapeError
from robust_cluster.metrics.certificate import (
    certified_share,
    certify,
    least_draws,
    lower_bound,
    radius_cap,
)


def test_the_bound_is_the_exact_one_of_scipy() -> None:
    counts = np.array([0, 1, 7, 50, 99, 100])
    expected = [
        stats.binomtest(int(k), 100, alternative="greater").proportion_ci(0.95, method="exact").low for k in counts
    ]
    np.testing.assert_allclose(lower_bound(counts, 100, 0.05), expected, rtol=1e-9)


def test_the_bound_of_all_draws_is_alpha_to_the_power_of_1_over_n() -> None:
    assert lower_bound(np.array([500]), 500, 0.001)[0] == pytest.approx(0.001 ** (1 / 500), rel=1e-12)
    assert lower_bound(np.array([0]), 500, 0.001)[0] == 0.0


def test_the_largest_radius_is_that_of_all_draws_in_one_cluster() -> None:
    """3.81 sigma for 100,000 draws and alpha 0.001, the setting of Cohen et al."""
    assert radius_cap(100_000, alpha=0.001, sigma=1.0) == pytest.approx(3.8115, abs=1e-4)
    found = certify(np.array([4]), np.array([1000]), 1000, alpha=0.001, sigma=0.25)
    assert found.radius[0] == pytest.approx(radius_cap(1000, alpha=0.001, sigma=0.25), rel=1e-12)


def test_a_point_whose_bound_is_not_above_one_half_is_abstained() -> None:
    found = certify(np.array([0, 1, 2]), np.array([500, 545, 560]), 1000, alpha=0.001, sigma=1.0)
    assert found.lower[1] < 0.5 < found.lower[2]
    assert found.labels.tolist() == [-1, -1, 2]
    assert found.radius[:2].tolist() == [0.0, 0.0]
    assert found.radius[2] == pytest.approx(stats.norm.ppf(found.lower[2]), rel=1e-12)
    assert found.abstained.tolist() == [True, True, False]


@pytest.mark.parametrize(("alpha", "least"), [(0.001, 10), (0.05, 5), (0.25, 3), (0.5, 2)])
def test_the_least_number_of_draws_that_can_certify_anything(alpha: float, least: int) -> None:
    assert least_draws(alpha) == least
    assert alpha ** (1 / least) > 0.5 >= alpha ** (1 / (least - 1))


@pytest.mark.parametrize(
    ("n", "alpha", "sigma", "sentence"),
    [
        (100, 0.001, 0.0, "sigma must be > 0, got 0: without noise nothing can be certified"),
        (100, 0.001, -1.0, "sigma must be > 0, got -1"),
        (100, 0.001, float("nan"), "sigma must be > 0, got nan"),
        (100, 0.0, 0.25, r"alpha, the chance that a certificate is wrong, must be in \(0, 0.5\], got 0"),
        (100, 0.6, 0.25, "got 0.6"),
        (9, 0.001, 0.25, "samples must be >= 10 for alpha 0.001, got 9: every point would be abstained"),
    ],
)
def test_draws_that_certify_nothing_are_refused(n: int, alpha: float, sigma: float, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        certify(np.array([0]), np.array([5]), n, alpha=alpha, sigma=sigma)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"top and counts must be \(m,\), got \(2,\) and \(1,\)"):
        certify(np.array([0, 1]), np.array([5]), 20, alpha=0.05, sigma=1.0)
    with pytest.raises(ShapeError, match=r"counts must be in \[0, n\] = \[0, 20\], got 5 to 21"):
        lower_bound(np.array([5, 21]), 20, 0.05)


def test_of_a_half_space_the_radius_tends_to_the_distance_from_the_boundary() -> None:
    """P(f(x + eta) = own) = Phi(d / sigma), so the true radius is d."""
    distance, sigma = 0.3, 0.25
    share = stats.norm.cdf(distance / sigma)
    gaps = []
    for n in (100, 10_000, 1_000_000):
        found = certify(np.array([0]), np.array([round(share * n)]), n, alpha=0.001, sigma=sigma)
        gaps.append(distance - found.radius[0])
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 0.002


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_no_more_certificates_are_wrong_than_alpha_allows(alpha: float) -> None:
    """On a half-space the strongest attack moves a point by its distance: a larger radius is a wrong certificate."""
    random = np.random.default_rng(0)
    n, m, sigma = 200, 20_000, 1.0
    distance = random.uniform(0.05, 1.5, m)
    counts = random.binomial(n, stats.norm.cdf(distance / sigma))
    found = certify(np.zeros(m, dtype=int), counts, n, alpha=alpha, sigma=sigma)
    wrong = int((found.radius > distance).sum())
    assert wrong <= stats.binom.ppf(0.9999, m, alpha)
    assert wrong > 0.2 * alpha * m, "no more cautious than a discrete count makes it"


def test_the_share_counts_points_of_at_least_a_radius_that_meet_the_condition() -> None:
    found = certify(np.array([0, 1, 2, 0]), np.array([1000, 800, 500, 600]), 1000, alpha=0.001, sigma=1.0)
    condition = np.array([True, True, True, False])
    assert certified_share(found, condition, [0.0, found.radius[1], found.radius[1] + 1e-9, 9.0]).tolist() == [
        0.5,  # the third is abstained, the fourth has not the condition
        0.5,
        0.25,
        0.0,
    ]
