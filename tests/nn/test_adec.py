"""ADEC's game at known values, its gradient with the right sign, Theorem 1 where it holds, and the turns."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.nn.adec import Turns
from robust_cluster.nn.adversarial import Game, discriminator_loss, generator_loss

D64 = torch.float64


def test_a_discriminator_that_is_never_sure_has_a_value_of_minus_two_log_two() -> None:
    half = torch.zeros(6, 1)
    assert discriminator_loss(half, half).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(half, "saturating").item() == pytest.approx(-math.log(2))
    assert generator_loss(half, "nonsaturating").item() == pytest.approx(math.log(2))


def test_the_losses_are_logarithms_of_probabilities() -> None:
    real, fake = torch.randn(9, 1, dtype=D64), torch.randn(9, 1, dtype=D64)
    wanted = -(real.sigmoid().log() + (1 - fake.sigmoid()).log()).mean()
    torch.testing.assert_close(discriminator_loss(fake, real), wanted)
    torch.testing.assert_close(generator_loss(fake, "saturating"), (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(generator_loss(fake, "nonsaturating"), -fake.sigmoid().log().mean())


def test_only_the_saturating_gradient_vanishes_with_a_sure_discriminator() -> None:
    games: list[tuple[Game, float]] = [("saturating", 0.0), ("nonsaturating", -1.0)]
    for game, wanted in games:
        fake = torch.tensor([[-200.0]], requires_grad=True)
        loss = generator_loss(fake, game)
        assert loss.isfinite()
        (gradient,) = torch.autograd.grad(loss, fake)
        assert gradient.item() == pytest.approx(wanted)


def test_the_gradient_of_the_adversarial_term_is_that_of_theorem_2_with_a_minus() -> None:
    """d/dz log(1 - D(G(z))) = -J_G(z)^T grad D(G(z)) / (1 - D(G(z))); the paper prints a plus."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5)).to(D64)
    discriminator = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).to(D64)
    z = torch.randn(7, 3, dtype=D64, requires_grad=True)
    (found,) = torch.autograd.grad(7 * generator_loss(discriminator(decoder(z)), "saturating"), z)
    for z_i, row in zip(z.detach(), found, strict=True):
        jacobian: Tensor = torch.autograd.functional.jacobian(decoder, z_i)
        x_hat = decoder(z_i).detach().requires_grad_()
        value = discriminator(x_hat).sigmoid()
        (slope,) = torch.autograd.grad(value, x_hat)
        wanted = jacobian.T @ slope / (1 - value.detach())
        torch.testing.assert_close(row, -wanted, rtol=0, atol=1e-10)
        assert wanted.norm() > 1e-3


@pytest.mark.parametrize("d", [12, 4])
def test_theorem_1_holds_for_k_means_always_and_for_the_reconstruction_where_no_input_is_lost(d: int) -> None:
    """L_k = J1 - J2/2; J1 + J3 is the latent error, which is L_r for d = n (A A^T = I, where the paper has A^T A)."""
    torch.manual_seed(0)
    n, N = 12, 30
    x = torch.randn(N, n, dtype=D64) + 3
    A = torch.linalg.qr(torch.randn(n, n, dtype=D64)).Q[:d]
    B = torch.randn(n, d, dtype=D64)
    z = x @ A.T
    decoded = z @ B.T
    z_hat = decoded @ A.T
    clusters = torch.arange(N) % 3 == 0
    parts = [z[clusters], z[~clusters]]
    sizes = [len(part) for part in parts]

    def between(a: int, b: int) -> Tensor:
        return torch.cdist(parts[a], parts[b]).square().sum()

    J1 = between(0, 1) / N + between(0, 0) / (2 * N) + between(1, 1) / (2 * N)
    share = sizes[0] * sizes[1] / N
    J2 = share * (
        2 * between(0, 1) / (sizes[0] * sizes[1]) - between(0, 0) / sizes[0] ** 2 - between(1, 1) / sizes[1] ** 2
    )
    mean = z.mean(dim=0)
    J3 = (z_hat - mean).square().sum() - 2 * ((z - mean) * (z_hat - mean)).sum()
    L_k = torch.stack([(part - part.mean(dim=0)).square().sum() for part in parts]).sum()
    L_r = (x - decoded).square().sum()
    torch.testing.assert_close(L_k, J1 - J2 / 2)
    torch.testing.assert_close(J1 + J3, (z - z_hat).square().sum())
    if d == n:
        torch.testing.assert_close(L_r, J1 + J3)
    else:
        assert 0.9 * L_r > J1 + J3


def test_the_discriminator_begins_then_the_decoder_alone_and_all_take_turns() -> None:
    turns = Turns(2, is_begun=False)
    found = []
    for step in range(12):
        if step == 3:
            turns.is_begun.fill_(True)
        found.append(turns.current())
        turns.advance()
    assert found == ["discriminator"] * 3 + (["decoder"] * 2 + ["all"] * 2) * 2 + ["decoder"]
    assert (int(turns.alone), int(turns.taken)) == (3, 9)


def test_turns_that_were_saved_go_on_where_they_were() -> None:
    turns, again = Turns(2, is_begun=True), Turns(2, is_begun=False)
    for _ in range(3):
        turns.advance()
    again.load_state_dict(copy.deepcopy(turns.state_dict()))
    for _ in range(6):
        assert again.current() == turns.current()
        turns.advance()
        again.advance()
