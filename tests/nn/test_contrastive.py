"""The contrastive losses against plain loops and worked values."""

import math

import pytest
import torch
from torch import Tensor

from robust_cluster.errors import ShapeError
from robust_cluster.nn.contrastive import all_pairs, contrastive, info_nce


@pytest.fixture
def views() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    first, second, third = (torch.randn(5, 4, generator=random, dtype=torch.float64) for _ in range(3))
    return first, second, third


def looped(left: Tensor, right: Tensor, temperature: float) -> float:
    """Mean cross-entropy of the anchors in `left`: the positive is the partner, negatives all others of both views."""

    def similarity(a: Tensor, b: Tensor) -> float:
        return math.exp((a @ b).item() / temperature)

    total = 0.0
    for i, anchor in enumerate(left):
        positive = similarity(anchor, right[i])
        others = sum(similarity(anchor, view[j]) for view in (left, right) for j in range(len(left)) if j != i)
        total -= math.log(positive / (positive + others)) / len(left)
    return total


def unit(rows: Tensor) -> Tensor:
    scaled: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return scaled


def test_the_loss_of_a_pair_is_the_sum_of_both_directions(views: tuple[Tensor, ...]) -> None:
    left, right = unit(views[0]), unit(views[1])
    expected = looped(left, right, 0.1) + looped(right, left, 0.1)
    assert contrastive(views[0], views[1]).item() == pytest.approx(expected, rel=1e-9)
    assert contrastive(views[1], views[0]).item() == pytest.approx(expected, rel=1e-9)
    warm = looped(left, right, 0.5) + looped(right, left, 0.5)
    assert contrastive(views[0], views[1], 0.5).item() == pytest.approx(warm, rel=1e-9)


def test_info_nce_is_the_mean_over_both_directions_of_the_rows_as_they_are(views: tuple[Tensor, ...]) -> None:
    left, right, _ = views
    expected = (looped(left, right, 1.0) + looped(right, left, 1.0)) / 2
    assert info_nce(left, right).item() == pytest.approx(expected, rel=1e-9)
    itself = looped(left, left, 1.0)
    assert info_nce(left, left).item() == pytest.approx(itself, rel=1e-9)


def test_identical_views_of_orthogonal_samples_cost_next_to_nothing() -> None:
    rows = 7.0 * torch.eye(6, dtype=torch.float64)
    expected = 2 * math.log(1 + (2 * 6 - 2) * math.exp(-10))
    assert contrastive(rows, rows).item() == pytest.approx(expected, rel=1e-9)


def test_the_scale_of_a_representation_does_not_matter(views: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(contrastive(3 * views[0], views[1]), contrastive(views[0], views[1]))
    assert not info_nce(3 * views[0], views[1]).isclose(info_nce(views[0], views[1]))


def test_all_pairs_is_the_mean_over_pairs_of_views(views: tuple[Tensor, Tensor, Tensor]) -> None:
    a, b, c = views
    expected = (contrastive(a, b) + contrastive(a, c) + contrastive(b, c)) / 3
    torch.testing.assert_close(all_pairs(views), expected)
    torch.testing.assert_close(all_pairs((c, a, b)), expected)
    torch.testing.assert_close(all_pairs((a, b), 0.4), contrastive(a, b, 0.4))


def test_the_gradient_is_right_and_reaches_every_view(views: tuple[Tensor, Tensor, Tensor]) -> None:
    inputs = [view.requires_grad_() for view in views]
    assert torch.autograd.gradcheck(lambda *each: all_pairs(each, 0.5), inputs)
    assert torch.autograd.gradcheck(info_nce, inputs[:2])


def test_what_cannot_be_contrasted_is_refused_in_a_sentence() -> None:
    with pytest.raises(ShapeError, match=r"n >= 2 samples, got \(3, 2\) and \(4, 2\)"):
        contrastive(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(ShapeError, match=r"n >= 2 samples, got \(1, 2\) and \(1, 2\)"):
        info_nce(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ShapeError, match="at least 2 views, got 1"):
        all_pairs((torch.ones(3, 2),))
