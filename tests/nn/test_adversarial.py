"""Both sides of the game are the published logarithms, and the best discriminator measures a divergence."""

import math
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from robust_cluster.nn.adversarial import discriminator_loss, frozen, generator_loss, gradient_penalty
from robust_cluster.nn.layers import perceptron


def jensen_shannon(mean: float) -> float:
    """JSD of N(0, 1) and N(mean, 1) in nats, by quadrature."""

    def integrand(x: float) -> float:
        p, q = norm.pdf(x), norm.pdf(x, mean)
        return float(0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))))

    return float(quad(integrand, -8, mean + 8)[0])


def test_the_discriminators_loss_is_cross_entropy_against_0_and_1() -> None:
    torch.manual_seed(0)
    fake, real = torch.randn(7, 1), torch.randn(5, 1)
    expected = F.binary_cross_entropy(fake.sigmoid(), torch.zeros(7, 1))
    expected = expected + F.binary_cross_entropy(real.sigmoid(), torch.ones(5, 1))
    torch.testing.assert_close(discriminator_loss(fake, real), expected)
    assert discriminator_loss(torch.zeros(2), torch.zeros(3)).item() == pytest.approx(2 * math.log(2))
    assert discriminator_loss(torch.tensor([-200.0]), torch.tensor([200.0])).item() == 0


def test_both_forms_of_the_makers_loss_are_their_logarithms() -> None:
    logits = torch.tensor([-1.0, 0.5, 2.0])
    d = logits.sigmoid()
    torch.testing.assert_close(generator_loss(logits, "saturating"), (1 - d).log().mean())
    torch.testing.assert_close(generator_loss(logits, "nonsaturating"), -d.log().mean())


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_a_sure_discriminator_gives_finite_losses_and_gradients(logit: float) -> None:
    logits = torch.tensor([logit], requires_grad=True)
    total = generator_loss(logits, "saturating") + generator_loss(logits, "nonsaturating")
    (gradient,) = torch.autograd.grad(total + discriminator_loss(logits, logits), logits)
    assert total.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("mean", [0.0, 1.5, 3.0])
def test_the_value_at_the_best_discriminator_is_twice_the_divergence_less_2_ln_2(mean: float) -> None:
    """Lemma 2 of DCAN, whose bound is an equality; D = p / (p + q) has the logit ln p - ln q."""
    grid = torch.linspace(-10, 13, 40_001, dtype=torch.float64)
    real, fake = (torch.exp(-0.5 * (grid - m).square()) for m in (0.0, mean))
    best = real.log() - fake.log()
    value = 0.0
    for point, p, q in zip(best[::20], real[::20] / real[::20].sum(), fake[::20] / fake[::20].sum(), strict=True):
        value -= float(p * discriminator_loss(torch.tensor([-99.0]), point) + q * generator_value(point))
    assert value == pytest.approx(2 * jensen_shannon(mean) - 2 * math.log(2), abs=1e-4)


def generator_value(logit: Tensor) -> Tensor:
    """-ln(1 - D) of one fake."""
    return -generator_loss(logit, "saturating")


def test_a_trained_discriminator_reaches_that_value() -> None:
    torch.manual_seed(0)
    network = perceptron([1, 32, 1], nn.Tanh)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        discriminator_loss(network(1.5 + torch.randn(1000, 1)), network(torch.randn(1000, 1))).backward()
        optimizer.step()
    value = -discriminator_loss(network(1.5 + torch.randn(50_000, 1)), network(torch.randn(50_000, 1))).item()
    assert value == pytest.approx(2 * jensen_shannon(1.5) - 2 * math.log(2), abs=0.02)


def test_a_frozen_network_gives_its_output_and_a_gradient_to_its_input_alone() -> None:
    torch.manual_seed(0)
    network, x = perceptron([3, 4, 1], nn.Tanh), torch.randn(5, 3, requires_grad=True)
    output = frozen(network, x)
    assert output.equal(network(x))
    (wanted,) = torch.autograd.grad(network(x).sum(), x)
    output.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    torch.testing.assert_close(x.grad, wanted)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_penalty_of_a_linear_critic_is_the_square_of_its_slope_less_one() -> None:
    """||w|| = 5 everywhere: 16, with the gradient 2 (||w|| - 1) w / ||w|| at w."""
    critic = nn.Linear(2, 1)
    nn.init.constant_(critic.bias, 1.0)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[3.0, 4.0]]))
        penalty = gradient_penalty(critic, torch.randn(7, 2), torch.randn(7, 2))
    assert penalty.item() == pytest.approx(16)
    (gradient,) = torch.autograd.grad(penalty, critic.weight)
    torch.testing.assert_close(gradient, torch.tensor([[4.8, 6.4]]))


def test_the_penalty_is_taken_between_samples_and_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slope of ||x||^2 / 2 is x: at (1 - a) * 2 for samples at 0 and fakes at 2."""
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.full(size, 0.25))
    half_square = cast(nn.Module, lambda x: 0.5 * x.square().sum(dim=1))
    found = gradient_penalty(half_square, torch.zeros(3, 1), torch.full((3, 1), 2.0))
    assert found.item() == pytest.approx((1.5 - 1) ** 2)
