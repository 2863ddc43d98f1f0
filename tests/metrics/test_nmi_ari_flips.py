from itertools import permutations

import numpy as np
import pytest

from robust_cluster.errors import ShapeError
from robust_cluster.metrics.ami import ami
from robust_cluster.metrics.ari import ari
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.metrics.nmi import nmi


def entropy(counts: list[int]) -> float:
    shares = np.array(counts) / sum(counts)
    return float(-(shares * np.log(shares)).sum())


def test_nmi_divides_by_the_arithmetic_mean_of_the_entropies() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2])
    # The prediction determines the label, so the mutual information is the label's entropy.
    assert nmi(labels, predicted) == pytest.approx(entropy([2, 2]) / ((entropy([2, 2]) + entropy([1, 1, 2])) / 2))


def test_nmi_of_a_constant_prediction_is_zero_and_of_a_renaming_one() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert nmi(labels, np.zeros(6, dtype=np.int64)) == 0.0
    assert nmi(labels, (labels + 1) % 3) == pytest.approx(1.0)


def test_ami_takes_away_what_random_clusters_of_these_sizes_share_with_the_labels() -> None:
    labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1])
    mean = (entropy([2, 2, 1]) + entropy([3, 2])) / 2
    by_chance = float(np.mean([mean * nmi(labels, np.array(order)) for order in permutations(predicted)]))
    expected = (mean * nmi(labels, predicted) - by_chance) / (mean - by_chance)
    assert ami(labels, predicted) == pytest.approx(expected)
    assert ami(labels, (labels + 1) % 3) == pytest.approx(1.0)


def test_ari_of_a_hand_worked_case() -> None:
    # Pairs together in both: 1; in labels 2, in predictions 1, of 6; expected 2 * 1 / 6.
    assert ari(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])) == pytest.approx((1 - 2 / 6) / (1.5 - 2 / 6))


def test_ari_is_zero_for_a_constant_prediction_and_minus_a_half_at_worst() -> None:
    assert ari(np.array([0, 0, 1, 1]), np.zeros(4, dtype=np.int64)) == 0.0
    assert ari(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(-0.5)


def test_the_flip_rate_is_the_share_of_changed_clusters() -> None:
    assert flip_rate(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1])) == 0.5
    with pytest.raises(ShapeError, match=r"got \(2,\) and \(3,\)"):
        flip_rate(np.array([0, 1]), np.array([0, 1, 2]))
