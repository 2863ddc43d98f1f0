"""The mutual information of two soft codes against a plain loop and worked values."""

import math

import pytest
import torch
from torch import Tensor

from robust_cluster.errors import ShapeError
from robust_cluster.nn.information import entropies, invariant_information


@pytest.fixture
def codes() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(6, 4, generator=random, dtype=torch.float64).softmax(dim=1) for _ in range(2))
    return left, right


def looped(left: list[list[float]], right: list[list[float]], alpha: float) -> float:
    n, m = len(left), len(left[0])
    raw = [[sum(left[s][i] * right[s][j] for s in range(n)) / n for j in range(m)] for i in range(m)]
    joint = [[(raw[i][j] + raw[j][i]) / 2 for j in range(m)] for i in range(m)]
    total = sum(map(sum, joint))
    joint = [[value / total for value in row] for row in joint]
    p = [max(sum(row), 1e-9) for row in joint]
    q = [max(sum(row[j] for row in joint), 1e-9) for j in range(m)]
    value = 0.0
    for i in range(m):
        for j in range(m):
            P = max(joint[i][j], 1e-9)
            value -= P * (math.log(P) - (alpha + 1) * math.log(p[i]) - (alpha + 1) * math.log(q[j]))
    return value


@pytest.mark.parametrize("alpha", [0.0, 9.0])
def test_the_value_is_that_of_a_plain_loop(codes: tuple[Tensor, Tensor], alpha: float) -> None:
    left, right = codes
    expected = looped(left.tolist(), right.tolist(), alpha)
    assert invariant_information(left, right, alpha).item() == pytest.approx(expected, rel=1e-9)
    assert invariant_information(right, left, alpha).item() == pytest.approx(expected, rel=1e-9)


def test_codes_that_are_never_used_are_floored(codes: tuple[Tensor, Tensor]) -> None:
    left = torch.eye(4, dtype=torch.float64)[torch.tensor([0, 0, 1, 1])]
    value = invariant_information(left, left)
    assert value.item() == pytest.approx(looped(left.tolist(), left.tolist(), 9.0), rel=1e-9)


def test_equal_balanced_one_hot_codes_share_log_m() -> None:
    rows = torch.eye(5, dtype=torch.float64).repeat(3, 1)
    assert invariant_information(rows, rows, alpha=0.0).item() == pytest.approx(-math.log(5), abs=1e-6)
    # each marginal entropy is log m as well
    assert invariant_information(rows, rows).item() == pytest.approx(-math.log(5) * (1 + 2 * 9), abs=1e-5)


def test_uniform_codes_share_nothing() -> None:
    rows = torch.full((8, 5), 0.2, dtype=torch.float64)
    assert invariant_information(rows, rows, alpha=0.0).item() == pytest.approx(0.0, abs=1e-12)


def test_the_gradient_is_right_in_both_views(codes: tuple[Tensor, Tensor]) -> None:
    assert torch.autograd.gradcheck(invariant_information, [view.requires_grad_() for view in codes])


def test_views_of_different_shape_are_refused_in_a_sentence() -> None:
    with pytest.raises(ShapeError, match=r"one shape \(n, m\), got \(3, 2\) and \(3, 4\)"):
        invariant_information(torch.ones(3, 2), torch.ones(3, 4))


def test_the_entropies_of_samples_and_of_their_mean_by_hand() -> None:
    """Two sure samples in two of four clusters: H(Y|X) = 0, H(Y) = ln 2; a sample that is sure of nothing: ln 4."""
    sure = torch.tensor([[0.0, -200, -200, -200], [-200, 0.0, -200, -200]]).log_softmax(dim=1)
    conditional, marginal = entropies(sure)
    assert (conditional.item(), marginal.item()) == (pytest.approx(0), pytest.approx(math.log(2)))
    assert [value.item() for value in entropies(torch.zeros(1, 4).log_softmax(dim=1))] == pytest.approx(
        [math.log(4)] * 2
    )


def test_entropies_have_the_gradients_of_differences() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: entropies(x.log_softmax(dim=1)), (logits,))
