"""What every attack promises, on every model."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from robust_cluster import discover
from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.data.base import Batch, Dataset
from robust_cluster.errors import ConfigError
from robust_cluster.measure.scores import embed
from robust_cluster.models.base import ClusterModel
from robust_cluster.stages import methods
from robust_cluster.stages.context import fingerprint, frozen_surface

Make = Callable[[str], ClusterModel]
Data = Callable[[str], Dataset]
Rows = Callable[[str], Batch]
ATTACKS = discover.names("attacks")
MODELS = discover.names("models")
PAIRS = [(attack, model) for attack in ATTACKS for model in MODELS]
OFTEN = {"kmeans", "convae", "simvc"}  # others nightly
STANDARD = {"apgd", "ensemble", "noise", "square", "transfer", "universal"}  # share PGD's way to the model: on k-means
DECODING = ["latent_net"]  # attacks that need decoded embeddings
BORROWING = ["transfer"]  # attacks that take another run's points


def victim_of(attack: str) -> str:
    """The model that an attack's own promises are tested on: convolutions only where the attack is one for them."""
    return "kmeans" if attack in STANDARD | {"pgd", "gaussian_pollution"} else "convae"


def is_often(attack: str, model: str) -> bool:
    return model == "kmeans" if attack in STANDARD else model in OFTEN


@pytest.fixture
def few(few: Dataset, pair: Dataset, request: pytest.FixtureRequest) -> Dataset:
    """Vectors, or for attacks on the views, which move pixels, 200 images in one view."""
    if methods.attack_space(request.node.callspec.params["name"]) == "latent":
        return few
    info = replace(pair.info, shapes=pair.info.shapes[:1])
    return replace(pair, info=info, views=pair.views[:1])


def surface_of(model: ClusterModel, attack: str, few: Dataset) -> Surface:
    return frozen_surface(model, methods.attack_space(attack), embed(model, few.views))


def has_decoder(surface: Surface, batch: Batch) -> bool:
    try:
        surface.model.decode(surface.embedding(batch).z)
    except ConfigError:
        return False
    return True


def skip_without_decoder(name: str, surface: Surface, batch: Batch) -> None:
    if name in DECODING and not has_decoder(surface, batch):
        pytest.skip("its refusal has a test of its own")


def new(name: str, surface: Surface, *, seed: int = 2) -> Attack:
    torch.manual_seed(seed)
    attack = methods.new_attack(name, methods.plain(methods.resolve("attacks", name, "smoke", {})), surface)
    if name in BORROWING:
        attack.borrow(new("pgd", surface), surface)
    return attack


@pytest.mark.parametrize(
    ("name", "model"),
    [pytest.param(*pair, marks=() if is_often(*pair) else pytest.mark.slow) for pair in PAIRS],
)
def test_moved_points_have_the_points_shape_within_the_budget_and_the_victim_keeps_every_bit(
    name: str, model: str, started: Make, data: Data, rows: Rows
) -> None:
    surface, batch = surface_of(started(model), name, data(model)), rows(model)
    skip_without_decoder(name, surface, batch)
    surface.model.zero_grad(set_to_none=True)
    victim = fingerprint(surface.model)
    attack = new(name, surface)
    for _ in range(2 if attack.trained else 0):
        attack.step(surface, batch)
    clean, moved = surface.point(batch), attack.perturb(surface, batch)
    clipped = attack.budget.clip(clean, moved)
    for before, after, allowed in zip(clean, moved, clipped, strict=True):
        assert after.shape == before.shape
        assert after.isfinite().all()
        assert not after.equal(before)
        torch.testing.assert_close(after, allowed, rtol=1e-4, atol=1e-4)
    assert fingerprint(surface.model) == victim
    assert all(parameter.grad is None for parameter in surface.model.parameters())


@pytest.mark.parametrize("name", discover.names("attacks"))
def test_points_move_alike_where_gradients_are_switched_off(name: str, started: Make, data: Data, rows: Rows) -> None:
    """A defense and the measurement call perturb() that way."""
    surface = surface_of(started(victim_of(name)), name, data(victim_of(name)))
    attack = new(name, surface)
    moved = []
    for is_enabled in (True, False):
        torch.manual_seed(3)
        with torch.set_grad_enabled(is_enabled):
            moved.append(attack.perturb(surface, rows(victim_of(name)))[0].detach())
    assert moved[0].equal(moved[1])


@pytest.mark.parametrize(("name", "model"), [pair for pair in PAIRS if pair[0] in DECODING])
def test_an_attack_on_decoded_embeddings_refuses_a_model_without_a_decoder_in_a_sentence(
    name: str, model: str, started: Make, data: Data, rows: Rows
) -> None:
    surface, batch = surface_of(started(model), name, data(model)), rows(model)
    if has_decoder(surface, batch):
        assert new(name, surface).step(surface, batch)
    else:
        with pytest.raises(ConfigError, match="has no decoder"):
            new(name, surface)


@pytest.mark.parametrize("name", ATTACKS)
def test_one_seed_gives_one_attack_bit_for_bit(name: str, started: Make, few: Dataset, rows: Rows) -> None:
    surface, batch = surface_of(started(victim_of(name)), name, few), rows(victim_of(name))
    runs = []
    for _ in range(2):
        attack = new(name, surface)
        torch.manual_seed(3)
        runs.append((attack.step(surface, batch), attack.perturb(surface, batch)[0]))
    assert runs[0][0] == runs[1][0]
    assert runs[0][1].equal(runs[1][1])


@pytest.mark.parametrize("name", ATTACKS)
def test_a_saved_attacker_moves_points_as_the_first_did(name: str, started: Make, few: Dataset, rows: Rows) -> None:
    surface, batch = surface_of(started(victim_of(name)), name, few), rows(victim_of(name))
    first = new(name, surface)
    second = new(name, surface, seed=9 if first.trained else 2)  # a stage seeds an attack by its run
    first.step(surface, batch)
    for part, saved in first.state().items():
        second.state()[part].load_state_dict(saved.state_dict())
    moved = []
    for attack in (first, second):
        torch.manual_seed(3)
        moved.append(attack.perturb(surface, batch)[0])
    assert moved[0].equal(moved[1])


@pytest.mark.parametrize("name", ATTACKS)
def test_only_a_trained_attack_has_epochs_and_a_state(name: str, started: Make, few: Dataset) -> None:
    attack = new(name, surface_of(started(victim_of(name)), name, few))
    assert attack.space in ("input", "latent")
    assert attack.space == methods.attack_space(name)
    assert attack.knowledge in ("white", "score", "label", "transfer", "none")
    assert bool(attack.state()) is attack.trained
    assert (attack.schedule.epochs > 0) is attack.trained
