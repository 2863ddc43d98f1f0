"""The defense ties clean and perturbed branch together, trains the model and T, and never the attacker."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks import latent_net
from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.latent_net import LatentNet
from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.defenses.mutual_info import Config, MutualInfo
from robust_cluster.errors import ConfigError
from robust_cluster.models.autoencoder import convae
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.schedule import Schedule
from robust_cluster.stages import methods
from robust_cluster.stages.loop import plateau
from robust_cluster.stages.profiles import PROFILES

Build = Callable[..., ClusterModel]


@pytest.fixture
def surface(digits: Dataset) -> Surface:
    torch.manual_seed(0)
    config = methods.plain(methods.resolve("models", "convae", "smoke", {}))
    model = methods.new_model("convae", config, digits.info, 8)
    nn.init.normal_(model.get_parameter("centers"))
    return Surface(model, "latent")


@pytest.fixture
def attack(surface: Surface) -> LatentNet:
    return LatentNet(latent_net.Config(hidden=(16, 12)), surface)


@pytest.fixture
def small(batch: Batch) -> Batch:
    return Batch((0.1 * batch.views[0],), batch.index)


def defense(surface: Surface, **values: Any) -> MutualInfo:
    torch.manual_seed(3)
    return MutualInfo(Config(**values), surface)


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that are no longer bit for bit what they were."""
    return {name for name, value in module.state_dict().items() if not value.equal(before[name])}


def test_a_defense_step_trains_every_tensor_of_the_model_and_t_and_no_bit_of_the_attacker(
    surface: Surface, attack: LatentNet, batch: Batch
) -> None:
    """Encoder, decoder, head, prior means and T."""
    defending = defense(surface)
    parts = (surface.model, defending.discriminator, attack.network)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    defending.step(surface, attack, batch)
    defending.step(surface, attack, batch)  # a second, for units that were dead in the first
    model, discriminator, attacker = (changed(part, old) for part, old in zip(parts, before, strict=True))
    assert model == set(before[0])
    assert discriminator == set(before[1])
    assert attacker == set()
    assert all(parameter.grad is None for parameter in attack.network.parameters())


def test_the_control_trains_the_model_alone_on_its_own_loss(surface: Surface, attack: LatentNet, batch: Batch) -> None:
    """Not a bit of T."""
    control = defense(surface, mode="control")
    twin, before = copy.deepcopy(surface.model), copy.deepcopy(control.discriminator.state_dict())
    torch.manual_seed(1)
    terms = control.step(surface, attack, batch)
    assert changed(control.discriminator, before) == set()
    torch.manual_seed(1)
    assert twin.step(batch, "cluster", twin.optimizers("cluster")) == terms
    assert changed(surface.model, twin.state_dict()) == set()


def test_the_loss_is_the_victims_own_plus_both_information_terms(
    surface: Surface, attack: LatentNet, batch: Batch
) -> None:
    defending = defense(surface)
    torch.manual_seed(1)
    own = {name: term.item() for name, term in surface.model.losses(batch, "cluster").items()}
    torch.manual_seed(1)
    terms = defending.step(surface, attack, batch)
    assert list(terms) == ["reconstruction", "prior", "entropy", "information_1", "information_2"]
    assert {name: terms[name] for name in own} == pytest.approx(own)


def test_each_embedding_is_paired_with_the_other_branchs_outputs(
    surface: Surface, attack: LatentNet, batch: Batch
) -> None:
    """T sees (mu', x_hat, y) and (mu, x_hat', y'); shuffles keep (x_hat_i, y_i) together and are independent."""
    model, defending = surface.model, defense(surface)
    seen: list[Tensor] = []
    defending.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    outputs = model(batch.views)
    z, delta = outputs.embedding.z, attack.delta(batch)
    expected = [
        torch.cat([z + delta, outputs.decoded[0], model.assign(z)], dim=1),
        torch.cat([z, model.decode(outputs.z_drawn + delta)[0], model.assign(z + delta)], dim=1),
    ]
    defending.information(surface, attack, batch, outputs)
    orders = []
    for pairs, joint in zip(seen, expected, strict=True):
        first, second = pairs.chunk(2)
        torch.testing.assert_close(first, joint.detach(), rtol=1e-4, atol=1e-4)
        assert second[:, :8].equal(first[:, :8])
        matches = (second[:, None, 8:] == first[None, :, 8:]).all(dim=2)  # (n, n): which whole row each one is
        assert matches.sum(dim=0).tolist() == matches.sum(dim=1).tolist() == [1] * 100
        orders.append(matches.int().argmax(dim=1).tolist())
    assert orders[0] != orders[1]
    assert list(range(100)) not in orders


