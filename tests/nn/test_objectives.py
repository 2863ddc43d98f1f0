"""Each objective by hand, its gradient, and what makes it fit for clustering."""

import math

import pytest
import torch
from torch import Tensor

from robust_cluster.nn.objectives import displacement, divergence, log_margin, margin, nearest_others, targeted

Y = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])


def test_the_margin_by_hand() -> None:
    assert margin(Y.log(), LABELS).tolist() == pytest.approx([math.log(2 / 7), math.log(0.5)])
    assert log_margin(Y.log(), LABELS).equal(-margin(Y.log(), LABELS))


def test_the_margin_is_defined_for_two_clusters_and_changes_sign_with_the_label() -> None:
    log_y = torch.tensor([[0.6, 0.4], [0.4, 0.6]]).log()
    assert margin(log_y, torch.tensor([0, 0])).sign().tolist() == [-1, 1]


def test_the_divergence_by_hand_is_least_without_a_move() -> None:
    moved = torch.tensor([[0.1, 0.2, 0.7], [0.25, 0.25, 0.5]], dtype=torch.float64)
    expected = 0.7 * math.log(7) + 0.1 * math.log(1 / 7)
    assert divergence(Y.log(), moved.log()).tolist() == pytest.approx([expected, 0.0])
    at_rest = Y.log().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(Y.log(), at_rest.log_softmax(1)).sum(), at_rest)
    assert gradient.abs().max() < 1e-12


def test_the_divergence_of_a_saturated_assignment_is_finite() -> None:
    clean = torch.tensor([[0.0, -500.0]])
    assert divergence(clean, torch.tensor([[-500.0, 0.0]])).tolist() == [500.0]


def test_the_displacement_sums_squares_over_representations_of_any_shape() -> None:
    clean = (torch.zeros(2, 3), torch.zeros(2, 1, 2))
    moved = (torch.tensor([[1.0, 2.0, 2.0], [0, 0, 0]]), torch.tensor([[[0.0, 1.0]], [[0, 0]]]))
    assert displacement(clean, moved).tolist() == [10.0, 0.0]


def test_the_targeted_objective_by_hand() -> None:
    assert targeted(Y.log(), LABELS, torch.tensor([2, 0])).tolist() == pytest.approx([math.log(1 / 7), math.log(0.5)])


def test_other_clusters_come_from_the_likeliest_to_the_unlikeliest() -> None:
    assert nearest_others(Y.log(), LABELS).tolist() == [[1, 2], [0, 1]]
    assert nearest_others(torch.tensor([[0.9, 0.1]]).log(), torch.tensor([0])).tolist() == [[1]]


@pytest.mark.parametrize("name", ["margin", "divergence", "displacement", "targeted"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    clean = torch.randn(3, 4, dtype=torch.float64).log_softmax(1)
    labels = clean.argmax(1)
    goals = nearest_others(clean, labels)[:, 0]

    def objective(logits: Tensor) -> Tensor:
        log_y = logits.log_softmax(1)
        found = {
            "margin": lambda: margin(log_y, labels),
            "divergence": lambda: divergence(clean, log_y),
            "displacement": lambda: displacement((clean,), (log_y,)),
            "targeted": lambda: targeted(log_y, labels, goals),
        }
        return found[name]()

    assert torch.autograd.gradcheck(objective, torch.randn(3, 4, dtype=torch.float64, requires_grad=True))
