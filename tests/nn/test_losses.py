"""The loss terms against hand-worked values, Monte Carlo and torch's own distributions."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from robust_cluster.errors import ShapeError
from robust_cluster.nn.layers import glorot, perceptron
from robust_cluster.nn.losses import (
    assignment_overlap,
    jensen_shannon,
    mixture_prior_kl,
    negative_entropy,
    squared_error,
    standard_normal_kl,
)

CHANCE = 2 * math.log(2)


@pytest.fixture
def mixture() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y (4, 3), mu (4, 5), s (4, 5), m (3, 5) in float64."""
    random = torch.Generator().manual_seed(0)
    y, mu, s, m = (torch.randn(*shape, generator=random).double() for shape in [(4, 3), (4, 5), (4, 5), (3, 5)])
    return y.softmax(dim=1), mu, s, m


def gaussian(mean: Tensor, log_var: Tensor) -> Distribution:
    return Independent(Normal(mean, (0.5 * log_var).exp()), 1)


def test_squared_error_sums_over_pixels_and_averages_over_samples() -> None:
    x, y = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert squared_error(x, y).item() == (4 * 1 + 4 * 9) / 2


def test_squared_error_refuses_unequal_shapes() -> None:
    with pytest.raises(ShapeError, match=r"equal shapes, got \(2, 3\) and \(2, 1\)"):
        squared_error(torch.zeros(2, 3), torch.zeros(2, 1))


def test_standard_normal_kl_is_that_of_torch_distributions(mixture: tuple[Tensor, ...]) -> None:
    _, mu, s, _ = mixture
    expected = kl_divergence(gaussian(mu, s), gaussian(torch.zeros_like(mu), torch.zeros_like(s))).mean()
    torch.testing.assert_close(standard_normal_kl(mu, s), expected)


def test_the_prior_term_is_the_monte_carlo_mean_of_its_log_ratio(mixture: tuple[Tensor, ...]) -> None:
    """sum_k y_k E_z log[p(z|x) / q(z|k)] by 10^5 draws, within 2 %."""
    y, mu, s, m = mixture
    torch.manual_seed(1)
    posterior = gaussian(mu, s)
    z = posterior.sample((100_000,))
    prior = gaussian(m, torch.zeros_like(m)).log_prob(z.unsqueeze(2))  # (draws, n, K)
    ratios = posterior.log_prob(z).unsqueeze(2) - prior
    estimate = (y * ratios.mean(dim=0)).sum(dim=1).mean()
    assert mixture_prior_kl(y, mu, s, m).item() == pytest.approx(estimate.item(), rel=0.02)


def test_the_prior_term_is_the_weighted_sum_of_exact_divergences(mixture: tuple[Tensor, ...]) -> None:
    """Both the direct form and the decomposition into spread and distances."""
    y, mu, s, m = mixture
    direct, parts = 0.0, 0.0
    for i in range(4):
        parts += 0.5 * sum(math.exp(v) - 1 - v for v in s[i].tolist()) / 4
        for k in range(3):
            unit = gaussian(m[k], torch.zeros_like(m[k]))
            direct += y[i, k].item() * kl_divergence(gaussian(mu[i], s[i]), unit).item() / 4
            parts += 0.5 * y[i, k].item() * (mu[i] - m[k]).square().sum().item() / 4
    value = mixture_prior_kl(y, mu, s, m).item()
    assert value == pytest.approx(direct, abs=1e-10)
    assert value == pytest.approx(parts, abs=1e-10)


def test_the_gradient_of_the_prior_term_is_right_in_all_four_arguments(mixture: tuple[Tensor, ...]) -> None:
    assert torch.autograd.gradcheck(mixture_prior_kl, [tensor.requires_grad_() for tensor in mixture])


@pytest.mark.parametrize(("rows", "expected"), [(torch.full((3, 5), 0.2), -math.log(5)), (torch.eye(5), 0.0)])
def test_negative_entropy_is_minus_log_k_for_uniform_and_0_for_one_hot_rows(rows: Tensor, expected: float) -> None:
    assert negative_entropy(rows).item() == pytest.approx(expected, abs=1e-5)


