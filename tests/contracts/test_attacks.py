"""What every attack promises, on every model."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.audit import contracts
from robust_cluster.data.base import Batch, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods
from robust_cluster.stages.context import frozen_surface
from tests.contracts.choice import ATTACKS, FIRST, INDUCTIVE, refusal

Make = Callable[[str], ClusterModel]
Data = Callable[[str], Dataset]
Rows = Callable[[str], Batch]
PAIRS = [(attack, model) for attack in ATTACKS for model in INDUCTIVE if refusal(attack, model) is None]
DEMANDING = [attack for attack in ATTACKS if any(refusal(attack, model) for model in INDUCTIVE)]
SEARCH = next(name for name, kind in ATTACKS.items() if kind.bounded and kind.feedback == "gradient")


def victim_of(attack: str) -> str:
    """The model that an attack's own promises are tested on: a network where its attacks need one."""
    kind = ATTACKS[attack]
    return FIRST["shallow" if kind.bounded or kind.feedback == "none" else "autoencoder"]


def is_often(attack: str, model: str) -> bool:
    """Standard attacks share one way to the model: one of them is put to all kinds of models, the others to one."""
    is_like_another = ATTACKS[attack].bounded and attack != SEARCH
    return model == FIRST["shallow"] if is_like_another else model in FIRST.values()


@pytest.fixture
def few(few: Dataset, pair: Dataset, request: pytest.FixtureRequest) -> Dataset:
    """Vectors, or for attacks on the views, which move pixels, 200 images in one view."""
    if methods.attack_space(request.node.callspec.params["name"]) == "latent":
        return few
    info = replace(pair.info, shapes=pair.info.shapes[:1])
    return replace(pair, info=info, views=pair.views[:1])


def surface_of(model: ClusterModel, attack: str, few: Dataset) -> Surface:
    return frozen_surface(model, methods.attack_space(attack), embed(model, few.views))


def new(name: str, surface: Surface, *, seed: int = 2) -> Attack:
    torch.manual_seed(seed)
    attack = methods.new_attack(name, methods.plain(methods.resolve("attacks", name, "smoke", {})), surface)
    if attack.borrows:
        attack.borrow(new(SEARCH, surface), surface)
    return attack


@pytest.mark.parametrize(
    ("name", "model"),
    [pytest.param(*pair, marks=() if is_often(*pair) else pytest.mark.slow) for pair in PAIRS],
)
def test_moved_points_have_the_points_shape_within_the_budget_and_the_victim_keeps_every_bit(
    name: str, model: str, started: Make, data: Data, rows: Rows
) -> None:
    surface, batch = surface_of(started(model), name, data(model)), rows(model)
    contracts.stays_within_budget(new(name, surface), surface, batch)


@pytest.mark.parametrize("name", ATTACKS)
def test_points_move_alike_where_gradients_are_switched_off(name: str, started: Make, data: Data, rows: Rows) -> None:
    """A defense and the measurement call perturb() that way."""
    surface = surface_of(started(victim_of(name)), name, data(victim_of(name)))
    contracts.moves_without_gradients(new(name, surface), surface, rows(victim_of(name)))


@pytest.mark.parametrize(("name", "model"), [(attack, model) for attack in DEMANDING for model in INDUCTIVE])
def test_a_model_that_an_attack_cannot_attack_is_refused_in_a_sentence(
    name: str, model: str, started: Make, data: Data, rows: Rows
) -> None:
    surface, sentence = surface_of(started(model), name, data(model)), refusal(name, model)
    if sentence is None:
        assert new(name, surface).step(surface, rows(model))
    else:
        with pytest.raises(ConfigError, match=re.escape(sentence)):
            new(name, surface)


@pytest.mark.parametrize("name", ATTACKS)
def test_one_seed_gives_one_attack_bit_for_bit(name: str, started: Make, few: Dataset, rows: Rows) -> None:
    surface = surface_of(started(victim_of(name)), name, few)
    contracts.attacks_alike(lambda: new(name, surface), surface, rows(victim_of(name)))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_saved_attacker_moves_points_as_the_first_did(name: str, started: Make, few: Dataset, rows: Rows) -> None:
    surface = surface_of(started(victim_of(name)), name, few)
    first = new(name, surface)
    second = new(name, surface, seed=9 if first.trained else 2)  # a stage seeds an attack by its run
    contracts.attack_is_saved(first, second, surface, rows(victim_of(name)))


@pytest.mark.parametrize("name", ATTACKS)
def test_only_a_trained_attack_has_epochs_and_a_state(name: str, started: Make, few: Dataset) -> None:
    attack = new(name, surface_of(started(victim_of(name)), name, few))
    assert attack.space == methods.attack_space(name)
    contracts.attack_is_declared(attack)
