"""VaDE's network, prior and divergences against torch.distributions and scikit-learn; the discriminator's pairs."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from robust_cluster.errors import ShapeError
from robust_cluster.nn.variational import (
    MixturePrior,
    PairDiscriminator,
    VariationalAutoencoder,
    component_kl,
    pair_information,
    prior_kl,
)


def network(*, is_bounded: bool = True, shape: tuple[int, ...] = (1, 4, 5)) -> VariationalAutoencoder:
    torch.manual_seed(0)
    return VariationalAutoencoder(shape, 3, (16, 12), is_bounded=is_bounded)


def prior(n_clusters: int = 4) -> MixturePrior:
    """Random parameters in float64, J = 3."""
    torch.manual_seed(1)
    made = MixturePrior(n_clusters, 3).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def posterior() -> tuple[Tensor, Tensor, Tensor]:
    """mu~, log s~^2 and a draw z, each (6, 3), in float64."""
    random = torch.Generator().manual_seed(2)
    mean, log_var, eps = (torch.randn(6, 3, generator=random, dtype=torch.float64) for _ in range(3))
    return mean, log_var, mean + (log_var / 2).exp() * eps


def test_the_network_has_the_published_layers_and_pytorchs_initialization() -> None:
    built = VariationalAutoencoder((1, 28, 28), 10, (500, 500, 2000), is_bounded=True)
    linear = [layer for layer in built.modules() if isinstance(layer, nn.Linear)]
    widths = [(layer.in_features, layer.out_features) for layer in linear]
    encoder = [(784, 500), (500, 500), (500, 2000)]
    assert widths == [*encoder, (2000, 10), (2000, 10), (10, 2000), (2000, 500), (500, 500), (500, 784)]
    for layer in linear:
        bound = layer.in_features**-0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert 0.5 * bound < layer.bias.abs().max() <= bound
    assert [type(layer) for layer in built.body.modules() if isinstance(layer, nn.ReLU)] == [nn.ReLU] * 3


def test_images_are_flattened_and_given_back_in_their_shape() -> None:
    made, x = network(), torch.rand(7, 1, 4, 5)
    mean, log_var = made.encode(x)
    assert (mean.shape, log_var.shape) == ((7, 3), (7, 3))
    decoded = made.decode(mean)
    assert decoded.shape == x.shape
    assert decoded.min() > 0
    assert decoded.max() < 1
    flat = network(shape=(20,))
    torch.testing.assert_close(flat.encode(x.flatten(1))[0], mean)
    torch.testing.assert_close(flat.decode(mean), decoded.flatten(1))


def test_data_in_bounds_are_scored_by_cross_entropy_summed_over_pixels() -> None:
    made, x = network(), torch.rand(7, 1, 4, 5)
    z = torch.randn(7, 3)
    expected = F.binary_cross_entropy(made.decode(z), x, reduction="sum") / 7
    torch.testing.assert_close(made.reconstruction(z, x), expected)


def test_data_without_bounds_are_scored_by_squared_error_summed_over_entries() -> None:
    made, x = network(is_bounded=False), 5 * torch.randn(7, 1, 4, 5)
    z = torch.randn(7, 3)
    decoded = made.decode(z)
    assert decoded.min() < 0
    torch.testing.assert_close(made.reconstruction(z, x), (decoded - x).square().sum() / 7)


def test_a_saturated_output_that_is_wrong_keeps_its_gradient() -> None:
    made = network()
    nn.init.constant_(made.decoder[-1].bias, 60.0)
    made.reconstruction(torch.zeros(2, 3), torch.zeros(2, 1, 4, 5)).backward()
    torch.testing.assert_close(made.decoder[-1].bias.grad, torch.ones(20))


def test_log_variances_stay_between_minus_10_and_10() -> None:
    made, mixture = network(), MixturePrior(2, 3)
    nn.init.constant_(made.log_var.bias, 99.0)
    nn.init.constant_(mixture.log_vars, -99.0)
    assert made.encode(torch.rand(2, 1, 4, 5))[1].unique().tolist() == [10.0]
    assert mixture.log_variances().unique().tolist() == [-10.0]


def test_a_new_prior_is_uniform_over_standard_normals() -> None:
    made = MixturePrior(4, 3)
    torch.testing.assert_close(made.log_weights().exp(), torch.full((4,), 0.25))
    assert made.means.count_nonzero() == 0
    assert made.log_variances().count_nonzero() == 0


def test_responsibilities_are_the_posterior_of_the_mixture() -> None:
    made, (_, _, z) = prior(), posterior()
    components = Independent(Normal(made.means, (made.log_vars / 2).exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=made.logits), components)
    joint = made.log_weights() + components.log_prob(z.unsqueeze(1))
    expected = joint - mixture.log_prob(z).unsqueeze(1)
    torch.testing.assert_close(made.log_responsibilities(z), expected, rtol=1e-10, atol=1e-10)
    assert float(made.log_weights().exp().sum().detach()) == pytest.approx(1)


def test_responsibilities_far_from_every_component_are_sharp_and_finite() -> None:
    """Densities themselves underflow there, and an epsilon beside them would make them all alike."""
    made = MixturePrior(2, 3)
    with torch.no_grad():
        made.means[0] += 1
    log_gamma = made.log_responsibilities(torch.full((1, 3), 1e3)).detach()
    torch.testing.assert_close(log_gamma, torch.tensor([[0.0, -2998.5]]))


def test_the_gradient_of_the_responsibilities_reaches_z_and_every_parameter_of_the_prior() -> None:
    made, (_, _, z) = prior(), posterior()
    made.log_responsibilities(z.requires_grad_())[:, 0].sum().backward()
    for tensor in (z, *made.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().min() > 0


def test_the_two_divergences_are_torchs_and_sum_to_the_published_lines() -> None:
    """kl_z + kl_c + ent of Eq. 4 with its missing 1/2 is KL(q(z, c | x) || p(z, c)), in closed form."""
    made, (mean, log_var, z) = prior(), posterior()
    log_gamma = made.log_responsibilities(z)
    gamma = log_gamma.exp()
    q = Independent(Normal(mean.unsqueeze(1), (log_var / 2).exp().unsqueeze(1)), 1)
    each = kl_divergence(q, Independent(Normal(made.means, (made.log_vars / 2).exp()), 1))  # (n, K)
    own, components = prior_kl(gamma, mean, log_var, made), component_kl(log_gamma, made.log_weights())
    torch.testing.assert_close(own, (gamma * each).sum() / 6, rtol=1e-10, atol=1e-10)
    expected = kl_divergence(Categorical(logits=log_gamma), Categorical(logits=made.logits)).mean()
    torch.testing.assert_close(components, expected, rtol=1e-10, atol=1e-10)
    published = torch.zeros((), dtype=torch.float64)
    variance, widths, pi = log_var.exp(), made.log_vars.exp(), made.logits.softmax(dim=0)
    for i in range(6):
        for c in range(4):
            line = made.log_vars[c] + variance[i] / widths[c] + (mean[i] - made.means[c]).square() / widths[c]
            published += gamma[i, c] * (0.5 * line.sum() - (pi[c] / gamma[i, c]).log()) / 6
        published -= 0.5 * (1 + log_var[i]).sum() / 6
    torch.testing.assert_close(own + components, published, rtol=1e-8, atol=1e-8)
    assert own > 0
    assert components > 0


def test_both_divergences_are_zero_for_one_component_that_is_the_posterior() -> None:
    made = prior(1)
    mean, log_var = made.means.detach().repeat(5, 1), made.log_vars.detach().repeat(5, 1)
    log_gamma = made.log_responsibilities(mean)
    assert abs(float(prior_kl(log_gamma.exp(), mean, log_var, made).detach())) < 1e-12
    assert float(component_kl(log_gamma, made.log_weights()).detach()) == 0


def test_a_fitted_prior_is_scikit_learns_mixture_and_labels_as_it_does() -> None:
    random = torch.Generator().manual_seed(3)
    centers = 2 * torch.randn(5, 3, generator=random)
    z = centers[torch.arange(1000) % 5] + torch.rand(1000, 1, generator=random) * torch.randn(1000, 3, generator=random)
    made = MixturePrior(5, 3)
    made.fit(z.requires_grad_(), seed=4)
    mixture = GaussianMixture(5, covariance_type="diag", random_state=4).fit(z.detach().double().numpy())
    weights = made.log_weights().exp().detach()
    torch.testing.assert_close(weights, torch.tensor(mixture.weights_, dtype=torch.float32))
    torch.testing.assert_close(made.means.detach(), torch.tensor(mixture.means_, dtype=torch.float32))
    torch.testing.assert_close(made.log_vars.exp().detach(), torch.tensor(mixture.covariances_, dtype=torch.float32))
    assert float(weights.sum()) == pytest.approx(1)
    labels = made.log_responsibilities(z).argmax(dim=1)
    agreement = (labels == torch.tensor(mixture.predict(z.detach().double().numpy()))).float().mean()
    assert agreement > 0.999
    assert labels.unique().numel() == 5


def test_of_twenty_starts_the_likeliest_mixture_is_taken() -> None:
    """Of thirty groups, some of them near each other, one start of k-means seldom finds all."""
    random = torch.Generator().manual_seed(0)
    z = torch.rand(30, 2, generator=random)[torch.arange(600) % 30] + 0.01 * torch.randn(600, 2, generator=random)

    def likelihood(n_init: int, seed: int) -> float:
        made = MixturePrior(30, 2)
        made.fit(z, seed, n_init=n_init)
        components = Independent(Normal(made.means, (made.log_vars / 2).exp()), 1)
        mixture = MixtureSameFamily(Categorical(logits=made.logits), components)
        return float(mixture.log_prob(z).mean().detach())

    pairs = [(likelihood(20, seed), likelihood(1, seed)) for seed in range(2)]
    assert all(twenty >= one - 1e-6 for twenty, one in pairs)
    assert any(twenty > one + 0.01 for twenty, one in pairs)


def test_the_discriminator_is_a_perceptron_on_z_and_x_and_never_pairs_a_sample_with_itself() -> None:
    torch.manual_seed(5)
    made = PairDiscriminator(3, 4, (8, 6))
    plain = nn.Sequential(made.first, made.rest)
    z, x = torch.randn(5, 3), torch.randn(5, 4)
    own, other = made(z, x)
    torch.testing.assert_close(own, plain(torch.cat([z, x], dim=1))[:, 0])
    before = x[torch.tensor([4, 0, 1, 2, 3])]
    torch.testing.assert_close(other, plain(torch.cat([z, before], dim=1))[:, 0])
    assert not (own == other).any()
    widths = [(m.in_features, m.out_features) for m in made.modules() if isinstance(m, nn.Linear)]
    assert widths == [(7, 8), (8, 6), (6, 1)]


def test_the_information_term_is_the_cross_entropy_of_own_and_other_pairs() -> None:
    torch.manual_seed(5)
    made = PairDiscriminator(3, 20, (8,))
    z, x = torch.randn(5, 3), torch.randn(5, 1, 4, 5)
    own, other = made(z, x.flatten(1))
    expected = F.binary_cross_entropy(own.sigmoid(), torch.ones(5)) + F.binary_cross_entropy(
        other.sigmoid(), torch.zeros(5)
    )
    torch.testing.assert_close(pair_information(made, z, x), expected)


def test_the_information_term_is_2_log_2_where_nothing_is_told_apart_and_falls_where_it_is() -> None:
    made = PairDiscriminator(1, 1, (2,))
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    z = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert float(pair_information(made, z, z).detach()) == pytest.approx(2 * math.log(2))
    # d = 9 |z + x| - 9: 9 for equal signs, -9 for unequal ones
    with torch.no_grad():
        made.first.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        made.rest[1][0].weight.fill_(9.0)
        made.rest[1][0].bias.fill_(-9.0)
    assert float(pair_information(made, z, z).detach()) == pytest.approx(2 * math.log1p(math.exp(-9)), rel=1e-3)


def test_encoder_and_discriminator_descend_the_information_term_together() -> None:
    torch.manual_seed(5)
    made = PairDiscriminator(3, 4, (8,))
    z, x = torch.randn(50, 3, requires_grad=True), torch.randn(50, 4)
    losses = []
    optimizer = torch.optim.Adam([z, *made.parameters()], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = pair_information(made, z, x)
        loss.backward()
        assert z.grad is not None
        assert z.grad.abs().sum() > 0
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * 2 * math.log(2) < losses[0]


def test_a_batch_of_one_has_no_other_sample() -> None:
    with pytest.raises(ShapeError, match="another sample of the batch is needed for each, got 1 in all"):
        pair_information(PairDiscriminator(3, 4, (8,)), torch.randn(1, 3), torch.randn(1, 4))
