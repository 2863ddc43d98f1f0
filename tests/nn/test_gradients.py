"""Gradients as vectors and their cosine, worked by hand."""

import math

import torch
from torch import nn

from robust_cluster.nn.gradients import cosine, term_gradients


def test_the_cosine_worked_by_hand() -> None:
    left = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for right, wanted in (([4.0, 3.0], 0.96), ([-6.0, -8.0], -1.0), ([4.0, -3.0], 0.0), ([0.3, 0.4], 1.0)):
        found = float(cosine(left, torch.tensor(right, dtype=torch.float64)))
        assert math.isclose(found, wanted, abs_tol=1e-12)
        assert -1 <= found <= 1


def test_the_cosine_of_a_zero_vector_is_not_a_number() -> None:
    assert math.isnan(cosine(torch.zeros(3), torch.ones(3)))
    assert math.isnan(cosine(torch.zeros(3), torch.zeros(3)))


def test_each_term_has_the_gradient_at_all_parameters_in_one_vector_and_none_is_kept() -> None:
    layer = nn.Linear(2, 1)
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    y = layer(x)
    terms = {"sum": y.sum(), "bias": 2 * layer.bias.sum(), "constant": torch.tensor(1.0)}
    found = term_gradients(terms, list(layer.parameters()))
    assert found["sum"].tolist() == [4.0, 1.0, 2.0]
    assert found["bias"].tolist() == [0.0, 0.0, 2.0]
    assert found["constant"].tolist() == [0.0, 0.0, 0.0]
    assert found["sum"].dtype == torch.float64
    assert all(parameter.grad is None for parameter in layer.parameters())
