import numpy as np
import pytest

from robust_cluster.errors import ShapeError
from robust_cluster.measure.scores import scores
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.metrics.purity import purity


def test_purity_of_hand_worked_cases() -> None:
    assert purity(np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 2, 0, 0, 0])) == pytest.approx((2 + 2 + 1) / 6)
    assert purity(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 3])) == 1.0
    assert purity(np.array([0, 1, 1, 1]), np.zeros(4, np.int64)) == 0.75


@pytest.mark.parametrize("seed", range(20))
def test_purity_is_never_below_acc_and_equals_a_plain_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(4, size=60), rng.integers(1 + seed % 7, size=60)
    plain = sum(np.bincount(labels[predicted == k]).max() for k in np.unique(predicted)) / 60
    assert purity(labels, predicted) == pytest.approx(plain)
    assert accuracy(labels, predicted) <= purity(labels, predicted) <= 1


def test_predictions_that_do_not_fit_the_labels_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"got \(2,\) and \(1,\)"):
        purity(np.array([0, 1]), np.array([0]))


def test_two_clusters_of_one_class_both_count_and_clean_scores_have_purity_beside_acc() -> None:
    labels, predicted = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 1])
    assert (accuracy(labels, predicted), purity(labels, predicted)) == (0.6, 0.8)
    found = scores(labels, predicted, 2)
    assert (found["ACC"], found["purity"]) == (0.6, 0.8)
    assert scores(None, np.array([0, 1]), 2)["purity"] is None
