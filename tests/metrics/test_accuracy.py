import itertools

import numpy as np
import pytest

from robust_cluster.errors import ShapeError
from robust_cluster.metrics.accuracy import accuracy, accuracy_under, chance_accuracy, match


def test_acc_of_a_hand_worked_case() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([1, 1, 2, 0, 0, 0])
    # cluster 1 -> class 0 (2 right), cluster 0 -> class 1 (2 right), cluster 2 is left with class 2 (none right)
    assert accuracy(labels, predicted) == pytest.approx(4 / 6)
    assert match(labels, predicted).tolist() == [1, 0, -1]


@pytest.mark.parametrize("seed", range(5))
def test_acc_equals_the_best_of_all_permutations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(5, size=60), rng.integers(5, size=60)
    labels[:5] = predicted[:5] = np.arange(5)
    best = max(np.mean(np.array(p)[predicted] == labels) for p in itertools.permutations(range(5)))
    assert accuracy(labels, predicted) == pytest.approx(best)


def test_acc_does_not_change_when_clusters_are_renamed() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(7, size=500), rng.integers(7, size=500)
    assert accuracy(labels, rng.permutation(7)[predicted]) == accuracy(labels, predicted)


def test_acc_of_a_constant_prediction_is_the_largest_class_share() -> None:
    labels = np.array([0, 1, 1, 1, 2, 2, 2, 2, 2, 0])
    assert accuracy(labels, np.full(10, 3)) == 0.5


def test_more_clusters_than_classes_leave_clusters_without_a_class() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    predicted = np.array([0, 0, 1, 2, 2, 3])
    assert match(labels, predicted).tolist() == [0, -1, 1, -1]
    assert accuracy(labels, predicted) == pytest.approx(4 / 6)


def test_fewer_clusters_than_classes_leave_classes_unmatched() -> None:
    assert accuracy(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 1])) == pytest.approx(4 / 6)


def test_acc_under_the_clean_mapping_sees_a_wholesale_swap_that_refitting_hides() -> None:
    labels = clean = np.repeat([0, 1], 5)
    swapped = 1 - clean
    mapping = match(labels, clean)
    assert accuracy_under(mapping, labels, clean) == 1.0
    assert accuracy(labels, swapped) == 1.0
    assert accuracy_under(mapping, labels, swapped) == 0.0


def test_a_cluster_that_was_empty_on_clean_data_never_counts_as_right() -> None:
    labels = np.array([0, 0, 1, 1])
    mapping = match(labels, np.zeros(4, dtype=np.int64), n_clusters=2)
    assert mapping.tolist() == [0, -1]
    assert accuracy_under(mapping, labels, np.array([0, 0, 1, 1])) == 0.5


def test_a_cluster_outside_the_mapping_is_refused_with_the_fix() -> None:
    with pytest.raises(ShapeError, match=r"clusters 0\.\.0, got a sample in cluster 1 \(give n_clusters"):
        accuracy_under(np.array([0]), np.array([0, 1]), np.array([0, 1]))
    with pytest.raises(ShapeError, match=r"\[0, 1\], got 2"):
        match(np.array([0, 1, 1]), np.array([0, 1, 2]), n_clusters=2)


@pytest.mark.parametrize(
    ("labels", "predicted", "sentence"),
    [([0, 1], [0], r"got \(2,\) and \(1,\)"), ([], [], r"n >= 1"), ([0, -1], [0, 1], ">= 0, got -1")],
)
def test_predictions_that_do_not_fit_the_labels_are_refused(
    labels: list[int], predicted: list[int], sentence: str
) -> None:
    with pytest.raises(ShapeError, match=sentence):
        accuracy(np.array(labels, dtype=np.int64), np.array(predicted, dtype=np.int64))


def test_the_chance_floor_of_two_samples_and_two_clusters_is_three_quarters() -> None:
    # Two samples of two classes: in the same cluster (probability 1/2) ACC is 1/2, in different ones 1.
    assert chance_accuracy(np.array([0, 1]), 2, draws=4000) == pytest.approx(0.75, abs=0.02)


def test_the_chance_floor_falls_toward_one_in_k_and_is_reproducible() -> None:
    few, many = np.arange(50) % 5, np.arange(20_000) % 5
    assert chance_accuracy(few, 5) > chance_accuracy(many, 5, draws=20) > 0.2
    assert chance_accuracy(many, 5, draws=20) < 0.21
    assert chance_accuracy(few, 5) == chance_accuracy(few, 5)
    assert chance_accuracy(few, 5, seed=1) != chance_accuracy(few, 5)
