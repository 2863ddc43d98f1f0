"""EM passes, densities and the pull toward a mixture are what a plain computation gives."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.cluster import KMeans
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from robust_cluster.nn.mixture import (
    PATIENCE,
    PORTION,
    VARIANCE_FLOOR,
    GaussianMixture,
    HardMixture,
    Rule,
    diagonal_log_joint,
    full_log_joint,
    lloyd_pass,
)

RULES: tuple[Rule, ...] = ("nearest", "eq22", "full")


def drawn(rule: Rule, n: int = 90) -> tuple[HardMixture, Tensor]:
    """Three components with different means, precisions and weights, and codes around them."""
    torch.manual_seed(0)
    mixture = HardMixture(3, 2, rule)
    mixture.means.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0]]))
    mixture.precisions.copy_(torch.tensor([[1.0, 2.0], [4.0, 0.5], [1.0, 1.0]]))
    mixture.weights.copy_(torch.tensor([0.5, 0.2, 0.3]))
    return mixture, torch.randn(n, 2) + mixture.means.repeat(n // 3, 1)


def test_labeled_codes_give_means_precisions_and_weights_by_hand() -> None:
    """{0, 2} has mean 1 and variance 1, {10} has variance 0, which is floored."""
    mixture = HardMixture(2, 1, "nearest")
    squares = mixture.fit(torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([0, 0, 1]))
    assert mixture.means.tolist() == [[1.0], [10.0]]
    assert mixture.precisions.tolist() == [[1.0], [pytest.approx(1 / VARIANCE_FLOOR)]]
    assert mixture.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert squares.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("rule", RULES)
def test_a_code_goes_to_the_component_of_its_rules_formula(rule: Rule) -> None:
    mixture, z = drawn(rule)
    for code, found in zip(z, mixture.labels(z).tolist(), strict=True):
        scores = []
        for eta, tau, psi in zip(mixture.means, mixture.precisions, mixture.weights, strict=True):
            if rule == "full":
                scores.append(psi.log() + Normal(eta, tau.rsqrt()).log_prob(code).sum())
            else:
                scores.append((psi.log() if rule == "eq22" else 0) - 0.5 * (code - eta).square().sum())
        assert found == int(torch.stack(scores).argmax())


def test_the_rules_disagree_where_they_should() -> None:
    labels = [drawn(rule)[0].labels(drawn(rule)[1]) for rule in RULES]
    assert not labels[0].equal(labels[1])
    assert not labels[1].equal(labels[2])


@pytest.mark.parametrize("rule", RULES)
def test_soft_labels_sum_to_1_and_agree_with_the_labels(rule: Rule) -> None:
    mixture, z = drawn(rule)
    soft = mixture.log_posterior(z).exp()
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(len(z)))
    assert soft.argmax(dim=1).equal(mixture.labels(z))


def test_soft_labels_of_the_nearest_component_do_not_depend_on_the_scale_of_the_space() -> None:
    mixture, z = drawn("nearest")
    labels = mixture.labels(z)
    mixture.fit(z, labels)
    small = HardMixture(3, 2, "nearest")
    small.fit(0.1 * z, labels)
    torch.testing.assert_close(small.log_posterior(0.1 * z), mixture.log_posterior(z), rtol=1e-3, atol=1e-3)


def test_the_hard_objective_of_eq_22_never_decreases() -> None:
    """sum_n ln psi_k - ||z_n - eta_k||^2 / 2 at each code's component, on a fixed sample."""
    torch.manual_seed(1)
    z = torch.randn(200, 3) + 2 * torch.randint(0, 3, (200, 1))
    mixture = HardMixture(4, 3, "eq22")
    mixture.means.copy_(z[:4])
    values = []
    for _ in range(12):
        mixture.update(z)
        labels = mixture.labels(z)
        distances = (z - mixture.means[labels]).square().sum(dim=1)
        values.append(float((mixture.weights[labels].log() - 0.5 * distances).sum()))
        assert mixture.weights.sum().item() == pytest.approx(1)
        assert mixture.precisions.min() > 0
    assert all(after >= before - 1e-3 for before, after in itertools.pairwise(values))
    assert values[-1] > values[0]


