"""A run's key holds every field that changes a number."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from robust_cluster.runs.spec import PRECISIONS, DataRef, RunSpec


def run_spec(**changes: Any) -> RunSpec:
    settings, versions = {"model": {"lr": 1e-3, "neighbors": 3}}, {"graph": 1}
    spec = RunSpec("pretrain", DataRef("digits"), "ab" * 32, "graph", 64, 0, settings, versions)
    return replace(spec, **changes)


CHANGES: dict[str, Any] = {
    "stage": "cluster",
    "data_sha256": "cd" * 32,
    "model": "mie",
    "latent_dim": 10,
    "seed": 1,
    "settings": {"model": {"lr": 1e-3, "neighbors": 4}},
    "versions": {"graph": 2},
    "precision": "highest",
    "attack": "latent_net",
    "attack_seed": 0,
    "defense": "mutual_info",
    "parent": run_spec(seed=5),
    "packages": {"models/graph": "theirs 1.0 abc"},
    "weights": "ef" * 32,
}
DATA_CHANGES: dict[str, Any] = {
    "name": "mnist",
    "limit": 1000,
    "flatten": True,
    "normalize": "none",
    "n_clusters": 7,
    "split": "halves",
    "size": 32,
    "subset": "0,1",
    "label_column": "species",
    "text_column": "review",
    "id_column": "id",
    "drop": "a,b",
    "no_header": True,
    "noise_label": "-1",
}


def test_the_key_of_a_spec_never_changes_between_machines_and_versions() -> None:
    assert run_spec().key == "707008362832"


def test_equal_specs_have_one_key_whatever_the_order_of_their_settings() -> None:
    turned = run_spec(settings={"model": {"neighbors": 3, "lr": 1e-3}})
    assert turned.key == run_spec().key


@pytest.mark.parametrize("field", [f.name for f in fields(RunSpec) if f.name != "data"])
def test_each_field_changes_the_key(field: str) -> None:
    assert run_spec(**{field: CHANGES[field]}).key != run_spec().key


@pytest.mark.parametrize("field", [f.name for f in fields(DataRef)])
def test_each_choice_about_the_data_changes_the_key(field: str) -> None:
    assert run_spec(data=replace(DataRef("digits"), **{field: DATA_CHANGES[field]})).key != run_spec().key


@pytest.mark.parametrize(
    ("field", "label"),
    [
        ("split", "digits"),
        ("size", "digits-32px"),
        ("subset", "digits-only-0.1"),
        ("label_column", "digits"),
        ("text_column", "digits"),
        ("id_column", "digits"),
        ("drop", "digits"),
        ("no_header", "digits"),
        ("noise_label", "digits"),
    ],
)
def test_a_later_choice_about_the_data_stands_in_the_json_and_the_name_only_where_it_is_used(
    field: str, label: str
) -> None:
    used = run_spec(data=replace(DataRef("digits"), **{field: DATA_CHANGES[field]}))
    assert field not in run_spec(parent=used).to_json()["data"]
    assert run_spec(parent=used).to_json()["parent"]["data"][field] == DATA_CHANGES[field]
    for spec in (used, run_spec(data=used.data, parent=used)):
        assert RunSpec.from_json(spec.to_json()) == spec
    assert used.data.label == label


def test_a_change_in_any_ancestor_changes_the_key() -> None:
    def child(seed: int) -> RunSpec:
        return run_spec(stage="attack", parent=run_spec(stage="cluster", parent=run_spec(seed=seed)))

    assert child(0).key == child(0).key
    assert child(0).key != child(1).key


def test_a_spec_survives_json_with_its_lineage_and_key() -> None:
    spec = run_spec(stage="attack", attack="latent_net", attack_seed=2, parent=run_spec(stage="cluster"))
    again = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.key == spec.key
    assert isinstance(again.parent, RunSpec)
    assert isinstance(again.data, DataRef)


def test_a_field_that_no_spec_has_is_refused() -> None:
    with pytest.raises(TypeError, match="color"):
        RunSpec.from_json(run_spec().to_json() | {"color": "red"})


def test_a_setting_that_is_not_finite_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = run_spec(settings={"lr": float("nan")}).key


def test_the_folder_is_named_by_stage_model_data_dim_seed_and_key() -> None:
    spec = run_spec(data=DataRef("fashion-mnist", limit=10000, flatten=True), seed=3)
    assert spec.directory == f"pretrain/graph-fashion-mnist-vector-10000-d64-s3-{spec.key}"
    assert DataRef("digits").label == "digits"


def test_the_lineage_runs_from_the_youngest_to_the_oldest() -> None:
    oldest = run_spec()
    middle = run_spec(stage="cluster", parent=oldest)
    youngest = run_spec(stage="attack", parent=middle)
    assert list(youngest.lineage()) == [youngest, middle, oldest]
    assert youngest.ancestor("cluster") is middle
    with pytest.raises(LookupError, match="has no defend run before it"):
        youngest.ancestor("defend")


def test_keys_of_runs_at_the_earlier_levels_of_precision_are_those_of_the_saved_records() -> None:
    """Two of tables/results, typed from there."""
    schedule = {"batch_size": 256, "lr": 0.001, "steps_per_epoch": None, "tolerance": 0.001, "window": 0}
    settings = {"model": {"cluster": {**schedule, "epochs": 0}, "n_init": 10, "pretrain": {**schedule, "epochs": 50}}}
    digest = "a0c191b6db501c89d248b1b52cd43feb7aa418f79396ae601765defb0e8d0111"
    mnist = DataRef("mnist", flatten=True, normalize="none")
    kmeans = RunSpec("cluster", mnist, digest, "kmeans", 10, 0, settings, {"kmeans": 1}, precision="medium")
    assert kmeans.key == "d351bd66e227"
    digest = "aef113e8225f30825b5333d50f1b65db4dba3bb7b7e83b987641af70462d052f"
    attack = RunSpec(
        "attack",
        DataRef("mnist10k", flatten=True),
        digest,
        "kmeans",
        64,
        2,
        {
            "attack": {
                "attacker_activation": "none",
                "gamma": 40.0,
                "hidden": [256, 128],
                "recon_weight": 2.5,
                "schedule": {**schedule, "batch_size": 300, "epochs": 40, "steps_per_epoch": 50, "window": 10},
                "size_weight": 1.0,
            }
        },
        {"latent_net": 1, "latent_pgd": 1, "measurement": 1},
        precision="highest",
        attack="latent_net",
        attack_seed=0,
        parent=replace(kmeans, data=DataRef("mnist10k", flatten=True), data_sha256=digest, latent_dim=64, seed=2),
    )
    assert attack.key == "1e8c2bb73386"
    assert len({replace(kmeans, precision=level).key for level in PRECISIONS}) == 3
