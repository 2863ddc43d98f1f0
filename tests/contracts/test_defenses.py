"""What every defense promises, for every model that has something to train."""

from collections.abc import Callable

import pytest
import torch

from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.audit import contracts
from robust_cluster.data.base import Batch
from robust_cluster.defenses.base import Defense
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods
from tests.contracts.choice import DEFENSES, TRAINED, defends, family, first_of, is_convolutional

Make = Callable[[str], ClusterModel]
Rows = Callable[[str], Batch]
PAIRS = [(defense, model) for defense in DEFENSES for model in TRAINED if defends(defense, model)]
# of each family the one that stands for it, convolutions left out
OFTEN = {
    first_of([name for name in TRAINED if family(name) == kind and not is_convolutional(name)])
    for kind in set(map(family, TRAINED))
}
BASES = [name for name, kind in DEFENSES.items() if sum(issubclass(kind, one) for one in DEFENSES.values()) == 1]
SOME = [pytest.param(*pair, marks=() if pair[0] in BASES and pair[1] in OFTEN else pytest.mark.slow) for pair in PAIRS]


def new(name: str, model: ClusterModel) -> tuple[Surface, Attack, Defense]:
    torch.manual_seed(2)
    space = methods.attack_space(DEFENSES[name].meets)
    attack_name = "pgd" if space == "input" else DEFENSES[name].meets
    # eval(): as the stage builds an attack, which may try out one sample
    surface = Surface(model.eval(), methods.attack_space(attack_name))
    settings = methods.plain(methods.resolve("attacks", attack_name, "smoke", {}))
    attack = methods.new_attack(attack_name, settings, surface)
    model.train()
    values = methods.plain(methods.resolve("defenses", name, "smoke", {}))
    return surface, attack, methods.new_defense(name, values, surface)


@pytest.mark.parametrize(("name", "model"), SOME)
def test_one_seed_gives_the_same_steps_bit_for_bit(name: str, model: str, build: Make, rows: Rows) -> None:
    contracts.defends_alike(lambda: new(name, build(model)), rows(model))


@pytest.mark.parametrize(("name", "model"), SOME)
def test_the_loss_falls_while_the_attacker_keeps_every_bit(name: str, model: str, build: Make, rows: Rows) -> None:
    contracts.defense_learns(build(model), new(name, build(model)), rows(model))


@pytest.mark.parametrize(("name", "model"), SOME)
def test_the_victims_own_terms_stay_in_the_loss(name: str, model: str, build: Make, rows: Rows) -> None:
    contracts.keeps_victims_terms(new(name, build(model)), rows(model))


@pytest.mark.parametrize(("name", "model"), SOME)
def test_a_saved_defense_goes_on_as_if_never_stopped(name: str, model: str, build: Make, rows: Rows) -> None:
    contracts.defense_is_saved(new(name, build(model)), new(name, build(model)), rows(model))


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_has_all_that_a_stage_asks_for(name: str, build: Make) -> None:
    contracts.defense_is_declared(new(name, build(next(one for one in TRAINED if defends(name, one))))[2])
