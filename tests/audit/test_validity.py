"""Checks 18 to 26, each by a claim that does not follow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from robust_cluster.attacks.base import Feedback
from robust_cluster.audit import validity
from robust_cluster.audit.base import Certificate, Evidence, Verdict
from robust_cluster.data.base import Batch
from robust_cluster.measure.companions import gaps

Make = Callable[..., Evidence]


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five planted heads, each of which is an attack, and fewer votes."""
    monkeypatch.setattr(validity, "PLANTED_ROWS", 5)
    monkeypatch.setattr(validity, "SMOOTHED_DRAWS", 100)


def told(evidence: Evidence, **threat: Any) -> Evidence:
    """The evidence with another threat model."""
    return replace(evidence, record={**evidence.record, "threat": {**evidence.threat, **threat}})


@pytest.mark.parametrize(("space", "norm"), [("input", "linf"), ("input", "l2"), ("latent", "l2")])
def test_planted_points_are_found(make: Make, space: str, norm: str) -> None:
    evidence = make(network=True, settings={"space": space, "norm": norm, "eps": 0.1, "steps": 5})
    verdict = validity.planted(evidence)
    assert (verdict.status, verdict.value, verdict.n) == ("pass", 1.0, 5)


@pytest.mark.parametrize("bug", ["zero step", "wrong sign"])
def test_an_attack_that_does_not_climb_finds_no_planted_point(make: Make, bug: str) -> None:
    verdict = validity.planted(make(settings={"bug": bug, "steps": 3}))
    assert (verdict.status, verdict.value) == ("fail", 0.0)
    assert verdict.note == "5 of 5 planted points were not found"


def test_a_planted_head_keeps_the_clean_cluster_and_changes_it_on_the_way(make: Make) -> None:
    evidence = make(network=True)
    with torch.no_grad():
        z = evidence.surface.latent(evidence.clean)
    head = validity.PlantedHead(evidence.surface.model, z[0], z[1], own=2)
    way = z[0] + torch.tensor([0.0, 0.89, 0.91, 1.0])[:, None] * (z[1] - z[0])
    assert head.labels(way).tolist() == [2, 2, 0, 0]
    assert torch.allclose(head.assign(way).log(), head.log_assign(way), rtol=1e-4, atol=1e-4)
    log_odds = head.log_assign(way)
    assert (log_odds[:, 0] - log_odds[:, 2]).tolist() == pytest.approx([-9.0, -0.1, 0.1, 1.0], abs=1e-3)


def test_planted_points_are_not_asked_of_attacks_that_see_no_head(make: Make, learned: Make, noise: Make) -> None:
    assert validity.planted(noise()).needed is False
    assert (validity.planted(learned()).status, validity.planted(learned()).needed) == ("not run", True)
    assert validity.planted(make(settings={"eps": 0.0})).status == "not run"
    assert validity.planted(make(network=True, bn="batch")).status == "not run"


def test_an_undefended_model_must_break(make: Make) -> None:
    evidence = make(settings={"eps": 0.4}, defense="ar_dmvc")
    twin = make().surface
    assert validity.twin_breaks(make()).needed is False
    assert validity.twin_breaks(evidence).note == "the attack on the undefended model is not at hand"
    assert validity.twin_breaks(replace(evidence, undefended=twin)).status == "pass"
    small = replace(make(settings={"eps": 0.02}, defense="ar_dmvc"), undefended=twin)
    assert validity.twin_breaks(small).status == "fail"
    between = replace(make(settings={"eps": 0.05}, defense="ar_dmvc"), undefended=twin)
    assert validity.twin_breaks(replace(between, moved=between.clean)).status == "warn"


@pytest.mark.parametrize(
    ("metrics", "status"),
    [
        ({"flip": 0.95}, "pass"),
        ({"flip": 0.6, "ACC*_clean_map": 0.3, "chance": 0.4}, "pass"),
        ({"flip": 0.6, "ACC*_clean_map": 0.5, "chance": 0.4}, "warn"),
        ({"flip": 0.0}, "fail"),
        ({}, "not run"),
    ],
)
def test_the_record_of_an_undefended_model_stands_in_for_it(
    learned: Make, metrics: dict[str, float], status: str
) -> None:
    evidence = replace(learned(), defense="ar_dmvc", twin={"metrics": metrics})
    assert validity.twin_breaks(replace(evidence, moved=evidence.clean)).status == status


