"""A record that says other than what is measured again fails the audit, however it came to say so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robust_cluster.audit import checks, probes, recorded
from robust_cluster.audit.base import Check, Evidence, Verdict
from robust_cluster.data.base import Batch, Views
from robust_cluster.measure.scores import characters

Make = Callable[..., Evidence]
EPS = 0.06


@pytest.fixture
def honest(make: Make) -> Evidence:
    """An attack with the record that its stage would write: flips, noise, a curve of two radii, labels of every row."""
    return with_record(make(settings={"eps": EPS, "steps": 10}))


def with_record(evidence: Evidence) -> Evidence:
    moved = evidence.clusters(evidence.points)
    flip = float(np.mean(moved != evidence.own))
    eps = probes.pixels(evidence)
    half = evidence.move(evidence.build({"eps": eps / 2}))
    lines = [
        {"eps": eps / 2, "attack": "all", "flip": probes.rate(evidence.flips(half))},
        {"eps": eps, "attack": "all", "flip": flip},
    ]
    metrics = {"flip": flip, "zero_flip": 0.0, "noise_flip": recorded.own_noise(evidence), "samples": len(evidence)}
    listed = {"rows": len(evidence), "clean": characters(evidence.own), "moved": characters(moved)}
    record = {**evidence.record, "metrics": metrics, "radii": lines, "samples": listed}
    return replace(evidence, record=record, scored=len(evidence), places=np.arange(len(evidence)))


def test_an_honest_record_passes(honest: Evidence) -> None:
    verdict = recorded.as_recorded(honest)
    assert (verdict.status, verdict.value, verdict.note) == ("pass", 0.0, "")
    assert 0.2 < honest.record["metrics"]["flip"] < 1
    few = honest.probe(20)
    assert few.places is not None
    assert recorded.as_recorded(few).status == "pass", "also on some of its rows"


def edited(evidence: Evidence, **changes: Any) -> Evidence:
    """The evidence with some of the record's parts replaced, or some of its metrics."""
    record = dict(evidence.record)
    for name, value in changes.items():
        record[name] = {**record["metrics"], **value} if name == "metrics" else value
    return replace(evidence, record=record)


def as_clean(listed: dict[str, Any], share: float) -> dict[str, Any]:
    """The list of labels with the first flips taken back, until so large a share of all rows is left."""
    moved = list(listed["moved"])
    flips = [row for row, (one, other) in enumerate(zip(listed["clean"], moved, strict=True)) if one != other]
    for row in flips[: len(flips) - round(share * len(moved))]:
        moved[row] = listed["clean"][row]
    return {**listed, "moved": "".join(moved)}


def planted(evidence: Evidence, fault: str) -> Evidence:
    listed, lines, metrics = (evidence.record[name] for name in ("samples", "radii", "metrics"))
    match fault:
        case "edited headline":
            return edited(evidence, metrics={"flip": 0.02})
        case "edited headline and labels":
            ended = [lines[0], {**lines[1], "flip": 0.05}]
            return edited(evidence, metrics={"flip": 0.05}, samples=as_clean(listed, 0.05), radii=ended)
        case "wrong radius":
            return edited(evidence, radii=[{**lines[0], "flip": lines[1]["flip"]}, lines[1]])
        case "half of the rows":
            return edited(evidence, metrics={"samples": metrics["samples"] // 2})
        case "small noise":
            return edited(evidence, metrics={"noise_flip": metrics["noise_flip"] / 50})
        case "clean labels of another mode":
            return edited(evidence, samples={**listed, "clean": characters((evidence.own + 1) % 3)})
        case _:
            return edited(evidence, metrics={"zero_flip": 0.01})


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        ("edited headline", "flip is 2.0%, and "),
        ("edited headline and labels", "of the samples flip here and not in the record"),
        ("wrong radius", "at 0.03 "),
        ("half of the rows", "30 rows are scored, 60 are asked for"),
        ("clean labels of another mode", "of the clean labels are others"),
        ("no move flips", "no move flips 1.0%"),
    ],
)
def test_a_planted_fault_fails(honest: Evidence, fault: str, note: str) -> None:
    verdict = recorded.as_recorded(planted(honest, fault))
    assert verdict.status == "fail"
    assert note in verdict.note


def test_noise_that_was_made_small_fails(make: Make) -> None:
    evidence = with_record(make(settings={"eps": 0.4, "steps": 10}))
    assert evidence.record["metrics"]["noise_flip"] > 0.3, "a radius at which noise flips many"
    assert recorded.as_recorded(evidence).note == ""
    verdict = recorded.as_recorded(planted(evidence, "small noise"))
    assert (verdict.status, "noise flips" in verdict.note) == ("fail", True)


def test_points_that_were_never_moved_fail(honest: Evidence) -> None:
    perturb = type(honest.attacker).perturb

    def lazy(self: Any, surface: Any, batch: Batch) -> Views:
        moved = perturb(self, surface, batch)
        kept = batch.index % 2 == 0
        return tuple(
            clean.where(kept.view(-1, *[1] * (clean.ndim - 1)), after)
            for clean, after in zip(surface.point(batch), moved, strict=True)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(honest.attacker), "perturb", lazy)
        verdict = recorded.as_recorded(with_record(replace(honest)))
    assert verdict.status == "fail"
    assert "were not moved at all" in verdict.note


def test_what_stands_beside_a_reattack_is_no_part_of_the_attack(honest: Evidence) -> None:
    flip = honest.record["metrics"]["flip"]
    lines = [{**line, "flip": 1.0} for line in honest.record["radii"]]
    listed = {**honest.record["samples"], "moved": characters((honest.own + 1) % 3)}
    beside = edited(honest, metrics={"flip": 1.0}, radii=lines, samples=listed, adaptive={"afresh": flip})
    assert recorded.as_recorded(beside).status == "pass"


def test_a_fault_inside_a_check_fails_that_check_alone(make: Make) -> None:
    def broken(evidence: Evidence) -> Verdict:
        raise IndexError("list index out of range")

    verdict = checks.judged(Check(99, "broken", "full", broken), make())
    assert (verdict.status, verdict.note) == ("fail", "it ended in IndexError: list index out of range")
