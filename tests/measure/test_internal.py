"""Scores without classes, against hand-worked ones."""

import numpy as np
import pytest
import torch

from robust_cluster.measure.internal import ROWS, internal_scores

PAIRS = torch.tensor([[0.0], [1.0], [10.0], [11.0]])


def test_two_pairs_on_a_line_have_the_scores_that_one_works_out() -> None:
    found = internal_scores(PAIRS, (PAIRS,), np.array([0, 0, 1, 1]))
    # silhouette of 0: a = 1, b = (10 + 11) / 2; of 1: a = 1, b = (9 + 10) / 2; the other pair alike
    assert found["data"]["silhouette"] == pytest.approx((9.5 / 10.5 + 8.5 / 9.5) / 2)
    # means 0.5, 10.5, between 4 * 25 / 1, within 4 * 0.25 / 2
    assert found["data"]["calinski_harabasz"] == pytest.approx(100 / 0.5)
    assert found["data"]["davies_bouldin"] == pytest.approx((0.5 + 0.5) / 10)
    assert found["embedding"] == found["data"]
    assert found["rows"] == 4


def test_embedding_and_data_are_scored_apart_and_views_side_by_side() -> None:
    labels = np.array([0, 0, 1, 1])
    found = internal_scores(PAIRS * 0.0 + torch.arange(4.0).unsqueeze(1), (PAIRS, PAIRS), labels)
    assert found["embedding"]["silhouette"] != found["data"]["silhouette"]
    # two equal views: every distance times sqrt(2), which silhouette does not see
    assert found["data"]["silhouette"] == pytest.approx((9.5 / 10.5 + 8.5 / 9.5) / 2)


@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [0, 1, 2, 3]])
def test_one_cluster_or_one_a_sample_has_no_score(labels: list[int]) -> None:
    found = internal_scores(PAIRS, (PAIRS,), np.array(labels))
    assert set(found["embedding"].values()) == {None}


def test_of_many_rows_evenly_spaced_ones_are_looked_at() -> None:
    x = torch.arange(3.0 * ROWS).unsqueeze(1)
    assert internal_scores(x, (x,), (x.squeeze(1).numpy() > ROWS).astype(int))["rows"] == ROWS
