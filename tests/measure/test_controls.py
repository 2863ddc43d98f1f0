"""What stands beside every attack: moves of its size that know nothing, and the one rule for each warning."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robust_cluster.attacks.base import Attack, Budget, Surface
from robust_cluster.data.base import Batch, Dataset, Views
from robust_cluster.measure import controls as module
from robust_cluster.measure import convergence
from robust_cluster.measure.beside import Beside
from robust_cluster.measure.controls import controls, noise, warnings
from robust_cluster.measure.noise import draw, shuffled
from robust_cluster.measure.pgd import latent_pgd
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import spaced
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.seeds import generator
from robust_cluster.stages import methods
from robust_cluster.stages.context import frozen_surface


class Push(Attack):
    """Adds a constant to every value; "learned" is the constant."""

    space = "input"

    def __init__(self, budget: Budget, by: float = 1.0, **declared: Any) -> None:
        self.budget, self.by = budget, by
        for name, value in declared.items():
            setattr(self, name, value)

    def perturb(self, surface: Surface, batch: Batch) -> Views:
        return tuple(view + self.by for view in surface.point(batch))


@pytest.fixture(scope="module")
def surface(digits: Dataset) -> Surface:
    """k-means' nearest-center rule, its centers ten digits."""
    torch.manual_seed(0)
    model = methods.new_model("kmeans", {"n_init": 1}, digits.info, 64)
    model.centers.copy_(digits.views[0][:10])  # type: ignore[operator, index]
    return frozen_surface(model, "input", None)


@pytest.fixture
def rows(surface: Surface, digits: Dataset) -> Rows:
    return Rows(surface, digits, spaced(digits.info.n_samples, 200))


def beside(attacker: Attack, **more: Any) -> Beside:
    given: dict[str, Any] = {
        "attack": "push",
        "title": "attack kmeans",
        "settings": {},
        "seed": lambda purpose: len(purpose),
        "untrained": lambda surface: attacker,
        "at_radius": lambda eps: attacker,
        "companions": None,
        "radius": None,
        "seen": None,
        "is_final": True,
        "precision": "highest",
        "progress": Silent(),
    }
    return Beside(**given | more)


