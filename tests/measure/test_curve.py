"""How standard attacks are scored: the three readings of accuracy, the curve over radii, the controls, what is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_cluster.attacks import bounded as bounded_attacks
from robust_cluster.attacks.base import Attack, Surface
from robust_cluster.audit import checks
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.scores import attacked_scores, spaced
from robust_cluster.metrics.flips import flip_rate
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context, frozen_surface
from robust_cluster.stages.finished import audit

Record = dict[str, Any]
Attacked = Callable[..., Record]
KMEANS = {"model.n_init": 1, "attack.rows": 200}


@pytest.fixture(scope="module")
def few() -> Dataset:
    return load(DataRef("digits", limit=300), Folders())


@pytest.fixture(scope="module")
def attacked(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """attacked(**settings) is the record of an attack on k-means by APGD in the L-infinity ball, or as said."""
    context = Context(RunStore(tmp_path_factory.mktemp("runs")), few, "smoke", device="cpu", threads=1)

    def run(attack: str = "apgd", seed: int = 0, **settings: Any) -> Record:
        given = {"norm": "linf", "eps": 0.1, **settings}
        overrides = {**KMEANS, **{f"attack.{name}": value for name, value in given.items()}}
        request = Request("attack", few.ref, "kmeans", attack=attack, seed=seed, profile="smoke", overrides=overrides)
        return execute(plan(request, few.info), context)[-1]

    return run


TRUTH = np.array([0, 0, 0, 1, 1, 1, 2, 2])
CLEAN = np.array([2, 2, 2, 0, 0, 0, 1, 0])  # one of the third class strays: ACC 7/8


@pytest.mark.parametrize(
    ("moved", "anew", "clean_map", "flips"),
    [
        (CLEAN, 7 / 8, 7 / 8, 0.0),
        (np.array([1, 2, 0])[CLEAN], 7 / 8, 1 / 8, 1.0),  # clusters trade names; by chance the stray comes home
        (np.zeros(8, np.int64), 3 / 8, 3 / 8, 1 / 2),  # collapse: the largest class; cluster 0 was the second class's
    ],
    ids=["identity", "permutation", "collapse"],
)
def test_three_readings_tell_identity_permutation_and_collapse_apart(
    moved: Any, anew: float, clean_map: float, flips: float
) -> None:
    found = attacked_scores(TRUTH, CLEAN, moved, 3)
    assert (found["ACC*"], found["ACC*_clean_map"]) == (pytest.approx(anew), pytest.approx(clean_map))
    assert flip_rate(CLEAN, moved) == flips
    assert found["ACC*_clean_map"] <= found["ACC*"]  # type: ignore[operator]


def test_a_curve_starts_at_the_clean_scores_and_never_falls(attacked: Attacked) -> None:
    record = attacked(eps=0.2, curve=[0.0, 0.05, 0.1])
    lines = record["radii"]
    assert [line["eps"] for line in lines] == [0.0, 0.05, 0.1, 0.2]
    flips = [line["flip"] for line in lines]
    assert flips[0] == 0
    assert flips == sorted(flips)
    assert flips[-1] > flips[1] > 0
    assert (lines[0]["ACC*"], lines[0]["NMI*"]) == (record["metrics"]["ACC"], record["metrics"]["NMI"])
    for name in ("flip", "ACC*", "ACC*_clean_map", "NMI*", "ARI*"):
        assert record["metrics"][name] == lines[-1][name]
    assert (record["metrics"]["eps"], record["metrics"]["samples"]) == (0.2, 200)


def test_no_move_flips_nothing_noise_little_and_the_victim_stays(attacked: Attacked) -> None:
    record = attacked()
    assert record["metrics"]["zero_flip"] == 0
    assert record["metrics"]["noise_flip"] < 0.5 * record["metrics"]["flip"]
    assert record["metrics"]["noise_flip"] == max(record["metrics"]["equal_norm_flip"], record["metrics"]["sign_flip"])
    assert record["checks"] == {"victim_unchanged": True}
    assert record["flags"] == []


def test_the_threat_model_has_the_radius_in_pixels_and_in_units_of_the_model(attacked: Attacked, few: Dataset) -> None:
    threat = attacked()["threat"]
    assert {name: threat[name] for name in ("space", "norm", "stage", "knowledge", "views", "bn")} == {
        "space": "input",
        "norm": "linf",
        "stage": "frozen",
        "knowledge": "white",
        "views": None,
        "bn": "eval",
    }
    assert threat["eps_pixels"] == pytest.approx(0.1)
    assert threat["eps_data"] == pytest.approx(1.6)
    assert threat["range"] == few.info.unit
    assert threat["eps_model"] == pytest.approx(0.1 * 16 * few.info.scale)  # digits are counts of 0 to 16
    assert threat["box"] == [0.0, pytest.approx(16 * few.info.scale)]
    assert threat["queries"] >= 200


def test_the_threat_model_states_a_radius_for_each_view_and_the_rows_that_were_learned_from(attacked: Attacked) -> None:
    each = attacked(eps=None, view_eps=[0.1])["threat"]
    assert (each["view_eps"], each["eps_pixels"]) == ([0.1], pytest.approx(0.1))
    assert each["train_share"] is None
    assert attacked("universal")["threat"]["train_share"] == 1.0


def test_a_radius_that_is_not_the_declared_pixels_is_found(
    attacked: Attacked, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = bounded_attacks.bounded_budget
    wrong = replace(few.info, scaled_bounds=None, bounds=(0.0, 1.0))
    monkeypatch.setattr(bounded_attacks, "bounded_budget", lambda config, info: right(config, wrong))
    finding = attacked(seed=3, steps=1, rows=50)["audit"][1]
    assert (finding["name"], finding["status"]) == ("budget and box", "fail")
    assert "eps 0.1 is 0.24" in finding["note"]


def test_a_universal_perturbation_is_one_at_every_radius_and_learned_anew_for_it(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {**KMEANS, "attack.norm": "linf", "attack.eps": 0.2, "attack.curve": [0.1, 0.19], "attack.rows": 100}
    request = Request("attack", few.ref, "kmeans", attack="universal", profile="smoke", overrides=overrides)
    specs = plan(request, few.info)
    monkeypatch.setattr(checks, "CHECKS", [check for check in checks.CHECKS if check.name == "fair use"])

    def opposite(self: Context, spec: RunSpec, surface: Surface, **changes: Any) -> Attack:
        attack = self.new_attack(spec, surface, **changes)
        for name, value in RunStore(tmp_path / "right").load_model(spec)["delta"].items():
            attack.state()["delta"].state_dict()[name].copy_(-value)
        return attack

    trained_at, notes = [], []
    for name, learn in {"right": Context.learned_attack, "wrong": opposite}.items():
        context = Context(RunStore(tmp_path / name), few, "smoke", device="cpu", threads=1)
        monkeypatch.setattr(Context, "learned_attack", learn)
        record = execute(specs, context)[-1]
        trained_at.append([line["trained_at"] for line in record["radii"]])
        notes.append(audit(specs[-1], context)[0]["note"])
    assert trained_at == [pytest.approx([0.1, 0.19, 0.2]), [None, None, pytest.approx(0.2)]]
    assert notes[0] == "scored on the rows that it learned from"
    assert notes[1].startswith("not trained for eps 0.1, 0.19; ")
    surface = frozen_surface(context.trained_model(specs[-2]), "input", None)
    rows = Rows(surface, context.placed, spaced(300, 100))
    attacker = context.trained_attack(specs[-1], surface)
    one = rows.outcome(rows.moved(attacker))
    assert record["metrics"]["flip"] == flip_rate(rows.clean.labels, one.labels)


def test_the_audit_compares_with_the_scores_of_the_half_that_is_attacked(tmp_path: Path) -> None:
    halves = load(DataRef("digits", limit=300, split="halves"), Folders())
    context = Context(RunStore(tmp_path), halves, "smoke", device="cpu", threads=1)
    overrides = {**KMEANS, "attack.norm": "linf", "attack.eps": 0.1}
    request = Request("attack", halves.ref, "kmeans", attack="apgd", profile="smoke", overrides=overrides)
    clustered, attacked = execute(plan(request, halves.info), context)[-2:]
    assert clustered["metrics"]["ACC"] != attacked["metrics"]["ACC"] == clustered["metrics"]["ACC_held"]
    assert (attacked["audit"][2]["name"], attacked["audit"][2]["status"]) == ("clean reproduction", "pass")


def test_labels_of_every_scored_row_are_kept(attacked: Attacked, few: Dataset) -> None:
    record = attacked()
    kept = record["samples"]
    rows = spaced(300, 200).numpy()
    assert few.labels is not None
    assert [int(c) for c in kept["truth"]] == few.labels[rows].tolist()
    changed = sum(a != b for a, b in zip(kept["clean"], kept["moved"], strict=True))
    assert changed / kept["rows"] == pytest.approx(record["metrics"]["flip"])


def test_another_seed_draws_other_points_and_the_same_seed_the_same(attacked: Attacked) -> None:
    assert attacked(steps=1)["samples"] == attacked(steps=1)["samples"]
    assert attacked(steps=1)["radii"] != attacked(steps=1, seed=1)["radii"]


def stages_of(few: Dataset, stage: Stage = "reattack", **fields: Any) -> list[tuple[str, str | None]]:
    specs = plan(Request(stage, few.ref, "convae", profile="smoke", **fields), few.info)
    return [(spec.stage, spec.attack) for spec in specs if spec.stage in ("attack", "defend", "reattack")]


def test_a_standard_reattack_leaves_the_defense_the_attack_that_it_was_made_for(few: Dataset) -> None:
    budget = {"attack.norm": "linf", "attack.eps": 0.1}
    expected = [("attack", "latent_net"), ("defend", None), ("reattack", "apgd")]
    assert stages_of(few, attack="apgd", overrides=budget) == expected
    specs = plan(Request("reattack", few.ref, "convae", attack="apgd", profile="smoke", overrides=budget), few.info)
    plain = plan(Request("defend", few.ref, "convae", profile="smoke"), few.info)
    assert specs[-2].key == plain[-1].key, "the defended run is the one of rc defend"
    assert stages_of(few, attack="apgd", against="latent_pgd", overrides=budget)[0] == ("attack", "latent_pgd")


def test_a_defense_cannot_follow_an_attack_in_another_space(few: Dataset) -> None:
    budget = {"attack.norm": "linf", "attack.eps": 0.1}
    with pytest.raises(
        ConfigError, match="mutual_info defends against attacks in latent space, apgd is in input space"
    ):
        stages_of(few, "defend", attack="apgd", overrides=budget)


def test_the_same_run_is_found_by_its_key(few: Dataset, attacked: Attacked, tmp_path: Path) -> None:
    spec = plan(Request("cluster", few.ref, "kmeans", profile="smoke"), few.info)[-1]
    store = RunStore(tmp_path)
    with store.own(spec):
        pass
    assert store.find(spec.key) == spec
    assert store.find("nothing") is None
    assert store.find("../*") is None


@pytest.mark.parametrize(("eps", "flags"), [(25.0, []), (3000.0, ["radius beyond the data's range"])])
def test_a_radius_is_in_the_units_of_the_users_data_whatever_they_were_scaled_by(
    tmp_path: Path, eps: float, flags: list[str]
) -> None:
    """The same table in other units: the same flips at a radius in those units, and a radius beyond all values told."""
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)) + 4 * np.eye(5)[np.arange(60) % 3]
    found = []
    for factor in (10.0, 1000.0):
        folder = tmp_path / str(factor)
        folder.mkdir()
        np.savez(folder / "mine.npz", x=factor * x, y=np.arange(60) % 3)
        data = load(DataRef("mine"), Folders(folder))
        context = Context(RunStore(folder / "runs"), data, "smoke", device="cpu", threads=1)
        radius = {"attack.norm": "linf", "attack.eps": eps * factor / 10}
        request = Request("attack", data.ref, "kmeans", attack="pgd", profile="smoke", overrides={**KMEANS, **radius})
        record = execute(plan(request, data.info), context)[-1]
        threat = record["threat"]
        assert threat["eps_data"] == pytest.approx(eps * factor / 10, rel=1e-5)
        assert threat["eps_model"] == pytest.approx(threat["eps_data"] * data.info.scale, rel=1e-5)
        found.append((record["metrics"]["flip"], threat["eps_model"], record["flags"]))
    assert found[0] == (found[1][0], pytest.approx(found[1][1], rel=1e-3), flags)
    assert found[0][0] > 0
