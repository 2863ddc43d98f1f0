"""`rc table runs`: what tells runs apart makes the rows, and seeds alone are averaged."""

from dataclasses import replace
from typing import Any

import pytest

from robust_cluster.report.run_table import build
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.made import MADE
from tests.report.toy import record, text

BASE: dict[str, Any] = {"data": DataRef("stl10"), "data_sha256": "0" * 64, "latent_dim": 10}


def run(
    accuracy: float | None, seed: int = 0, model: str = "dec", lr: float = 0.1, overrides: Any = None, **more: Any
) -> dict[str, Any]:
    """A clustering after its pretraining, as a run's record."""
    base = {**BASE, **more, "seed": seed}
    before = RunSpec("pretrain", model="dec", settings={"model": {"width": 8}}, **base)
    settings = {"model": {"lr": lr, "cluster": {"epochs": 5}, **({"gamma": 0.1} if model == "idec" else {})}}
    spec = RunSpec("cluster", model=model, settings=settings, parent=before, **base)
    found: dict[str, Any] = {"key": spec.key, "spec": spec.to_json(), "profile": "smoke", "metrics": {"ACC": accuracy}}
    return {**found, "flags": [], "overrides": overrides or {}, "data": MADE["data"], "training": MADE["training"]}


def shown(stage: Any, records: list[dict[str, Any]], **choices: Any) -> list[str]:
    """The lines of the table in Markdown, without the marks: these settings are of no real method."""
    lines = [line for line in text(build(stage, records, source="runs", **choices)).splitlines() if line[:1] == "|"]
    return [line.rpartition(" | ")[0] + " |" if lines[0].endswith("| marks |") else line for line in lines]


def test_seeds_are_averaged_and_a_setting_that_differs_is_a_column() -> None:
    records = [run(0.8, 0), run(0.9, 1), run(0.5, 0, lr=0.01), run(0.6, 1, lr=0.01), run(0.7, 2, lr=0.01)]
    assert shown("cluster", records) == [
        "| data | model | model.lr | ACC |",
        "| --- | --- | --- | ---: |",
        "| stl10 | dec | 0.01 | 60.0±10.0 |",
        "|  |  | 0.1 | 85.0±7.1 (n=2) |",
    ]


def test_between_two_models_their_own_settings_are_no_difference_but_what_was_set_by_hand_is() -> None:
    pair = [run(0.8), run(0.7, model="idec")]
    assert shown("cluster", pair)[0] == "| data | model | ACC |"
    by_hand = [run(0.8), run(0.7, model="idec", lr=0.3, overrides={"model.lr": 0.3})]
    assert shown("cluster", by_hand)[0] == "| data | model | model.lr | ACC |"
    assert shown("cluster", by_hand)[2:] == ["| stl10 | dec | 0.1 | 80.0 |", "|  | idec | 0.3 | 70.0 |"]


def test_what_was_set_alike_for_all_stands_in_the_caption_and_is_no_departure() -> None:
    grid = build("cluster", [run(0.8, s, overrides={"model.lr": 0.1}) for s in (0, 1)], source="runs")
    assert "Set by hand for all or some: model.lr=0.1." in grid.caption
    assert grid.caption[-1] == "Source: runs."


@pytest.mark.parametrize(
    ("change", "axis"),
    [
        ({"data": DataRef("stl10", normalize="adec")}, "data.normalize"),
        ({"data": DataRef("stl10", n_clusters=5)}, "data.n_clusters"),
        ({"data_sha256": "1" * 64}, "data.sha256"),
        ({"latent_dim": 20}, "d"),
        ({"precision": "bf16"}, "precision"),
        ({"versions": {"dec": 2}}, "version of dec"),
    ],
)
def test_nothing_but_seeds_is_ever_averaged(change: dict[str, Any], axis: str) -> None:
    lines = shown("cluster", [run(0.8), run(0.4, **change)])
    assert lines[0] == f"| data | model | {axis} | ACC |"
    assert sorted(line.split(" | ")[3] for line in lines[2:]) == ["40.0 |", "80.0 |"]


def test_a_setting_of_the_run_before_is_a_column_too() -> None:
    one, other = run(0.8), run(0.4)
    spec = RunSpec.from_json(other["spec"])
    assert spec.parent is not None
    wide = replace(spec, parent=replace(spec.parent, settings={"model": {"width": 9}}))
    other |= {"key": wide.key, "spec": wide.to_json()}
    assert shown("cluster", [one, other])[0] == "| data | model | model.width | ACC |"


def test_attackers_are_averaged_before_seeds_and_the_met_attacks_settings_are_kept_apart() -> None:
    records = [
        record("reattack", seed=seed, attack_seed=attacker, met_gamma=met, metrics={"ACC": 0.9, "ACC*": accuracy})
        for seed, attacker, met, accuracy in [
            (0, 0, 40.0, 0.2),
            (0, 1, 40.0, 0.4),
            (1, 0, 40.0, 0.5),
            (0, 0, 20.0, 0.8),
        ]
    ]
    lines = shown("reattack", records)
    assert lines[0].startswith("| data | model | attack: attack.gamma | ACC |")
    assert lines[2].startswith("| stl10 | convae | 20.0 | 90.0 / 80.0\\* (n=1) |")
    assert lines[3].startswith("|  |  | 40.0 | 90.0±0.0 / 40.0±14.1\\* |")


def test_bold_compares_methods_and_never_two_attacks_or_two_sets_of_data() -> None:
    records = [run(0.8), run(0.7, model="idec"), run(0.9, data=DataRef("digits"))]
    assert [line.count("**") for line in shown("cluster", records, bold="best")[2:]] == [0, 2, 0]


def test_without_classes_scores_without_classes_are_shown_and_a_run_out_of_memory_says_so() -> None:
    blind = run(None) | {"internal": {"rows": 9, "embedding": {"silhouette": 0.25}, "data": {"silhouette": 0.5}}}
    lost = run(None, model="idec") | {"flags": ["out of memory"], "memory": {"needed": 2**31, "available": 2**30}}
    assert shown("cluster", [blind, lost])[0] == "| data | model | silhouette, embedding | silhouette, data |"
    assert shown("cluster", [blind, lost])[3] == "|  | idec | OOM | OOM |"