def test_a_defense_needs_an_attack_with_its_own_loss(make: Make) -> None:
    assert validity.adaptive_gap(make()).needed is False
    evidence = make(defense="ar_dmvc")
    missing = validity.adaptive_gap(evidence)
    assert (missing.status, missing.note) == (
        "fail",
        "no attack with the loss of ar_dmvc itself stands beside this one",
    )

    def beside(evidence: Evidence, **flipped: Any) -> Verdict:
        rows = {name: np.arange(10) < count for name, count in flipped.items()}
        known: dict[str, Feedback] = {"apgd": "gradient", "square": "label"}
        found = gaps(rows, {name: known[name] for name in rows if name in known})
        return validity.adaptive_gap(replace(evidence, record={**evidence.record, "adaptive": found}))

    shown = beside(evidence, apgd=2, transferred=1, adaptive=5)
    assert (shown.status, shown.value) == ("pass", pytest.approx(0.3))
    without = beside(evidence, apgd=2, transferred=1)
    assert (without.status, without.needed) == ("not run", False)
    assert without.note == "ar_dmvc has no loss of the points that are moved; this attack, made afresh, is white-box"
    assert beside(told(evidence, knowledge="label"), square=2, transferred=1).status == "fail"


@pytest.mark.parametrize("space", ["input", "latent"])
def test_an_attack_that_takes_gradients_is_white_box(make: Make, learned: Make, space: str) -> None:
    for evidence in (make(settings={"space": space}), learned(settings={"space": space})):
        assert validity.fair_use(evidence).status == "pass"
        found = validity.fair_use(told(evidence, knowledge="score"))
        assert found.status == "fail"
        assert found.note == "gradients flow through the victim, and the knowledge is called score"


def test_noise_takes_no_gradient(noise: Make) -> None:
    assert validity.fair_use(noise()).status == "pass"


def test_what_is_not_stated_is_found(make: Make, learned: Make) -> None:
    assert validity.fair_use(replace(make(), record={})).status == "not run"
    assert validity.fair_use(told(make(), knowledge=None)).note == "the knowledge of the victim is not stated"
    generator = learned()
    assert "not stated" in validity.fair_use(told(generator, train_share=None)).note
    same = validity.fair_use(told(generator, train_share=1.0))
    assert (same.status, same.note) == ("warn", "scored on the rows that it learned from")


