"""The learned attacker's objective is L_A of ALRDC, and only the attacker learns."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.budget import Budget
from robust_cluster.attacks.latent_net import Config, LatentNet
from robust_cluster.data.base import Batch, Dataset
from robust_cluster.measure.scores import embed
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.metrics.distortion import distortion
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.models.base import ClusterModel


def attacker(surface: Surface, **values: Any) -> LatentNet:
    torch.manual_seed(7)
    return LatentNet(Config(hidden=(16, 12), **values), surface)


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def test_the_objective_is_the_published_sum_sample_by_sample(surface: Surface, batch: Batch) -> None:
    attack, model = attacker(surface, gamma=30.0), surface.model.requires_grad_(False)
    torch.manual_seed(1)
    terms = values(attack.losses(surface, batch))
    torch.manual_seed(1)
    eps = torch.randn(100, 8)
    embedding = model.encode(batch.views)
    assert embedding.log_var is not None
    expected = {"reconstruction": 0.0, "overlap": 0.0, "size": 0.0}
    for i in range(100):
        mean, log_var = embedding.z[i : i + 1], embedding.log_var[i : i + 1]
        delta = attack.network(batch.views[0][i : i + 1]).detach()
        z = mean + (log_var / 2).exp() * eps[i]
        change = model.decode(z)[0] - model.decode(z + delta)[0]
        expected["reconstruction"] += 2.5 * change.square().sum().item() / 100
        expected["overlap"] += 30.0 * (model.assign(mean) * model.assign(mean + delta)).sum().item() / 100
        expected["size"] += delta.square().sum().item() / 100
    assert terms == pytest.approx(expected, rel=1e-4)


def test_a_doubled_batch_costs_the_same(surface: Surface, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fooling term too is a mean, not a sum."""
    attack = attacker(surface)
    eps = torch.randn(100, 8)
    monkeypatch.setattr(torch, "randn_like", lambda like: eps.repeat(len(like) // 100, 1))
    twice = Batch((batch.views[0].repeat(2, 1),), batch.index.repeat(2))
    assert values(attack.losses(surface, twice)) == pytest.approx(values(attack.losses(surface, batch)), rel=1e-5)


def test_an_attack_step_moves_the_attacker_and_no_bit_of_the_victim(surface: Surface, batch: Batch) -> None:
    """With a victim that would learn if anything let it."""
    attack = attacker(surface)
    victim, network = snapshot(surface.model), snapshot(attack.network)
    attack.step(surface, batch)
    assert all(value.equal(victim[name]) for name, value in surface.model.state_dict().items())
    assert all(not value.equal(network[name]) for name, value in attack.network.state_dict().items())
    owned = {id(p) for group in attack.optimizer.param_groups for p in group["params"]}
    assert owned == {id(p) for p in attack.network.parameters()}


def test_no_perturbation_changes_nothing_and_costs_gamma_times_the_squared_labels(
    victim: ClusterModel, digits: Dataset
) -> None:
    surface = Surface(victim, "latent", embed(victim, digits.views))
    attack = attacker(surface)
    for parameter in attack.network.parameters():
        nn.init.zeros_(parameter)
    data = Batch(digits.views, torch.arange(1797))
    (clean,), (moved,) = surface.point(data), attack.perturb(surface, data)
    assert moved.equal(clean)
    before, after = surface.labels((clean,)).numpy(), surface.labels((moved,)).numpy()
    assert digits.labels is not None
    assert flip_rate(before, after) == 0
    assert accuracy(digits.labels, after) == accuracy(digits.labels, before)
    sizes = distortion(clean.numpy(), (moved - clean).detach().numpy())
    assert set(vars(sizes).values()) == {0.0}
    squares = victim.assign(clean).square().sum(dim=1).mean().item()
    assert values(attack.losses(surface, data)) == {
        "reconstruction": 0.0,
        "overlap": pytest.approx(40 * squares, rel=1e-5),
        "size": 0.0,
    }


def test_the_attacker_reads_the_data_and_is_affine_in_them(surface: Surface, batch: Batch) -> None:
    attack = attacker(surface)
    x, y = batch.views[0][:50], batch.views[0][50:]
    delta_x, delta_y, middle = (attack.delta(Batch((v,), batch.index[:50])) for v in (x, y, 0.3 * x + 0.7 * y))
    torch.testing.assert_close(middle, 0.3 * delta_x + 0.7 * delta_y, rtol=1e-4, atol=1e-4)
    assert [(m.in_features, m.out_features) for m in attack.network if isinstance(m, nn.Linear)] == [
        (64, 16),
        (16, 12),
        (12, 8),
    ]
    first = attack.network[0]
    assert isinstance(first, nn.Linear)
    assert first.bias.count_nonzero() == 0


def test_the_relu_attacker_is_not_affine(surface: Surface, batch: Batch) -> None:
    network = attacker(surface, attacker_activation="relu").network
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    x = batch.views[0]
    assert not torch.allclose(network(x) + network(-x), 2 * network(torch.zeros_like(x)), atol=1e-2)


def test_the_moved_point_is_the_mean_plus_delta_without_a_budget(surface: Surface, batch: Batch) -> None:
    attack = attacker(surface)
    (moved,) = attack.perturb(surface, batch)
    torch.testing.assert_close(moved, surface.model.encode(batch.views).z + attack.network(batch.views[0]))
    assert attack.budget == Budget()


def test_training_lowers_the_objective_and_fools_more_than_the_start(surface: Surface, batch: Batch) -> None:
    attack = attacker(surface)
    terms = [attack.step(surface, batch) for _ in range(60)]
    assert sum(terms[-1].values()) < 0.9 * sum(terms[0].values())


def test_without_a_fooling_term_the_perturbation_shrinks(surface: Surface, batch: Batch) -> None:
    """Gamma 0 leaves only what asks for no change."""
    attack = attacker(surface, gamma=0.0)
    sizes = [attack.step(surface, batch)["size"] for _ in range(60)]
    assert sizes[-1] < 0.1 * sizes[0]


def test_the_gradients_of_the_three_terms_are_right(surface: Surface, batch: Batch) -> None:
    attack = attacker(surface)
    attack.network.double()
    exact = Surface(surface.model.double(), "latent")
    few = Batch((batch.views[0][:3].double(),), batch.index[:3])
    delta = attack.delta(few).detach().requires_grad_()

    def terms(moving: Tensor) -> tuple[Tensor, ...]:
        attack.delta = lambda batch: moving  # type: ignore[method-assign]
        torch.manual_seed(0)
        return tuple(attack.losses(exact, few).values())

    assert torch.autograd.gradcheck(terms, [delta])


def test_two_attackers_of_one_seed_are_equal_and_of_two_seeds_are_not(surface: Surface) -> None:
    first, second = attacker(surface), attacker(surface)
    third = LatentNet(Config(hidden=(16, 12)), surface)
    weights = [attack.network.get_parameter("0.weight") for attack in (first, second, third)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_the_defaults_are_the_published_ones() -> None:
    config = Config()
    assert (config.gamma, config.recon_weight, config.size_weight, config.hidden) == (40, 2.5, 1, (1024, 512))
    schedule = config.schedule
    assert (schedule.epochs, schedule.steps_per_epoch, schedule.batch_size, schedule.lr) == (200, 50, 1000, 1e-3)
