"""A re-attack shows what a fake defense hides: gradients that are gone, gradients of a staircase, labels that jump."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robust_cluster.attacks import apgd, square, universal
from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.data.base import Batch, Folders, Views
from robust_cluster.data.prepare import load
from robust_cluster.measure.companions import ADAPTIVE, DRAWS, TRANSFERRED, gaps, is_random
from robust_cluster.measure.curve import worsened
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import spaced
from robust_cluster.models.base import ClusterModel, Embedding
from robust_cluster.nn.objectives import margin
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import adaptive, methods
from robust_cluster.stages.adaptive import companions
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context, Trial

Encode = Callable[[Views], Embedding]
EPS = 0.25  # of the pixel range


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    few = load(DataRef("digits", limit=300), Folders())
    return Context(RunStore(tmp_path_factory.mktemp("runs")), few, "smoke", device="cpu", threads=1)


@pytest.fixture(scope="module")
def clustered(context: Context) -> RunSpec:
    """K-means on 300 digits."""
    request = Request("cluster", context.dataset.ref, "kmeans", profile="smoke", overrides={"model.n_init": 1})
    specs = plan(request, context.info)
    execute(specs, context)
    return specs[-1]


@pytest.fixture(scope="module")
def victim(context: Context, clustered: RunSpec) -> ClusterModel:
    return context.trained_model(clustered).eval().requires_grad_(False)


@pytest.fixture
def reattack(context: Context, clustered: RunSpec, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trial]:
    """reattack(surface, **settings): APGD on a model that stands in for the defended one, whose loss is the margin."""

    def gain(model: ClusterModel, clean: Embedding, moved: Embedding, labels: Tensor) -> Tensor:
        return margin(model.log_assign(moved.z), labels)

    def new(surface: Surface, **settings: Any) -> Trial:
        plain = methods.plain(apgd.Config(**settings))
        spec = replace(
            clustered, stage="reattack", attack="apgd", attack_seed=0, settings={"attack": plain}, parent=clustered
        )
        return Trial(context.new_attack(spec, surface), surface, spec, context, context)

    monkeypatch.setattr(adaptive, "own_loss", lambda trial: gain)
    return new


def without_gradient(encode: Encode, unit: float) -> Encode:
    return lambda views: encode(tuple(view.detach() + 0 * view for view in views))


class Stairs(torch.autograd.Function):
    """Rounding to quarters of the range, whose gradient is 0 everywhere."""

    @staticmethod
    def forward(ctx: Any, view: Tensor, step: float) -> Tensor:
        return (view / step).round() * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(gradient), None


def quantized(encode: Encode, unit: float) -> Encode:
    return lambda views: encode(tuple(Stairs.apply(view, 0.1 * unit) for view in views))  # type: ignore[no-untyped-call]


def noisy(encode: Encode, unit: float) -> Encode:
    return lambda views: encode(tuple(view + 0.15 * unit * torch.randn_like(view) for view in views))


# each with what it hides: gradients that are gone, gradients of stairs, answers that change by themselves
FAKES = {
    "zero-gradient wrapper": (without_gradient, "gradient"),
    "quantizer": (quantized, "gradient"),
    "added noise": (noisy, "queried"),
}


def usual(surface: Surface, points: list[Views]) -> Tensor:
    """The cluster that most of 25 passes give: what a random model says of a point."""
    passes = [torch.cat([surface.labels(point) for point in points]) for _ in range(25)]
    return torch.stack(passes).mode(dim=0).values


@pytest.mark.parametrize(
    "fake", [fake if fake == "quantizer" else pytest.param(fake, marks=pytest.mark.slow) for fake in FAKES]
)
def test_a_fake_defense_is_broken_with_a_large_gap(
    victim: ClusterModel, context: Context, reattack: Callable[..., Trial], fake: str
) -> None:
    torch.manual_seed(0)
    wrapper, hidden = FAKES[fake]
    defended = copy.deepcopy(victim)
    defended.encode = wrapper(victim.encode, context.info.unit)  # type: ignore[method-assign]
    before, after = Surface(victim, "input"), Surface(defended, "input")
    budget: dict[str, Any] = {"norm": "linf", "eps": EPS}
    trial = reattack(after, steps=30, **budget)

    def flips(surface: Surface, attack: Attack) -> Any:
        rows = Rows(surface, context.placed, spaced(context.info.n_samples, 100))
        points = [rows.point(number) for number in range(len(rows.parts))]
        moved = [worsened(attack, rows, number, clean) for number, clean in enumerate(points)]
        return (usual(surface, moved) != usual(surface, points)).numpy()

    undefended = flips(before, reattack(before, steps=30, **budget).attacker).mean()
    assert undefended > 0.5
    asking = square.Square(square.Config(feedback="hard", queries=150, **budget), after)
    attacks = {"apgd": trial.attacker, "square:hard": asking, **companions(trial).at(trial.attacker, EPS)}
    adaptive_attack = attacks[ADAPTIVE]
    assert isinstance(adaptive_attack, apgd.Apgd)
    assert adaptive_attack.config.eot == (DRAWS if fake == "added noise" else 1)
    feedback = {name: attacks[name].feedback for name in ("apgd", "square:hard")}
    found = gaps({name: flips(after, attack) for name, attack in attacks.items()}, feedback)
    worst, gap = found["worst"], found[f"gap_{hidden}"]
    assert worst is not None
    assert gap is not None
    assert worst > 0.85 * undefended, f"the defense is broken: {found}, {undefended}"
    assert gap > 0.5, f"and the gap is shown: {found}"


def test_companions_have_the_ball_of_an_attack_that_leaves_its_radius_to_the_data_set(
    victim: ClusterModel, reattack: Callable[..., Trial]
) -> None:
    trial = reattack(Surface(victim, "input"), curve=(0.05,))
    assert trial.attacker.budget.norm == "linf"
    found = companions(trial).at(trial.attacker, 0.05)
    assert set(found) == {TRANSFERRED, ADAPTIVE}
    assert found[ADAPTIVE].budget == replace(trial.attacker.budget, eps=trial.attacker.budget.eps / 2)


def test_a_model_without_chance_is_not_random(victim: ClusterModel, context: Context) -> None:
    batch = Batch(context.dataset.views, torch.arange(300))  # type: ignore[arg-type]
    assert not is_random(Surface(victim, "input"), batch)
    defended = copy.deepcopy(victim)
    defended.encode = noisy(victim.encode, 1.0)  # type: ignore[method-assign]
    assert is_random(Surface(defended, "input"), batch)


def test_an_attack_that_learns_has_learned_before_its_points_are_handed_over(context: Context) -> None:
    overrides = {"model.n_init": 1, "attack.norm": "linf", "attack.eps": 0.1}
    request = Request("attack", context.dataset.ref, "kmeans", attack="universal", profile="smoke", overrides=overrides)
    specs = plan(request, context.info)
    execute(specs[:-1], context)
    surface = Surface(context.trained_model(specs[-2]).eval().requires_grad_(False), "input")
    learned, new = context.learned_attack(specs[-1], surface), context.new_attack(specs[-1], surface)
    assert isinstance(learned, universal.Universal)
    assert isinstance(new, universal.Universal)
    assert not torch.equal(learned.delta[0], new.delta[0])
    assert learned.queries > new.queries == 0


@pytest.mark.slow
def test_a_standard_reattack_has_the_three_attacks_beside_each_other(tmp_path: Path) -> None:
    few = load(DataRef("digits", limit=200), Folders())
    context = Context(RunStore(tmp_path), few, "smoke", device="cpu", threads=1)
    overrides: dict[str, Any] = {
        "model.hidden": [16],
        "model.head": [16],
        "model.n_init": 1,
        "model.head_steps": 20,
        **{f"model.{phase}.epochs": 3 for phase in ("pretrain", "cluster")},
        "defense.schedule.epochs": 1,
        "defense.schedule.steps_per_epoch": 3,
        "attack.norm": "l2",
        "attack.eps": 2.0,
        "attack.curve": [0.0, 1.0],
        "attack.space": "latent",
    }
    request = Request("reattack", few.ref, "convae", 6, attack="apgd", profile="smoke", overrides=overrides)
    record = execute(plan(request, few.info), context)[-1]
    names = [line["attack"] for line in record["radii"] if line["eps"] == 2.0]
    assert names == ["apgd", "transferred", "adaptive", "all"]
    assert {line["flip"] for line in record["radii"] if line["eps"] == 0} == {0.0}
    latent = record["threat"]
    assert (latent["space"], latent["eps_pixels"], latent["eps_model"], latent["box"]) == ("latent", None, 2.0, None)
    assert record["adaptive"]["worst"] == record["metrics"]["flip"]
    assert record["adaptive"]["transferred"] == record["metrics"]["flip_transferred"]
    assert record["checks"] == {"victim_unchanged": True}
    for line in record["radii"]:
        whole = next(one for one in record["radii"] if (one["eps"], one["attack"]) == (line["eps"], "all"))
        assert line["flip"] <= whole["flip"]