def test_a_fit_anew_must_move_further_than_its_seeds_do(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = make(settings={"eps": 0.3})
    model = evidence.surface.model
    assert validity.refit_control(evidence).status == "not run"

    def sign(z: Tensor, seed: int) -> Tensor:  # two clusters, whatever the seed
        return (z[:, 0] > 0.5).long()

    monkeypatch.setattr(model, "refit_labels", sign)
    moved = tuple(torch.where(torch.arange(60)[:, None] < 20, 1 - view, view) for view in evidence.clean)
    verdict = validity.refit_control(replace(evidence, moved=moved))
    assert (verdict.status, verdict.threshold) == ("pass", 0.0)
    assert verdict.value is not None
    assert verdict.value > 0
    nothing = replace(evidence, moved=evidence.clean)
    assert validity.refit_control(nothing).status == "note"
    assert validity.refit_control(told(nothing, stage="re-fit")).status == "fail"


@pytest.mark.parametrize(("wrong", "status"), [(0, "pass"), (2, "warn"), (12, "fail")])
def test_a_surrogate_must_have_the_heads_labels(make: Make, wrong: int, status: str) -> None:
    evidence = make(settings={"eps": 0.0})
    model, own = evidence.surface.model, torch.as_tensor(evidence.own)
    model.labels = lambda z: torch.where(torch.arange(60) < wrong, (own + 1) % 3, own)  # type: ignore[method-assign]
    verdict = validity.surrogate_agrees(evidence)
    assert (verdict.status, verdict.value) == (status, pytest.approx(1 - wrong / 60))


def certificate(evidence: Evidence, radius: float | np.ndarray, *, sigma: float = 0.1, n: int = 1000) -> Evidence:
    radii = np.full(60, 1.0) * radius
    return replace(evidence, certificate=Certificate(evidence.own.copy(), radii, sigma, 0.001, n))


def test_a_radius_above_what_the_draws_allow_is_found(make: Make) -> None:
    evidence = make()
    assert validity.certificate_holds(evidence).needed is False
    cap = 0.1 * stats.norm.ppf(0.001 ** (1 / 1000))
    verdict = validity.certificate_holds(certificate(evidence, 1.01 * cap))
    assert (verdict.status, verdict.threshold) == ("fail", pytest.approx(cap))
    assert verdict.note == f"60 radii are above {cap:.6g}, the most that 1000 draws certify"
    assert cap == pytest.approx(0.2463, abs=1e-4)


def test_a_certificate_that_holds_is_not_contradicted_and_one_that_does_not_is(make: Make) -> None:
    evidence = make(settings={"norm": "l2", "eps": 0.2})
    model = evidence.surface.model
    z = evidence.clean[0].double()
    distances = torch.cdist(z, model.centers.double()).square()
    own = torch.as_tensor(evidence.own)
    apart = torch.cdist(model.centers.double(), model.centers.double())[own].masked_fill(
        torch.nn.functional.one_hot(own, 3).bool(), torch.inf
    )
    gaps = distances - distances.gather(1, own[:, None])
    exact = (gaps / (2 * apart)).masked_fill(apart.isinf(), torch.inf).amin(dim=1).numpy()  # to the boundary
    capped = np.minimum(0.9 * exact, 0.2)
    assert validity.certificate_holds(certificate(evidence, capped)).status == "pass"
    false = certificate(evidence, np.maximum(1.5 * exact, 0.0), sigma=1.0)
    verdict = validity.certificate_holds(false)
    assert verdict.status == "fail"
    assert "certified points leave their cluster, allowed" in verdict.note


def test_points_that_were_abstained_certify_nothing(make: Make) -> None:
    evidence = certificate(make(), 0.0)
    assert validity.certificate_holds(evidence).note == "every point was abstained"


def test_seeds_are_counted_and_a_single_run_is_called_so(make: Make) -> None:
    evidence = make()
    single = validity.seeds_and_leakage(replace(evidence, seeds=((0, 0),)))
    assert (single.status, single.note[:10]) == ("note", "single run")
    many = tuple((model, attack) for model in range(3) for attack in range(2))
    assert validity.seeds_and_leakage(replace(evidence, seeds=many)).status == "pass"
    assert validity.seeds_and_leakage(replace(evidence, seeds=many[:4])).note.startswith("4 runs")
    assert validity.seeds_and_leakage(replace(evidence, build_shuffled=None)).status == "not run"


@dataclass(frozen=True)
class Labeled(Batch):
    labels: Any = None


def test_a_batch_with_labels_is_found(make: Make) -> None:
    evidence = make()
    batch = Labeled(evidence.batch.views, evidence.batch.index, evidence.labels)
    verdict = validity.seeds_and_leakage(replace(evidence, batch=batch))
    assert (verdict.status, verdict.note) == ("fail", "a batch has labels")


def test_a_learned_attack_learns_before_its_points_are_compared(learned: Make) -> None:
    evidence = learned()
    steps: list[int] = []

    def counted(build: Any) -> Any:
        def built(overrides: Mapping[str, Any]) -> Any:
            torch.manual_seed(3)
            attacker = build(overrides)
            step = attacker.step

            def one(surface: Any, batch: Any) -> Any:
                steps.append(1)
                return step(surface, batch)

            attacker.step = one
            return attacker

        return built

    both = replace(evidence, build=counted(evidence.build), build_shuffled=counted(evidence.build_shuffled))
    assert validity.seeds_and_leakage(both).status == "note"
    assert len(steps) == 4


def test_an_eps_whose_noise_costs_accuracy_is_large(make: Make) -> None:
    assert validity.semantics(make(settings={"eps": 0.01})).status == "pass"
    large = validity.semantics(make(settings={"eps": 0.6}))
    assert large.status == "note"
    assert "eps is large: noise of its size costs ACC" in large.note
    assert "flips" in validity.semantics(make(settings={"eps": 0.6}, labels=None)).note