def test_an_empty_component_stays_and_then_starts_again_at_the_farthest_codes() -> None:
    """Two components nobody is near to; the farthest and the second farthest code from the mean 0 are 5 and -3."""
    z = torch.tensor([[-3.0], [-1.0], [-1.0], [5.0], [0.0]])
    mixture = HardMixture(3, 1, "nearest")
    mixture.means.copy_(torch.tensor([[0.0], [100.0], [200.0]]))
    mixture.precisions.copy_(torch.tensor([[1.0], [7.0], [8.0]]))
    for _ in range(PATIENCE - 1):
        mixture.update(z)
    assert mixture.means.tolist() == [[0.0], [100.0], [200.0]]
    assert mixture.precisions[1:].tolist() == [[7.0], [8.0]]
    assert mixture.weights.tolist() == [1.0, 0.0, 0.0]
    mixture.update(z)
    assert mixture.means.tolist() == [[0.0], [5.0], [-3.0]]
    torch.testing.assert_close(mixture.precisions, torch.full((3, 1), 5 / 36))  # of the component they are taken from
    assert mixture.weights.tolist() == pytest.approx([5 / 7, 1 / 7, 1 / 7])
    mixture.update(z)
    assert torch.bincount(mixture.labels(z), minlength=3).tolist() == [3, 1, 1]


def test_an_empty_component_wins_no_code_under_eq_22() -> None:
    mixture = HardMixture(2, 1, "eq22")
    mixture.means.copy_(torch.tensor([[0.0], [1.0]]))
    mixture.weights.copy_(torch.tensor([1.0, 0.0]))
    assert mixture.labels(torch.tensor([[1.0], [9.0]])).tolist() == [0, 0]
    assert mixture.log_posterior(torch.tensor([[1.0]])).isfinite().all()


def test_draws_have_their_components_mean_and_variance() -> None:
    mixture, _ = drawn("nearest")
    labels = torch.ones(50_000, dtype=torch.int64)
    z = mixture.draw(labels, torch.randn(50_000, 2))
    torch.testing.assert_close(z.mean(dim=0), torch.tensor([1.0, 0.5]), atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(dim=0), torch.tensor([0.25, 2.0]), rtol=0.05, atol=0)
    assert mixture.draw(labels[:1], torch.zeros(1, 2)).tolist() == [[1.0, 0.5]]


def test_log_densities_are_those_of_torchs_distributions() -> None:
    torch.manual_seed(0)
    z, means, root = torch.randn(6, 3), torch.randn(2, 3), torch.randn(2, 3, 3)
    weights, covariances = torch.tensor([0.3, 0.7]), root @ root.mT + 0.1 * torch.eye(3)
    constant = 1.5 * math.log(2 * math.pi)
    normal = MultivariateNormal(means, covariances)
    expected = weights.log() + normal.log_prob(z.unsqueeze(1)) + constant
    torch.testing.assert_close(full_log_joint(z, weights, means, covariances), expected, rtol=1e-4, atol=1e-4)
    precisions = torch.rand(2, 3) + 0.5
    expected = weights.log() + Normal(means, precisions.rsqrt()).log_prob(z.unsqueeze(1)).sum(dim=2) + constant
    torch.testing.assert_close(diagonal_log_joint(z, weights, means, precisions), expected)


def test_a_large_precision_far_from_the_origin_costs_no_digits() -> None:
    z, means = torch.tensor([[1000.001]]), torch.tensor([[1000.0]])
    found = diagonal_log_joint(z, torch.ones(1), means, torch.tensor([[1e6]])).item()
    assert found == pytest.approx(0.5 * math.log(1e6) - 0.5 * 1e6 * (float(z) - 1000) ** 2, rel=1e-4)


def test_the_m_step_is_the_weighted_mean_and_covariance() -> None:
    torch.manual_seed(0)
    y, gamma = torch.randn(40, 3), torch.rand(40, 2).softmax(dim=1)
    mixture = GaussianMixture(2, 3, ridge=0.01)
    mixture.fit(y, gamma)
    torch.testing.assert_close(mixture.weights, gamma.mean(dim=0))
    for k in range(2):
        shares = gamma[:, k].numpy()
        np.testing.assert_allclose(mixture.means[k], np.average(y.numpy(), axis=0, weights=shares), rtol=1e-4)
        covariance = np.cov(y.numpy().T, aweights=shares, ddof=0) + 0.01 * np.eye(3)
        np.testing.assert_allclose(mixture.covariances[k], covariance, rtol=1e-3, atol=1e-5)


