from dataclasses import astuple

import numpy as np
import pytest

from robust_cluster.errors import ShapeError
from robust_cluster.metrics.distortion import distortion


def test_every_variant_of_a_hand_worked_case() -> None:
    mu = np.array([[3.0, 4.0], [0.0, -2.0]])
    delta = np.array([[0.0, 1.0], [-0.6, 0.8]])
    found = distortion(mu, delta)
    np.testing.assert_allclose(found.D, (0.6 / 3 + 1.8 / 6) / 2)
    assert found.D_abs == pytest.approx(2.4 / 4)
    assert found.D_code == pytest.approx(600)
    assert found.D_norm == pytest.approx(((1 + 1) / 2) / ((5 + 2) / 2))
    assert found.mean_share == pytest.approx(2 * (0.3**2 + 0.9**2) / 2)


def test_no_movement_is_zero_in_every_variant() -> None:
    assert astuple(distortion(np.array([[1.0, 2.0]]), np.zeros((1, 2)))) == (0, 0, 0, 0, 0)
    assert astuple(distortion(np.zeros((2, 2)), np.zeros((2, 2)))) == (0, 0, 0, 0, 0)


def test_a_dead_dimension_is_left_out_unless_it_moved() -> None:
    mu = np.array([[2.0, 0.0], [2.0, 0.0]])
    assert distortion(mu, np.array([[1.0, 0.0], [1.0, 0.0]])).D == 0.5
    assert np.isposinf(distortion(mu, np.array([[1.0, 0.0], [1.0, 0.1]])).D)
    assert np.isposinf(distortion(np.zeros((1, 1)), np.ones((1, 1))).D_norm)


def test_the_mean_share_is_one_for_a_universal_shift_and_zero_for_a_balanced_one() -> None:
    mu = np.ones((4, 3))
    assert distortion(mu, np.tile([0.1, -0.2, 0.3], (4, 1))).mean_share == pytest.approx(1.0)
    assert distortion(mu, np.outer([1, -1, 1, -1], [0.1, 0.2, 0.3])).mean_share == pytest.approx(0.0)


def test_float32_input_is_summed_in_float64() -> None:
    delta = np.full((100_000, 1), 0.1, dtype=np.float32)
    found = distortion(np.ones((100_000, 1), dtype=np.float32), delta)
    np.testing.assert_allclose(found.D, float(np.float32(0.1)), rtol=1e-12)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"got \(2, 3\) and \(2, 2\)"):
        distortion(np.ones((2, 3)), np.ones((2, 2)))
