"""What every defense promises, for every model that has something to train."""

import copy
from collections.abc import Callable

import pytest
import torch

from robust_cluster.attacks.base import Attack, Surface
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
    runs = []
    for _ in range(2):
        surface, attack, defense = new(name, build(model))
        runs.append(([defense.step(surface, attack, rows(model)) for _ in range(2)], surface.model.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(value.equal(runs[1][1][key]) for key, value in runs[0][1].items())


@pytest.mark.parametrize(("name", "model"), SOME)
def test_the_loss_falls_while_the_attacker_keeps_every_bit(name: str, model: str, build: Make, rows: Rows) -> None:
    own = build(model).losses(rows(model), "cluster").keys()
    surface, attack, defense = new(name, build(model))
    before = {part: copy.deepcopy(held.state_dict()) for part, held in attack.state().items()}
    terms = defense.step(surface, attack, rows(model))
    totals = [sum(terms.values())]
    # where nearly all of the loss is the defense's, it learns later
    count = 20 if sum(terms[key] for key in own) > totals[0] / 6 else 100
    totals += [sum(defense.step(surface, attack, rows(model)).values()) for _ in range(count - 1)]
    assert sum(totals[-3:]) < 0.9 * sum(totals[:3])
    parts = [name for name in attack.state() if name != "optimizer"]
    for part in parts:
        assert all(value.equal(before[part][key]) for key, value in attack.state()[part].state_dict().items())


def settled(model: ClusterModel, batch: Batch) -> list[str]:
    """The terms that one forward pass settles, without draws of their own, e.g. MIE's shuffle."""
    found = []
    with torch.no_grad():
        outputs = model(batch.views)
        for seed in (6, 7):
            torch.manual_seed(seed)
            found.append(model.losses(batch, "cluster", outputs))
    return [key for key, term in found[0].items() if term.equal(found[1][key])]


@pytest.mark.parametrize(("name", "model"), SOME)
def test_the_victims_own_terms_stay_in_the_loss(name: str, model: str, build: Make, rows: Rows) -> None:
    surface, attack, defense = new(name, build(model))
    torch.manual_seed(5)
    own = {key: term.item() for key, term in surface.model.losses(rows(model), "cluster").items()}
    torch.manual_seed(5)
    terms = defense.step(surface, attack, rows(model))
    shared = settled(surface.model, rows(model))
    assert set(own) <= set(terms)
    assert {key: terms[key] for key in shared} == pytest.approx({key: own[key] for key in shared})


@pytest.mark.parametrize(("name", "model"), SOME)
def test_a_saved_defense_goes_on_as_if_never_stopped(name: str, model: str, build: Make, rows: Rows) -> None:
    surface, attack, defense = new(name, build(model))
    defense.step(surface, attack, rows(model))
    again, same_attack, resumed = new(name, build(model))
    again.model.load_state_dict(surface.model.state_dict())
    for part, saved in defense.state().items():
        resumed.state()[part].load_state_dict(copy.deepcopy(saved.state_dict()))
    torch.manual_seed(5)
    expected = defense.step(surface, attack, rows(model))
    torch.manual_seed(5)
    assert resumed.step(again, same_attack, rows(model)) == expected
