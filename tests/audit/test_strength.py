"""Checks 9 to 17, each by an attack that is weaker than it should be."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from robust_cluster.attacks.budget import Budget
from robust_cluster.audit import probes, strength
from robust_cluster.audit.base import Evidence
from robust_cluster.data.base import Views
from robust_cluster.errors import ConfigError

Make = Callable[..., Evidence]
STRONG = {"eps": 0.2, "steps": 10}


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six random draws."""
    monkeypatch.setattr(strength, "NOISE_DRAWS", 6)


def still(evidence: Evidence) -> Evidence:
    """The evidence of an attack whose scored points are the clean ones."""
    return replace(evidence, moved=evidence.clean)


def with_others(evidence: Evidence) -> Evidence:
    """The evidence with the same attack under every other name."""

    def others(name: str, overrides: Mapping[str, Any]) -> Any:
        if name == "transfer":
            raise ConfigError("it needs a source")
        return evidence.build({})

    return replace(evidence, others=others)


def test_an_attack_below_one_gradient_step_is_found(make: Make, learned: Make) -> None:
    evidence = make(settings=STRONG)
    verdict = strength.beats_one_step(evidence)
    assert (verdict.status, verdict.value) == ("pass", 0.0)
    weak = strength.beats_one_step(still(evidence))
    assert weak.status == "fail"
    assert "the attack 0.0%" in weak.note
    generator = learned(settings=STRONG)
    assert strength.beats_one_step(still(generator)).status == "warn"


def test_an_attack_with_too_few_steps_is_found(make: Make) -> None:
    settings = {"eps": 0.25, "steps": 10, "relative_step": 1.0}
    assert strength.converged(make(settings=settings)).status == "pass"
    evidence = make(settings=settings)

    def build(overrides: Mapping[str, Any]) -> Any:  # a step that does not shrink with their number
        steps = overrides.get("steps", 10)
        return evidence.build({**overrides, "relative_step": 0.04 * steps})

    slow = replace(evidence, build=build, attacker=build({}))
    verdict = strength.converged(slow)
    assert verdict.status == "warn"
    assert "20 steps" in verdict.note


@pytest.mark.parametrize(
    ("rates", "status"),
    [([0.1, 0.3, 0.5, 0.51], "warn"), ([0.1, 0.5, 0.505, 0.505], "pass"), ([0.2], "not run"), ([], "not run")],
)
def test_a_learned_attack_has_converged_when_its_log_is_flat(learned: Make, rates: list[float], status: str) -> None:
    evidence = learned()
    record = {**evidence.record, "curve": [{"flip": rate} for rate in rates]}
    assert strength.converged(replace(evidence, record=record)).status == status


def test_a_larger_radius_flips_no_fewer(make: Make) -> None:
    verdict = strength.monotone(make(settings={"eps": 0.15}))
    assert verdict.status == "pass"
    assert verdict.note.startswith("flips at 0.25x 30.0%, 0.5x 75.0%")


def test_a_radius_that_changes_nothing_is_found(make: Make) -> None:
    evidence = make(settings={"eps": 0.1})
    fixed = replace(evidence, build=lambda overrides: evidence.build({}))
    verdict = strength.monotone(fixed)
    assert verdict.status == "fail"
    assert "the points are the same at every radius" in verdict.note


def test_a_raw_curve_that_falls_is_warned_of(make: Make) -> None:
    evidence = make(settings={"eps": 0.4})

    def build(overrides: Mapping[str, Any]) -> Any:
        return evidence.build({**overrides, "bug": "zero step" if overrides.get("eps", 0.4) > 0.5 else ""})

    verdict = strength.monotone(replace(evidence, build=build))
    assert verdict.status == "warn"
    assert "at 2 times the radius 0.0% flip" in verdict.note


def test_budgets_that_are_not_nested_are_found(make: Make) -> None:
    evidence = make(settings={"eps": 0.4})

    def build(overrides: Mapping[str, Any]) -> Any:
        attacker = evidence.build({**overrides, "bug": "zero step"} if overrides.get("eps", 0) > 0.5 else overrides)
        if overrides.get("eps", 0) > 0.5:
            attacker.budget = Budget("linf", 0.8, (0.5, 0.5))
        return attacker

    verdict = strength.monotone(replace(evidence, build=build))
    assert verdict.status == "fail"
    assert "flips are lost at 2 times the radius" in verdict.note


