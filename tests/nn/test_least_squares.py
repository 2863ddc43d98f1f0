"""Least squares on chosen coordinates, with coefficients of one sign, with an l1 norm: against SciPy and sklearn."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.linear_model import ElasticNet

from robust_cluster.nn.least_squares import elastic_net, positive_set, solve_on

Problem = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def problem() -> Problem:
    """Atoms (8, 12) that correlate, as pixels do, targets (60, 12), of which the first is 0, the atoms' products."""
    torch.manual_seed(0)
    atoms = torch.rand(8, 12, dtype=torch.float64)
    targets = torch.randn(60, 12, dtype=torch.float64) + 0.3
    targets[0] = 0
    return atoms, targets, atoms @ atoms.T


def test_the_kept_coordinates_solve_their_own_least_squares_and_the_others_are_0(problem: Problem) -> None:
    atoms, targets, gram = problem
    kept = torch.rand(60, 8) < 0.5
    found = solve_on(gram, targets @ atoms.T, kept)
    for row in range(60):
        expected = np.zeros(8)
        own = kept[row].numpy()
        expected[own] = np.linalg.lstsq(atoms.numpy()[own].T, targets[row].numpy(), rcond=None)[0]
        np.testing.assert_allclose(found[row], expected, atol=1e-8)


def test_non_negative_coefficients_are_scipys(problem: Problem) -> None:
    atoms, targets, gram = problem
    products = targets @ atoms.T
    kept = positive_set(gram, products)
    found = solve_on(gram, products, kept)
    expected = np.array([nnls(atoms.numpy().T, target)[0] for target in targets.numpy()])
    assert 0 < kept.sum() < kept.numel()
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_their_gradient_is_that_of_the_coordinates_above_0(problem: Problem) -> None:
    atoms, targets, gram = problem
    kept = positive_set(gram, targets @ atoms.T)
    x = targets[1:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: solve_on(gram, x @ atoms.T, kept[1:3]), (x,))


@pytest.mark.parametrize("tau", [0.02, 0.3])
def test_the_elastic_net_is_sklearns_and_meets_its_conditions(problem: Problem, tau: float) -> None:
    atoms, targets, gram = problem
    ridge = 0.05
    full = gram + ridge * torch.eye(8)
    some = 0
    for target in targets:
        products = atoms @ target
        found = elastic_net(full, products, tau, torch.zeros(8, dtype=torch.float64))
        slope = products - full @ found
        used = found != 0
        torch.testing.assert_close(slope[used], tau * found[used].sign())
        assert (slope[~used].abs() <= tau * (1 + 1e-8)).all()
        net = ElasticNet(
            alpha=(tau + ridge) / 12, l1_ratio=tau / (tau + ridge), fit_intercept=False, tol=1e-12, max_iter=100_000
        )
        np.testing.assert_allclose(found, net.fit(atoms.T, target).coef_, atol=1e-5)
        some += int(0 < used.sum() < 8)
    assert some > 5


def test_any_signs_to_begin_with_lead_to_the_same_net(problem: Problem) -> None:
    atoms, targets, gram = problem
    products = atoms @ targets[1]
    expected = elastic_net(gram, products, 0.1, torch.zeros(8, dtype=torch.float64))
    for seed in range(20):
        torch.manual_seed(seed)
        torch.testing.assert_close(elastic_net(gram, products, 0.1, torch.randn(8, dtype=torch.float64)), expected)