def test_a_component_without_samples_keeps_its_mean_and_covariance() -> None:
    mixture = GaussianMixture(2, 1, ridge=0.5)
    mixture.means.copy_(torch.tensor([[0.0], [9.0]]))
    mixture.fit(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert mixture.means.tolist() == [[2.0], [9.0]]
    assert mixture.covariances.flatten().tolist() == [1.5, 1.0]
    assert mixture.log_joint(torch.zeros(1, 1)).isfinite().all()


def test_the_pull_toward_the_mixture_by_hand() -> None:
    """(2 + 1/4 / 1 + 3/4 / (1/2))^-1 (2 * 1 + 1/4 * 0 + 3/4 * 4 / (1/2)) = 8 / 3.75."""
    mixture = GaussianMixture(2, 1, ridge=1e-5)
    mixture.means.copy_(torch.tensor([[0.0], [4.0]]))
    mixture.covariances.copy_(torch.tensor([[[1.0]], [[0.5]]]))
    found = mixture.pull(torch.tensor([[1.0]]), torch.tensor([[0.25, 0.75]]), rho=2.0)
    assert found.item() == pytest.approx(8 / 3.75)


def test_the_pull_minimizes_its_objective() -> None:
    torch.manual_seed(0)
    root = torch.randn(3, 4, 4, dtype=torch.float64)
    mixture = GaussianMixture(3, 4, ridge=1e-5).double()
    mixture.means.copy_(torch.randn(3, 4))
    mixture.covariances.copy_(root @ root.mT + 0.2 * torch.eye(4))
    point, gamma, rho = torch.randn(5, 4).double(), torch.rand(5, 3).double().softmax(dim=1), 1.7
    precisions = torch.linalg.inv(mixture.covariances)

    def objective(y: Tensor) -> Tensor:
        away = y.unsqueeze(1) - mixture.means
        mahalanobis = torch.einsum("nkd,kde,nke->nk", away, precisions, away)
        return 0.5 * (gamma * mahalanobis).sum() + 0.5 * rho * (y - point).square().sum()

    def numpys(flat: np.ndarray) -> tuple[float, np.ndarray]:
        y = torch.from_numpy(flat).view(5, 4).requires_grad_()
        value = objective(y)
        (gradient,) = torch.autograd.grad(value, y)
        return value.item(), gradient.numpy().ravel()

    lowest = minimize(numpys, point.numpy().ravel(), jac=True, tol=1e-10).x
    torch.testing.assert_close(
        mixture.pull(point, gamma, rho), torch.from_numpy(lowest).view(5, 4), rtol=1e-5, atol=1e-6
    )


def test_the_divergence_is_torchs_between_a_component_and_a_unit_gaussian_at_the_code() -> None:
    """Its slope is z - eta whatever the precisions are; at precision 1 it is half the squared distance (Lemma 1)."""
    mixture, z = drawn("nearest")
    labels = torch.arange(len(z)) % 3
    component = Normal(mixture.means[labels], mixture.precisions[labels].rsqrt())
    z.requires_grad_()
    found = mixture.divergence(z, labels)
    torch.testing.assert_close(found, kl_divergence(component, Normal(z, 1.0)).sum(dim=1).mean())
    (slope,) = torch.autograd.grad(found, z)
    torch.testing.assert_close(slope, (z - mixture.means[labels]).detach() / len(z))
    mixture.precisions.fill_(1.0)
    point = mixture.means[:1] + torch.tensor([[3.0, 4.0]])
    assert mixture.divergence(point, torch.tensor([0])).item() == pytest.approx(12.5)


def test_many_rows_are_pulled_as_each_alone() -> None:
    mixture = GaussianMixture(2, 1, ridge=1e-5)
    mixture.means.copy_(torch.tensor([[-1.0], [1.0]]))
    point = torch.linspace(-2, 2, PORTION + 3).unsqueeze(1)
    gamma = torch.stack([point[:, 0] < 0, point[:, 0] >= 0], dim=1).float()
    torch.testing.assert_close(mixture.pull(point, gamma, 3.0), (3 * point + gamma @ mixture.means) / 4)


def test_a_lloyd_pass_is_one_of_scikit_learns_and_leaves_an_empty_center() -> None:
    torch.manual_seed(0)
    z, centers = torch.randn(60, 2), torch.tensor([[-1.0, 0.0], [1.0, 0.0], [50.0, 50.0]])
    means, variance = lloyd_pass(z, centers)
    expected = KMeans(2, init=centers[:2].numpy(), n_init=1, max_iter=1, algorithm="lloyd").fit(z.numpy())
    np.testing.assert_allclose(means[:2], expected.cluster_centers_, rtol=1e-4, atol=1e-5)
    assert means[2].tolist() == [50.0, 50.0]
    nearest = ((z.unsqueeze(1) - centers).square().sum(dim=2)).argmin(dim=1)
    assert variance.item() == pytest.approx((z - means[nearest]).square().mean().item())
    assert lloyd_pass(torch.ones(3, 2), centers)[1].item() > 0