def test_a_recorded_curve_that_falls_is_warned_of(make: Make, learned: Make) -> None:
    lines = [{"eps": eps, "attack": name, "flip": flip} for eps, name, flip in
             [(0.1, "a", 0.2), (0.1, "b", 0.4), (0.2, "a", 0.35), (0.2, "b", 0.1), (0.05, "a", 0.0)]]  # fmt: skip
    evidence = learned()
    assert strength.monotone(evidence).status == "not run"
    verdict = strength.monotone(replace(evidence, record={**evidence.record, "radii": lines}))
    assert (verdict.status, verdict.value) == ("warn", pytest.approx(0.05))
    assert "the record's curve falls by 5.0%" in verdict.note


@pytest.mark.parametrize("space", ["input", "latent"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_without_a_bound_reaches_the_floor(make: Make, space: str, norm: str) -> None:
    verdict = strength.unbounded(make(network=True, settings={"space": space, "norm": norm}))
    assert (verdict.status, verdict.value) == ("pass", 1.0)


def test_an_attack_that_stays_weak_without_a_bound_is_found(make: Make) -> None:
    verdict = strength.unbounded(make(settings={"bug": "wrong sign"}))
    assert verdict.status == "fail"
    assert "0.0% flip" in verdict.note
    assert "ACC under the clean matching" in verdict.note


def test_clusters_that_change_places_are_told_from_wrong_ones(make: Make) -> None:
    evidence = make()
    assert evidence.labels is not None
    problems, note = strength.at_the_floor(evidence, evidence.labels, (evidence.own + 1) % 3)
    assert problems == []
    assert "permuted" in note
    joined = np.minimum(evidence.own, 1)  # a third keeps its cluster
    assert "clusters were joined" in strength.at_the_floor(evidence, evidence.labels, joined)[1]
    kept, _ = strength.at_the_floor(evidence, evidence.labels, evidence.own)
    assert "ACC under the clean matching" in kept[0]


def test_only_attacks_that_ask_the_victim_in_all_views_must_reach_the_floor(make: Make, learned: Make) -> None:
    blocked = make(views=2, settings={"view_eps": (0.1, 0.0)})
    assert (strength.unbounded(blocked).status, strength.unbounded(blocked).needed) == ("not run", False)
    assert (strength.unbounded(learned()).status, strength.unbounded(learned()).needed) == ("not run", True)


def test_real_points_of_other_clusters_flip_all(make: Make) -> None:
    for evidence in (make(), make(network=True, settings={"space": "latent"}), make(labels=None)):
        verdict = strength.real_points(evidence)
        assert (verdict.status, verdict.value) == ("pass", 1.0)
    assert strength.real_points(make(bn="batch")).status == "not run"
    alone = make()
    alone.surface.model.centers[1:] += 100.0
    assert strength.real_points(alone).note == "all points are in one cluster"


def test_a_scorer_that_does_not_see_flips_is_found(make: Make) -> None:
    verdict = strength.real_points(make(score=lambda *args: {"flip": 0.0, "ACC*": 0.0, "ACC*_clean_map": 0.0}))
    assert verdict.status == "fail"
    assert "flip is 0, must be 1" in verdict.note


def test_weaker_attacks_that_flip_more_are_found(make: Make) -> None:
    evidence = with_others(make(settings=STRONG))
    verdict = strength.beats_weaker(evidence)
    assert verdict.status == "pass"
    assert "square with 500 queries" in verdict.note
    masked = strength.beats_weaker(still(evidence))
    assert masked.status == "fail"
    assert "the direction of other means flips" in masked.note
    alone = strength.beats_weaker(make(settings=STRONG))
    assert (alone.status, alone.needed) == ("not run", True)
    assert "square: no other attack is at hand; " in alone.note
    assert alone.note.endswith("; random draws flip no more")


def test_noise_is_compared_with_nothing_weaker(noise: Make) -> None:
    assert strength.beats_weaker(noise()).needed is False


def test_an_attack_without_a_radius_stands_against_noise_of_its_own_norms(make: Make) -> None:
    evidence = make(settings={"eps": 0.4})
    points = evidence.points
    evidence.attacker.budget = Budget()
    unbounded = replace(evidence, moved=points)
    sizes = (probes.equal_noise(unbounded, points)[0] - unbounded.clean[0]).norm(dim=1)
    assert torch.allclose(sizes, (points[0] - unbounded.clean[0]).norm(dim=1))
    assert strength.beats_weaker(unbounded).status == "pass"
    assert strength.beats_weaker(still(unbounded)).value == 0.0


def test_samples_that_only_transferred_points_break_are_listed(make: Make) -> None:
    evidence = with_others(make(settings={"eps": 0.3}))
    verdict = strength.beats_transfer(evidence)
    assert (verdict.status, verdict.note) == ("pass", "from nearest means")
    weak = strength.beats_transfer(replace(still(evidence), undefended=make(network=True).surface))
    assert weak.status == "warn"
    assert weak.note.startswith("from nearest means, the undefended model; rows 0, ")


def test_a_headline_that_is_not_the_worst_case_is_found(make: Make) -> None:
    evidence = make(settings={"eps": 0.3})
    assert strength.worst_case(evidence).needed is True
    full, half = evidence.points, torch.arange(60) % 2 == 0

    def halves(views: Views, rows: torch.Tensor) -> Views:
        return tuple(torch.where(rows[:, None], view, clean) for view, clean in zip(views, evidence.clean, strict=True))

    def ensemble(points: Views) -> Evidence:
        def build(overrides: Mapping[str, Any]) -> Any:
            attacker: Any = evidence.build(overrides)
            parts = {"a": halves(full, half), "b": halves(full, ~half)}
            attacker.members = {name: Mock(perturb=Mock(return_value=part)) for name, part in parts.items()}
            attacker.perturb = lambda surface, batch: points
            return attacker

        return replace(evidence, build=build, attacker=build({}))

    assert strength.worst_case(ensemble(full)).status == "pass"
    verdict = strength.worst_case(ensemble(halves(full, half)))
    assert verdict.status == "fail"
    assert "samples that a member flips are not counted" in verdict.note
    record = {**evidence.record, "metrics": {"flip": 0.3, "flip_a": 0.2, "flip_b": 0.4}}
    lower = strength.worst_case(replace(ensemble(full), record=record))
    assert (lower.status, lower.note) == ("fail", "flip 30.0% is below flip_b")


def test_a_setting_that_flips_more_is_named(make: Make) -> None:
    evidence = with_others(make(settings=STRONG))
    verdict = strength.sweep(evidence)
    assert verdict.status == "pass"
    assert verdict.note.startswith("best of 6: ")
    weak = strength.sweep(still(evidence))
    assert weak.status == "warn"
    assert "the attack 0.0%" in weak.note
    alone = strength.sweep(make(settings=STRONG))
    assert alone.status == "not run"
    assert "pgd on margin: no other attack is at hand" in alone.note


def test_nothing_is_compared_at_a_radius_of_zero_or_without_one(make: Make) -> None:
    zero = make(settings={"eps": 0.0})
    for check in (
        strength.beats_one_step,
        strength.converged,
        strength.monotone,
        strength.unbounded,
        strength.beats_weaker,
        strength.beats_transfer,
        strength.sweep,
    ):
        verdict = check(zero)
        assert (verdict.status, verdict.needed) == ("not run", False)


def test_the_bound_of_a_mean_is_that_of_the_bootstrap() -> None:
    values = np.r_[np.ones(30), np.zeros(70)]
    lower, upper = (probes.mean_bound(values, side=side) for side in ("lower", "upper"))
    # the binomial proportion's own: 0.3 -/+ 1.645 sqrt(0.21 / 100)
    assert lower == pytest.approx(0.225, abs=0.015)
    assert upper == pytest.approx(0.375, abs=0.015)
    assert probes.mean_bound([], side="lower") == 0.0
    assert probes.mean_bound(np.full(9, 0.5), side="upper") == 0.5
    assert probes.exceeds(np.ones(20, dtype=bool), np.zeros(20, dtype=bool))
    assert not probes.exceeds(np.arange(20) == 3, np.arange(20) == 4)


def test_the_direction_of_other_means_flips_what_a_nearest_mean_rule_must_flip(make: Make) -> None:
    evidence = make(settings={"eps": 5.0, "norm": "l2"})
    moved = probes.to_other_means(evidence)
    assert moved is not None
    assert evidence.flips(moved).mean() > 0.9
    one = evidence.take(torch.zeros(5, dtype=torch.long))
    assert probes.to_other_means(one) is None


def test_random_draws_lie_in_the_ball(make: Make) -> None:
    evidence = make(settings={"eps": 0.05})
    sign = probes.noise_draw(evidence, "sign")[0] - evidence.clean[0]
    inside = (evidence.clean[0] > 0.05) & (evidence.clean[0] < 0.95)
    assert torch.allclose(sign[inside].abs(), torch.tensor(0.05), atol=1e-6)
    ball = make(settings={"eps": 0.05, "norm": "l2"})
    norms = (probes.noise_draw(ball, "gaussian", 0.5)[0] - ball.clean[0]).norm(dim=1)
    assert norms.max() <= 0.025 + 1e-6
    assert norms.median() == pytest.approx(0.025, rel=1e-3)