def test_gradients_reach_the_model_through_all_five_quantities(
    surface: Surface, attack: LatentNet, batch: Batch
) -> None:
    """Section 6.2: through mu, x_hat, x_hat', y and y'; the information terms alone teach encoder, decoder and head."""
    outputs = surface.model(batch.views)
    tensors = [outputs.embedding.z, outputs.decoded[0], outputs.soft_labels, outputs.z_drawn]
    first, second = defense(surface).information(surface, attack, batch, outputs).values()
    through_first = torch.autograd.grad(first, tensors[:3], retain_graph=True)
    assert all(gradient.abs().sum() > 0 for gradient in through_first)
    moved_decoded = torch.autograd.grad(second, outputs.z_drawn, retain_graph=True)
    assert moved_decoded[0].abs().sum() > 0
    moved_labels = torch.autograd.grad(second, [p for n, p in surface.model.named_parameters() if "head" in n])
    assert all(gradient.abs().sum() > 0 for gradient in moved_labels)


def test_untrained_information_terms_are_at_chance_and_carry_their_weight(
    surface: Surface, attack: LatentNet, small: Batch
) -> None:
    """2 log 2 within 0.2 each, on small-scale inputs."""
    values = []
    for weight in (1.0, 2.5):
        torch.manual_seed(1)
        outputs = surface.model(small.views)
        terms = defense(surface, weight=weight).information(surface, attack, small, outputs)
        values.append([term.item() for term in terms.values()])
    assert values[0] == pytest.approx([1.386, 1.386], abs=0.2)
    assert values[1] == pytest.approx([2.5 * value for value in values[0]])


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,), (3, 8, 8)], ids=str)
def test_the_discriminator_is_as_wide_as_embedding_data_and_clusters_together(shape: tuple[int, ...]) -> None:
    """d + D_x + K, 858 for the published 64 + 784 + 10."""
    sizes = {(1, 28, 28): 858, (784,): 858, (3, 8, 8): 64 + 192 + 10}
    info = DataInfo("toy", (shape,), 100, 10, None, 1.0, "")
    surface = Surface(convae.ConvAE(convae.Config(head=(8,), hidden=(8,)), info, 64), "latent")
    defending = defense(surface)
    layers = [m for m in defending.discriminator.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(sizes[shape], 64), (64, 64), (64, 1)]
    batch = Batch((torch.rand(4, *shape),), torch.arange(4))
    terms = defending.step(surface, LatentNet(latent_net.Config(hidden=(8,)), surface), batch)
    assert 0 < terms["information_1"] < 2.5 * 5


@pytest.mark.parametrize(("mode", "trains"), [("frozen", False), ("alternating", True), ("control", False)])
def test_only_the_alternating_defense_asks_for_a_moving_attacker(surface: Surface, mode: str, trains: bool) -> None:
    assert defense(surface, mode=mode).trains_attacker is trains


@pytest.mark.parametrize("profile", PROFILES)
def test_the_three_forms_take_the_same_steps_for_no_plateau_ends_one(surface: Surface, profile: str) -> None:
    schedules = []
    for mode in ("frozen", "alternating", "control"):
        config = methods.resolve("defenses", "mutual_info", profile, {"mode": mode})
        MutualInfo.check(type(surface.model), surface.model.info, config)
        schedules.append(MutualInfo(config, surface).schedule)
    assert schedules[0] == schedules[1] == schedules[2]
    assert not plateau([1.0] * schedules[0].epochs, schedules[0]), "a loss that stands still from its first epoch on"


def test_a_schedule_that_a_plateau_may_end_is_refused(surface: Surface) -> None:
    model = surface.model
    refused, longest = Config(schedule=Schedule(epochs=21, window=10)), Config(schedule=Schedule(epochs=20, window=10))
    with pytest.raises(
        ConfigError, match=r"same steps.*must be 0 or at least half of the epochs, 21, got 10"
    ) as caught:
        MutualInfo.check(type(model), model.info, refused)
    MutualInfo.check(type(model), model.info, longest)
    assert not any(plateau([1.0] * epochs, longest.schedule) for epochs in range(20)), "before its last epoch"
    assert caught.value.hint == "--set defense.schedule.window=0"