BALL = Budget("linf", 2.0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_corner_has_the_whole_radius_and_other_values_lie_between_corners(norm: Any) -> None:
    def sizes(points: Tensor) -> Tensor:
        return points.flatten(1).abs().amax(dim=1) if norm == "linf" else points.flatten(1).norm(dim=1)

    clean, budget = torch.zeros(5, 2, 3), Budget(norm, 0.3)
    corners = draw(clean, budget, 0, generator(0), is_corner=True)
    torch.testing.assert_close(sizes(corners), torch.full((5,), 0.3))
    assert len(set(corners.sign().flatten().tolist())) == 2
    inside = draw(clean, budget, 0, generator(0), is_corner=False)
    assert (sizes(inside) < 0.3).all()
    assert torch.equal(inside.sign(), corners.sign())


def test_shuffled_moves_keep_each_samples_values_and_no_place() -> None:
    delta = torch.randn(5, 1, 8, 8)
    moved = shuffled(delta, torch.Generator().manual_seed(0))
    assert moved.shape == delta.shape
    assert torch.equal(moved.flatten(1).sort(dim=1).values, delta.flatten(1).sort(dim=1).values)
    assert all((moved[i] != delta[i]).float().mean() > 0.9 for i in range(5))


@pytest.mark.parametrize(
    ("budget", "trained", "names"),
    [
        (BALL, False, ["equal_norm", "shuffled", "sign", "uniform"]),
        (BALL, True, ["equal_norm", "shuffled", "sign", "uniform", "untrained"]),
        (Budget(), True, ["equal_norm", "shuffled"]),
    ],
    ids=["in a ball", "learned in a ball", "without a radius"],
)
def test_every_attack_has_the_noise_that_its_size_allows(
    rows: Rows, budget: Budget, trained: bool, names: list[str]
) -> None:
    attacker = Push(budget, trained=trained)
    moves = noise(attacker, rows, rows.moved(attacker), beside(attacker))
    assert list(moves) == names
    own = rows.outcome(rows.moved(attacker)).norm
    for name in ("equal_norm", "shuffled"):
        if budget.norm is None:
            torch.testing.assert_close(rows.outcome(moves[name]).norm, own)
        else:
            assert (rows.outcome(moves[name]).norm <= own + 1e-4).all(), "what is cut to the ball is no longer"
    if budget.norm is not None:
        torch.testing.assert_close(rows.outcome(moves["sign"]).norm, torch.full((200,), 2.0 * 8))


def test_noise_beside_a_worst_case_is_a_worst_case_of_as_many_draws(rows: Rows) -> None:
    attacker = Push(BALL)
    moved = rows.moved(attacker)
    one, five = (controls(attacker, rows, moved, beside(attacker), draws=count) for count in (1, 5))
    moves = noise(attacker, rows, moved, beside(attacker))
    by_hand = {}
    for name, move in moves.items():
        flips = [rows.outcome(move).labels != rows.clean.labels for _ in range(5)]
        by_hand[name] = float(np.logical_or.reduce(flips).mean())
        assert five[f"{name}_flip"] == by_hand[name]
        assert five[f"{name}_flip"] >= one[f"{name}_flip"] == float(flips[0].mean())  # type: ignore[operator]
    assert five["noise_flip"] == max(by_hand.values()) > one["noise_flip"] > 0  # type: ignore[operator]
    assert (one["noise_draws"], five["noise_draws"]) == (1, 5)
    assert five["ACC*_noise"] == min(five[f"ACC*_{name}"] for name in moves)  # type: ignore[type-var]
    assert one["zero_flip"] == five["zero_flip"] == 0


def test_noise_itself_has_no_noise_beside_it_and_no_warning(rows: Rows) -> None:
    attacker = Push(BALL, feedback="none")
    found = controls(attacker, rows, rows.moved(attacker), beside(attacker))
    assert found == {"zero_flip": 0.0}
    assert warnings(attacker, {**found, "flip": 0.0}, "epochs", []) == []


def test_latent_pgd_takes_the_norm_of_the_attack_on_the_undefended_model(surface: Surface, digits: Dataset) -> None:
    latent = Rows(frozen_surface(surface.model, "latent", None), digits, spaced(digits.info.n_samples, 100))
    attacker = Push(Budget())
    found = latent_pgd(latent, 4.0, beside(attacker))
    assert (found["pgd_radius"], found["pgd_samples"]) == (4.0, 100)
    assert found["pgd_flip"] >= found["pgd_flip_half"] > found["pgd_noise_flip_half"]  # type: ignore[operator]
    assert found["pgd_flip"] > found["pgd_noise_flip"]  # type: ignore[operator]
    assert latent_pgd(latent, 4.0, beside(attacker, radius=0.0))["pgd_flip"] == 0


FOUND = {"flip": 0.5, "noise_flip": 0.1}


class Member:
    def __init__(self, feedback: str) -> None:
        self.feedback = feedback


def named(attacker: Attack, stop_reason: str = "plateau", log: Any = (), **changes: Any) -> list[str]:
    return warnings(attacker, FOUND | changes, stop_reason, log)


def test_an_attack_that_noise_matches_says_so() -> None:
    assert named(Push(BALL)) == []
    assert named(Push(BALL), noise_flip=0.5) == ["no better than noise"]
    assert named(Push(BALL), **{"ACC*": 0.9, "ACC*_noise": 0.2}) == [], "clusters may have traded names"


def test_gradients_are_masked_where_pgd_or_a_member_without_them_finds_much_more() -> None:
    assert named(Push(BALL), flip=0.05, noise_flip=0.01, pgd_flip=0.6) == ["masked"]
    assert named(Push(BALL), flip=0.3, pgd_flip=0.9) == [], "weak, and not blind"
    members: Mapping[str, Any] = {
        "apgd:margin": Member("gradient"),
        "square:soft": Member("score"),
        "noise": Member("none"),
    }
    flips = {"flip_apgd:margin": 0.4, "flip_square:soft": 0.41, "flip_noise": 0.5}
    assert named(Push(BALL, members=members), **flips) == []
    assert named(Push(BALL, members=members), **flips | {"flip_square:soft": 0.43}) == ["masked"]


def test_an_attacker_is_unconverged_where_its_schedule_ends_before_a_plateau_while_flips_rise() -> None:
    learner = Push(BALL, trained=True)
    rising, flat = ([{"flip": value} for value in values] for values in ((0.1, 0.2, 0.3, 0.5), (0.1, 0.5, 0.5, 0.5)))
    assert named(learner, "epochs") == named(learner, "epochs", rising) == ["unconverged"]
    assert named(learner, "epochs", flat) == named(learner, "plateau") == named(learner, "plateau", rising) == []
    assert named(Push(BALL), "epochs", rising) == []


def test_an_attacker_that_stands_still_before_a_saturated_head_is_unconverged() -> None:
    """Where over a tenth of the samples are left with a soft label of exactly 1, a plateau is no end of learning."""
    learner = Push(BALL, trained=True)
    assert named(learner, "plateau", saturated=0.1) == named(learner, "plateau", saturated=None) == []
    assert named(learner, "plateau", saturated=0.11) == ["unconverged"]
    assert named(Push(BALL), "plateau", saturated=0.11) == []
    flat = [{"flip": 0.5}] * 4
    assert named(learner, "epochs", flat, saturated=0.11) == [], "the schedule ended, not the plateau"


def test_the_saturated_are_those_left_in_their_cluster_with_a_soft_label_of_1(rows: Rows) -> None:
    """k-means' soft labels of digits far from all borders are 1; a move by the whole way to another digit leaves it."""
    soft = rows.surface.soft_labels(rows.point(0)).amax(dim=1)
    assert rows.saturated(rows.clean) == pytest.approx(float((soft == 1).float().mean()))
    other = rows.outcome(lambda number: tuple(view.roll(1, dims=0) for view in rows.point(number)))
    stays = other.labels == rows.clean.labels
    sure = rows.surface.soft_labels(tuple(view.roll(1, dims=0) for view in rows.point(0))).amax(dim=1) == 1
    assert rows.saturated(other) == pytest.approx(float((sure.numpy() & stays).mean()))
    assert 0 < rows.saturated(other) < rows.saturated(rows.clean)


def test_the_constants_of_the_rules_are_those_of_the_docstrings() -> None:
    assert (module.LITTLE, module.MUCH, module.GAP) == (0.1, 0.2, 0.02)
    assert (convergence.RISE, convergence.SATURATED) == (0.01, 0.1)