def test_descending_negative_entropy_raises_each_samples_entropy() -> None:
    """The sign of H."""
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.5, 0.1]], requires_grad=True)
    negative_entropy(logits.softmax(dim=1)).backward()
    assert logits.grad is not None
    before, after = (torch.distributions.Categorical(logits=x).entropy() for x in (logits, logits - 0.1 * logits.grad))
    assert (after > before).all()


def test_overlap_compares_each_sample_with_itself_and_averages() -> None:
    one_hot = torch.eye(4)
    assert assignment_overlap(one_hot, one_hot).item() == 1
    assert assignment_overlap(one_hot, one_hot.roll(1, dims=0)).item() == 0
    half = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert assignment_overlap(half, half).item() == pytest.approx((0.5 + 1) / 2)


def test_jensen_shannon_is_0_for_a_perfect_discriminator_and_2_log_2_for_a_blind_one() -> None:
    codes = torch.arange(50.0).unsqueeze(1)

    def perfect(pairs: Tensor) -> Tensor:
        same = pairs[:, 0] == pairs[:, 1]
        return same.float().unsqueeze(1)

    def blind(pairs: Tensor) -> Tensor:
        return torch.full((len(pairs), 1), 0.5)

    torch.manual_seed(0)
    fixed = (torch.randperm(50) == torch.arange(50)).float().mean().item()  # pairs that the shuffle leaves in place
    torch.manual_seed(0)
    expected = -fixed * math.log(1e-6)
    assert jensen_shannon(perfect, codes, codes).item() == pytest.approx(expected, abs=1e-4)
    assert jensen_shannon(blind, codes, codes).item() == pytest.approx(CHANCE, abs=1e-5)


def test_an_untrained_discriminator_is_at_chance() -> None:
    """2 log 2 within 0.2 on small-scale inputs."""
    torch.manual_seed(0)
    discriminator = nn.Sequential(perceptron([20, 8, 8, 1]), nn.Sigmoid())
    glorot(discriminator)
    value = jensen_shannon(discriminator, 0.3 * torch.randn(200, 12), 0.3 * torch.randn(200, 8))
    assert value.item() == pytest.approx(CHANCE, abs=0.2)


def test_a_shuffle_moves_whole_rows_of_the_right_side_only() -> None:
    """What one row of the right side holds stays together."""
    left = torch.arange(30.0).unsqueeze(1)
    right = torch.stack([left[:, 0], -left[:, 0]], dim=1)
    seen: list[Tensor] = []

    def spy(pairs: Tensor) -> Tensor:
        seen.append(pairs)
        return pairs[:, :1].sigmoid()

    torch.manual_seed(0)
    jensen_shannon(spy, left, right)
    joint, independent = seen[0].chunk(2)
    torch.testing.assert_close(joint, torch.cat([left, right], dim=1), rtol=0, atol=0)
    assert independent[:, 0].equal(left[:, 0])
    assert independent[:, 1].equal(-independent[:, 2])
    assert independent[:, 1].sort().values.equal(left[:, 0])
    assert not independent[:, 1].equal(left[:, 0])


def test_one_sample_cannot_be_shuffled() -> None:
    with pytest.raises(ShapeError, match="at least 2 samples, got 1"):
        jensen_shannon(torch.sigmoid, torch.zeros(1, 2), torch.zeros(1, 2))


def test_the_gradient_of_jensen_shannon_is_right_for_one_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randperm", lambda n: torch.arange(n).roll(1))
    torch.manual_seed(0)
    discriminator = nn.Sequential(perceptron([5, 4, 1], nn.Tanh), nn.Sigmoid()).double()
    sides = [torch.randn(4, width, dtype=torch.float64, requires_grad=True) for width in (2, 3)]
    assert torch.autograd.gradcheck(lambda left, right: jensen_shannon(discriminator, left, right), sides)
