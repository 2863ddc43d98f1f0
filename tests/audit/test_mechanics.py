"""Checks 1 to 8, each by a fault of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_cluster.attacks.budget import Budget
from robust_cluster.audit import mechanics, probes
from robust_cluster.audit.base import Evidence
from robust_cluster.data.base import Batch, Views

Make = Callable[..., Evidence]


def altered(evidence: Evidence, move: Callable[[Views], Views]) -> Evidence:
    """The evidence of an attack that does one more thing to its points, and whose budget does not notice."""

    def build(overrides: Any) -> Any:
        attacker = evidence.build(overrides)
        perturb = attacker.perturb
        attacker.perturb = lambda surface, batch: move(perturb(surface, batch))  # type: ignore[method-assign]
        return attacker

    return replace(evidence, build=build, attacker=build({}))


def test_a_clamp_at_eps_0_is_found(make: Make) -> None:
    verdict = mechanics.identity(altered(make(), lambda views: tuple(view.clamp(0.4, 0.6) for view in views)))
    assert verdict.status == "fail"
    assert verdict.value == 60
    assert mechanics.identity(make(settings={"view_eps": (0.1,)})).status == "pass"


def test_scores_of_points_that_did_not_move_must_be_the_clean_ones(make: Make) -> None:
    calls: list[int] = []

    def unsteady(*args: Any) -> dict[str, float | None]:
        calls.append(1)
        return {"flip": float(len(calls))}

    verdict = mechanics.identity(make(score=unsteady))
    assert verdict.status == "fail"
    assert "other scores than the clean ones: flip" in verdict.note


def test_a_scored_point_outside_is_found_and_rounding_is_not(make: Make) -> None:
    evidence = make(settings={"eps": 0.1})
    (clean,) = evidence.clean
    edge = torch.where(clean < 0.5, clean + 0.1, clean - 0.1)
    assert mechanics.within_budget(replace(evidence, moved=(edge,))).status == "pass"
    outside = edge.clone()
    outside[3, 5] += 1e-4 * torch.sign(edge[3, 5] - clean[3, 5])
    verdict = mechanics.within_budget(replace(evidence, moved=(outside,)))
    assert verdict.status == "fail"
    assert "view 0 scored up to 0.1001" in verdict.note
    assert verdict.value == pytest.approx(1.001, rel=1e-4)


def test_values_outside_the_box_and_no_numbers_are_found(make: Make) -> None:
    evidence = make(settings={"eps": 2.0, "norm": "l2"})
    (clean,) = evidence.clean
    beyond = clean.clone()
    beyond[0, 0] = 1.01
    assert "valid (0.0, 1.0)" in mechanics.within_budget(replace(evidence, moved=(beyond,))).note
    beyond[0, 0] = torch.nan
    verdict = mechanics.within_budget(replace(evidence, moved=(beyond,)))
    assert (verdict.status, verdict.note) == ("fail", "a scored value is not a number")


def test_a_view_that_is_not_attacked_must_keep_its_bits(make: Make) -> None:
    evidence = make(views=2, settings={"eps": 0.1, "view_eps": (0.1, 0.0)})
    assert mechanics.within_budget(evidence).status == "pass"
    first, second = evidence.points
    assert second.equal(evidence.clean[1])
    verdict = mechanics.within_budget(replace(evidence, moved=(first, second + 1e-7)))
    assert "view 1 must not move" in verdict.note


def test_what_is_declared_otherwise_is_found(make: Make) -> None:
    evidence = make(scale=4.0)
    for change, sentence in [
        ({"norm": "l2"}, "declared norm l2, used linf"),
        ({"space": "latent"}, "declared space latent, used input"),
        ({"eps_pixels": 0.2}, "the radius of view 0 is 0.4, declared 0.8"),
        ({"eps_model": 0.1}, "eps 0.1 is 0.4 in the model's units"),
    ]:
        record = {"threat": {**evidence.threat, **change}}
        verdict = mechanics.within_budget(replace(evidence, record=record))
        assert verdict.status == "fail"
        assert sentence in verdict.note


def test_an_attack_without_a_radius_has_no_budget_to_check(make: Make) -> None:
    evidence = make()
    evidence.attacker.budget = Budget()
    unbounded = replace(evidence, build=lambda overrides: evidence.attacker, record={})
    for check in (mechanics.identity, mechanics.within_budget):
        verdict = check(unbounded)
        assert (verdict.status, verdict.needed) == ("not run", False)


def test_clean_clusters_and_scores_must_be_those_of_the_clustering(make: Make) -> None:
    evidence = make()
    other = evidence.clean_labels.copy()
    other[:6] = (other[:6] + 1) % 3
    verdict = mechanics.reproduction(replace(evidence, clean_labels=other))
    assert (verdict.status, verdict.value) == ("fail", 0.1)
    apart = mechanics.reproduction(replace(evidence, clean_scores={"ACC": (0.9, 0.91)}))
    assert (apart.status, apart.note) == ("fail", "ACC 0.9 in the record, 0.91 measured")
    for nothing in ({}, {"ACC": (None, None)}):
        assert mechanics.reproduction(replace(evidence, clean_scores=nothing)).status == "not run"


def test_batch_statistics_are_warned_of(make: Make) -> None:
    evidence = make(network=True, bn="batch")
    trained = make(network=True)
    shifted = replace(evidence, clean_labels=(trained.own + 1) % 3)
    assert mechanics.reproduction(shifted).status == "warn"
    evidence.surface.model.centers.add_(1.0)  # so that the clusters of small batches are others
    verdict = mechanics.frozen_victim(evidence)
    assert verdict.status == "warn"
    assert verdict.value is not None
    assert 0 < verdict.value <= 1


def test_labels_that_depend_on_the_batch_are_found(make: Make) -> None:
    evidence = make()
    model = evidence.surface.model
    model.labels = lambda z: (z.sum(dim=1) * len(z)).long() % 3  # type: ignore[method-assign]
    verdict = mechanics.frozen_victim(evidence)
    assert verdict.status == "fail"
    assert "labels depend on the batch" in verdict.note


def test_what_the_stage_found_changed_fails(make: Make) -> None:
    evidence = make()
    record = {**evidence.record, "checks": {"victim_unchanged": False}}
    assert mechanics.frozen_victim(replace(evidence, record=record)).note == "the stage found the victim changed"


class Random(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn_like(x)


@pytest.mark.parametrize(("eot", "status"), [(1, "fail"), (4, "warn")])
def test_a_random_victim_needs_gradients_over_draws(make: Make, eot: int, status: str) -> None:
    evidence = make(settings={"eot": eot})
    evidence.surface.model.network = Random()
    verdict = mechanics.determinism(evidence)
    assert verdict.status == status
    assert "forward pass is random" in verdict.note


def test_an_attack_that_draws_elsewhere_is_not_deterministic(make: Make) -> None:
    random = torch.Generator().manual_seed(0)
    evidence = altered(make(), lambda views: tuple(v - 0.01 * torch.rand(v.shape, generator=random) for v in views))
    verdict = mechanics.determinism(evidence)
    assert (verdict.status, verdict.note) == ("fail", "one seed gave two sets of points")


def test_masked_gradients_are_found(make: Make) -> None:
    evidence = make()
    assert mechanics.gradient_health(evidence).value == 0
    model = evidence.surface.model
    exact = model.log_assign
    model.log_assign = lambda z: exact(z.round(decimals=1))  # type: ignore[method-assign]
    verdict = mechanics.gradient_health(evidence)
    assert (verdict.status, verdict.value) == ("fail", 1.0)


def test_a_few_points_without_a_gradient_are_warned_of(make: Make) -> None:
    evidence = make()
    model = evidence.surface.model
    exact, low = model.log_assign, evidence.clean[0][:, 0].sort().values[2]
    model.log_assign = lambda z: exact(torch.where(z[:, :1] < low, z.detach(), z))  # type: ignore[method-assign]
    verdict = mechanics.gradient_health(evidence)
    assert (verdict.status, verdict.value) == ("warn", pytest.approx(2 / 60))


class Doubled(torch.autograd.Function):
    """The identity with twice its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


