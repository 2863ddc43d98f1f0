"""Ten planted bugs, each of which a named check must find, on victims where nothing is found without them."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from robust_cluster.audit import checks
from robust_cluster.audit.base import Evidence, Finding, Verdict
from robust_cluster.audit.marks import QUICK, mark
from tests.audit.conftest import Victim

Make = Callable[..., Evidence]
BY_ID = {check.id: check for check in checks.CHECKS}


def verdict(evidence: Evidence, number: int) -> Verdict:
    return checks.judged(BY_ID[number], evidence)


def planted(make: Make, bug: str, **more: Any) -> Evidence:
    settings = {"bug": bug, **more.pop("settings", {})}
    return make(settings=settings, **more)


def quick(evidence: Evidence) -> list[Finding]:
    return checks.run(evidence, "quick")[: len(QUICK)]


@pytest.mark.parametrize(
    ("network", "norm", "scale"),
    [(False, "linf", 1.0), (False, "l2", 4.0), (True, "linf", 4.0), (True, "l2", 1.0)],
)
def test_without_a_bug_all_quick_checks_pass(make: Make, network: bool, norm: str, scale: float) -> None:
    evidence = make(network=network, scale=scale, settings={"norm": norm, "eps": 0.05 if norm == "linf" else 0.2})
    findings = quick(evidence)
    assert {finding.status for finding in findings} == {"pass"}, findings
    assert mark([asdict(finding) for finding in findings], QUICK) == "pass"


def test_the_wrong_sign_is_found(make: Make) -> None:
    found = verdict(planted(make, "wrong sign", settings={"eps": 0.05}), 8)
    assert found.status == "fail"
    assert "one gradient step climbs" in found.note


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_missing_projection_is_found(make: Make, norm: str) -> None:
    found = verdict(planted(make, "no projection", settings={"norm": norm, "eps": 0.05}), 2)
    assert found.status == "fail"
    assert "proposed up to" in found.note
    assert found.value is not None
    assert found.value == pytest.approx(2.0, rel=0.2)  # relative_step, where all steps have one direction


def test_a_step_of_zero_is_found(make: Make) -> None:
    assert verdict(planted(make, "zero step"), 8).status == "fail"


def test_a_victim_in_training_mode_is_found(make: Make) -> None:
    evidence = make(network=True)
    evidence.surface.model.train()
    found = verdict(evidence, 4)
    assert found.status == "fail"
    assert "BatchNorm1d in training mode" in found.note
    whole = make(network=True)
    whole.surface.model.network[3].train()  # dropout alone
    assert {n: verdict(whole, n).status for n in (4, 5)} == {4: "fail", 5: "fail"}


def test_a_victim_put_into_training_mode_by_the_attack_is_found(make: Make) -> None:
    found = verdict(planted(make, "train mode while attacked", network=True), 4)
    assert found.status == "fail"
    assert "Dropout in training mode while attacked" in found.note


def test_a_victim_that_the_attack_updates_is_found(make: Make) -> None:
    assert "the attack changes centers" in verdict(planted(make, "victim updated"), 4).note
    evidence = planted(make, "victim updated", network=True)
    before = {name: value.clone() for name, value in evidence.surface.model.state_dict().items()}
    finding = checks.run(evidence, "quick")[3]
    assert finding.status == "fail"
    assert "the attack changes" in finding.note
    assert all(value.equal(before[name]) for name, value in evidence.surface.model.state_dict().items())


def test_labels_that_reach_the_attack_are_found(make: Make) -> None:
    found = verdict(planted(make, "labels used", settings={"steps": 1, "relative_step": 0.5}), 25)
    assert found.status == "fail"
    assert "move elsewhere when labels are shuffled" in found.note
    assert verdict(make(), 25).status == "note"


def test_an_eps_in_the_wrong_unit_is_found(make: Make) -> None:
    found = verdict(planted(make, "eps in the wrong unit", scale=4.0), 2)
    assert found.status == "fail"
    assert "the radius of view 0 is 0.1, declared 0.4" in found.note
    assert verdict(make(scale=4.0), 2).status == "pass"


def test_a_generator_that_is_not_trained_anew_for_each_radius_is_found(make: Make, learned: Make) -> None:
    evidence = learned()
    lines = [{"eps": eps, "attack": "learned", "flip": 0.1, "trained_at": eps} for eps in (0.05, 0.1, 0.2)]
    fair = replace(evidence, record={**evidence.record, "radii": lines})
    assert verdict(fair, 21).status == "pass"
    clipped = [{**line, "trained_at": 0.1} for line in lines]
    found = verdict(replace(evidence, record={**evidence.record, "radii": clipped}), 21)
    assert found.status == "fail"
    assert found.note == "not trained for eps 0.05, 0.2"


def test_the_last_point_in_place_of_the_best_is_found(make: Make) -> None:
    settings = {"steps": 2, "relative_step": 1.0, "restarts": 2, "eps": 0.05}
    assert verdict(make(settings=settings), 8).status == "pass"
    found = verdict(planted(make, "last instead of best", settings=settings), 8)
    assert found.status == "fail"
    assert "were moved better on the way than returned" in found.note


def test_scores_that_are_matched_anew_only_are_found(make: Make) -> None:
    evidence = make()
    score = evidence.score
    assert score is not None

    def rematched(labels: Any, clean: Any, moved: Any) -> dict[str, float | None]:
        return {"ACC*": score(labels, clean, moved)["ACC*"]}

    def mislabeled(labels: Any, clean: Any, moved: Any) -> dict[str, float | None]:
        found = dict(score(labels, clean, moved))
        return {**found, "ACC*_clean_map": found["ACC*"]}

    assert verdict(evidence, 13).status == "pass"
    found = verdict(replace(evidence, score=rematched), 13)
    assert found.status == "fail"
    assert "flip is not among the scores" in found.note
    assert verdict(replace(evidence, score=mislabeled), 13).status == "fail"
    told = {**evidence.record, "metrics": {"ACC*": 0.9}}
    assert verdict(replace(evidence, score=None, record=told), 13).status == "fail"


class Decoy(Victim):
    """Its log_assign is not the logarithm of its soft labels."""

    def log_assign(self, z: Tensor) -> Tensor:
        return (0.1 * super().log_assign(z)).log_softmax(dim=1)


class Shattered(Victim):
    """Its logarithms have a fine saw on them, whose slopes say nothing of the way to the border."""

    def log_assign(self, z: Tensor) -> Tensor:
        return super().log_assign(z) + 1e-3 * torch.sin(1e5 * z[:, : self.info.n_clusters])


class Stairs(Victim):
    """Its logarithms move in steps."""

    def log_assign(self, z: Tensor) -> Tensor:
        return super().log_assign(z).mul(200).round() / 200


class Renamed(Victim):
    """Its hard labels are not the likeliest clusters."""

    def labels(self, z: Tensor) -> Tensor:
        return (super().labels(z) + 1) % self.info.n_clusters


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Decoy, "have a log_assign that is not the logarithm of assign"),
        (Shattered, "do not rise along it"),
        (Stairs, "have no gradient"),
        (Renamed, "have a hard label that is not the likeliest"),
    ],
)
def test_a_mask_on_what_gradients_are_taken_of_is_found(
    make: Make, network: bool, kind: type[Victim], sentence: str
) -> None:
    evidence = make(network=network)
    assert verdict(evidence, 6).status == "pass"
    evidence.surface.model.__class__ = kind
    found = verdict(evidence, 6)
    assert found.status == "fail"
    assert sentence in found.note
