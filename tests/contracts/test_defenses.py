"""What every defense promises, for every model that has something to train."""

import copy
from collections.abc import Callable

import pytest
import torch

from robust_cluster import discover
from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.data.base import Batch
from robust_cluster.defenses.base import Defense
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods

Make = Callable[[str], ClusterModel]
Rows = Callable[[str], Batch]
# ALRDC's defense decodes z, where multi-view methods decode the representations of their views; AR-DMVC's move pixels
# of two views or more: CoMVC, which they are published for, and a method without images that labels by k-means
VIEW_DEFENSES = {"ar_dmvc": ["comvc", "sem"], "ar_dmvc_am": ["comvc"]}
SINGLE_VIEW = [name for name, module in discover.modules("models").items() if ".multiview." not in module]
TRAINABLE = [
    name
    for name in SINGLE_VIEW
    if methods.resolve("models", name, "paper", {}).cluster.epochs
    and methods.method_class(discover.load("models", name)).descends_losses
]
# Their own terms are small means: most of the loss is the defense's, which learns later.
STEPS = {"abc": 100, "dec": 60, "idec": 60}
PAIRS = [(name, model) for name in discover.names("defenses") for model in VIEW_DEFENSES.get(name, TRAINABLE)]
OFTEN = {"convae", "vade", "sem"}  # others nightly
SOME = [pytest.param(*pair, marks=() if pair[1] in OFTEN else pytest.mark.slow) for pair in PAIRS]


def new(name: str, model: ClusterModel) -> tuple[Surface, Attack, Defense]:
    torch.manual_seed(2)
    attack_name = "pgd" if name in VIEW_DEFENSES else "latent_net"
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
    surface, attack, defense = new(name, build(model))
    before = {part: copy.deepcopy(held.state_dict()) for part, held in attack.state().items()}
    totals = [sum(defense.step(surface, attack, rows(model)).values()) for _ in range(STEPS.get(model, 20))]
    assert sum(totals[-3:]) < 0.9 * sum(totals[:3])
    parts = [name for name in attack.state() if name != "optimizer"]
    for part in parts:
        assert all(value.equal(before[part][key]) for key, value in attack.state()[part].state_dict().items())


@pytest.mark.parametrize(("name", "model"), SOME)
def test_the_victims_own_terms_stay_in_the_loss(name: str, model: str, build: Make, rows: Rows) -> None:
    surface, attack, defense = new(name, build(model))
    torch.manual_seed(5)
    own = {key: term.item() for key, term in surface.model.losses(rows(model), "cluster").items()}
    torch.manual_seed(5)
    terms = defense.step(surface, attack, rows(model))
    shared = [key for key in own if key != "information"]  # MIE's shuffle draws after the others
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