class Wrong(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = Doubled.apply(x)  # type: ignore[no-untyped-call]
        return doubled


def test_a_gradient_that_is_not_the_functions_is_found(make: Make) -> None:
    evidence = make(network=True)
    right = mechanics.gradient_right(evidence)
    assert right.status == "pass"
    assert right.value is not None
    assert right.value < 1e-5
    evidence.surface.model.network.append(Wrong())
    verdict = mechanics.gradient_right(evidence)
    assert (verdict.status, verdict.value) == ("fail", pytest.approx(0.5, rel=1e-3))


def test_a_gradient_that_is_declared_to_pass_a_rounding_is_a_warning(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = make(network=True)
    evidence.surface.model.network.append(Wrong())
    monkeypatch.setattr(type(evidence.surface.model), "straight_through", True)
    verdict = mechanics.gradient_right(evidence)
    assert (verdict.status, verdict.value) == ("warn", pytest.approx(0.5, rel=1e-3))
    assert verdict.note == "the model rounds, and passes gradients straight through, as declared"


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_gradients_are_right_in_both_batch_norm_modes_and_spaces(make: Make, bn: Any) -> None:
    assert mechanics.gradient_right(make(network=True, bn=bn)).status == "pass"
    assert mechanics.gradient_right(make(network=True, settings={"space": "latent"})).status == "pass"


def test_a_kink_at_the_very_point_of_a_flat_image_is_no_wrong_gradient(make: Make) -> None:
    evidence = make(network=True)
    network = evidence.surface.model.network
    assert isinstance(network, nn.Sequential)
    network[0], network[1] = nn.Linear(network[0].in_features, 24, bias=False), nn.Identity()
    flat = replace(evidence, batch=Batch(tuple(0 * view for view in evidence.batch.views), evidence.batch.index))
    assert not network[0](flat.clean[0]).any(), "every ReLU has its kink at the point"
    assert mechanics.gradient_right(flat).status == "pass"


def test_noise_takes_no_gradient_and_need_not_rise(make: Make, noise: Make) -> None:
    evidence = noise()
    for check in (mechanics.gradient_health, mechanics.gradient_right, mechanics.loss_rises):
        verdict = check(evidence)
        assert (verdict.status, verdict.needed) == ("not run", False)
    assert mechanics.loss_rises(make(settings={"eps": 0.0})).note == "eps is 0: nothing can rise"


def test_a_sample_that_ends_below_its_start_is_found(make: Make) -> None:
    evidence = make(settings={"eps": 0.02})
    assert mechanics.loss_rises(evidence).status == "pass"
    (clean,), (moved,) = evidence.clean, evidence.points
    evidence.attacker.objective = "margin"  # type: ignore[attr-defined]
    verdict = mechanics.loss_rises(replace(evidence, moved=(torch.cat([2 * clean[:5] - moved[:5], moved[5:]]),)))
    assert verdict.status == "fail"
    assert "samples end below their clean point" in verdict.note


def test_a_learned_attack_must_not_lower_the_margins(learned: Make) -> None:
    evidence = learned(settings={"eps": 0.05})
    assert mechanics.loss_rises(evidence).status == "pass"
    (clean,), (moved,) = evidence.clean, evidence.points
    assert mechanics.loss_rises(replace(evidence, moved=(2 * clean - moved,))).status == "fail"
    assert mechanics.loss_rises(replace(evidence, moved=(clean,))).status == "warn"


def test_a_learned_attack_passes_the_quick_checks_that_concern_it(learned: Make) -> None:
    evidence = learned()
    for check in (mechanics.identity, mechanics.within_budget, mechanics.frozen_victim, mechanics.determinism):
        assert check(evidence).status == "pass"


@pytest.mark.parametrize("space", ["input", "latent"])
def test_what_an_attack_asks_is_seen_in_both_spaces(make: Make, space: str) -> None:
    evidence = make(network=True, settings={"space": space, "steps": 4})
    seen: probes.Visited = []
    surface = probes.watched(evidence.surface, seen)
    alone = evidence.take(torch.tensor([7]))
    returned, points = probes.visited(alone, evidence.attacker, surface, seen)
    assert returned[0].shape == alone.clean[0].shape
    assert len(points[0]) >= 5
    distances = (points[0] - alone.clean[0]).abs().amax(dim=1)
    assert distances.max() == pytest.approx(0.1, abs=1e-4)
    assert distances.min() == 0
    assert type(surface.model).__name__ == type(evidence.surface.model).__name__
