"""ALRDC end to end on digits: pretrain, cluster, attack, defend, re-attack.

Nothing here asks how the fresh attack on a defended model comes out: that is a finding, not a requirement.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import CheckpointError
from robust_cluster.measure import pgd
from robust_cluster.measure.scores import embed
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import MODEL, RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.cluster import describe_model
from robust_cluster.stages.context import Context

Record = dict[str, Any]
Experiment = Callable[..., Record]
FEW = {
    "model.hidden": [16],
    "model.head": [16],
    "model.n_init": 1,
    "model.head_steps": 10,
    "attack.hidden": [16],
    **{f"{phase}.epochs": 1 for phase in ("model.pretrain", "model.cluster", "attack.schedule", "defense.schedule")},
    **{f"{phase}.steps_per_epoch": 2 for phase in ("model.cluster", "attack.schedule", "defense.schedule")},
}
# What a record must hold: the fields of each group, by where a re-attack's has it.
FIELDS = {
    "data": "name n_samples n_clusters sha256 scale source",
    "spec.data": "limit",
    "": "profile flags audit key",
    "spec": "stage model latent_dim seed attack_seed precision",
    "cluster.settings.model": "mode recon_weight prior_weight entropy_weight",
    "cluster.settings.model.cluster": "batch_size",
    "pretrain.settings.model.pretrain": "batch_size",
    "attack.settings.attack": "gamma recon_weight size_weight",
    "attack.settings.attack.schedule": "batch_size",
    "defend.settings.defense": "mode weight",
    "defend.settings.defense.schedule": "batch_size",
    "training": "steps samples stop_reason",
    "metrics": "ACC NMI ARI chance ACC* NMI* ARI* ACC*_clean_map flip "
    "D D_code D_abs D_norm delta_norm mean_share reconstruction_error reconstruction_change "
    "zero_flip noise_flip shuffled_flip pgd_radius pgd_flip pgd_flip_half pgd_noise_flip pgd_noise_flip_half",
    "health": "cluster_sizes clusters_used active_dims embedding_norm center_norm collapsed",
    "checks": "victim_unchanged",
    "threat": "space stage knowledge",
    "environment.matmul": "precision",
    "checkpoint": "sha256",
}


def context_of(runs_dir: Path, dataset: Dataset) -> Context:
    return Context(RunStore(runs_dir), dataset, "smoke", device="cpu", threads=1)


def specs_of(dataset: Dataset, stage: Stage = "reattack", model: str = "convae", **fields: Any) -> list[RunSpec]:
    return plan(Request(stage, dataset.ref, model, **({"profile": "smoke"} | fields)), dataset.info)


def by_stage(records: list[Record]) -> dict[str, Record]:
    return {record["spec"]["stage"]: record for record in records}


@pytest.fixture(scope="module", autouse=True)
def _few_rows_for_pgd() -> Iterator[None]:
    """Latent PGD has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pgd, "ROWS", 200)
        yield


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Context:
    """One runs folder, so that the experiments share what they have in common."""
    return context_of(tmp_path_factory.mktemp("runs"), digits)


@pytest.fixture(scope="module")
def experiment(context: Context) -> Experiment:
    """stage, dotted settings -> the record of that run, its ancestors made where missing."""

    def run(stage: Stage = "reattack", **settings: Any) -> Record:
        return execute(specs_of(context.dataset, stage, overrides=settings), context)[-1]

    return run


@pytest.fixture(scope="module")
def chain(context: Context) -> dict[str, Record]:
    """The records of the five stages at profile smoke, seed 0."""
    return by_stage(execute(specs_of(context.dataset), context))


def tiny(dataset: Dataset, runs_dir: Path, **fields: Any) -> dict[str, Record]:
    """The records of a chain of two steps a stage."""
    return by_stage(execute(specs_of(dataset, latent_dim=8, overrides=FEW, **fields), context_of(runs_dir, dataset)))


def metrics(record: Record) -> dict[str, Any]:
    return dict(record["metrics"])


@pytest.mark.parametrize("stage", ["attack", "reattack"])
def test_t5_no_perturbation_flips_nothing_and_the_victim_stays_as_it_was(chain: dict[str, Record], stage: str) -> None:
    assert metrics(chain[stage])["zero_flip"] == 0.0
    assert chain[stage]["checks"]["victim_unchanged"] is True


def test_the_defense_leaves_the_original_attacker_as_it_was(chain: dict[str, Record]) -> None:
    assert chain["defend"]["checks"]["attacker_unchanged"] is True
    old, kept = metrics(chain["attack"]), metrics(chain["defend"])
    assert kept["delta_norm"] == pytest.approx(old["delta_norm"], rel=1e-5)  # delta depends on x alone
    assert kept["D_norm"] != old["D_norm"]


@pytest.mark.slow
def test_t6_without_a_fooling_term_the_attacker_shrinks_to_nothing(experiment: Experiment) -> None:
    found = metrics(
        experiment("attack", **{"attack.gamma": 0.0, "attack.schedule.epochs": 20, "attack.schedule.lr": 3e-3})
    )
    assert found["D_norm"] < 0.02
    assert found["flip"] < 0.01


def test_t7_the_attack_beats_noise_of_its_norm_and_its_own_perturbations_shuffled(chain: dict[str, Record]) -> None:
    found = metrics(chain["attack"])
    assert found["flip"] >= 3 * found["noise_flip"]
    assert found["flip"] > 0.05
    assert found["flip"] > found["shuffled_flip"]
    assert 0 < found["mean_share"] < 1


@pytest.mark.slow
def test_t8_a_larger_gamma_flips_no_less_and_moves_no_less(experiment: Experiment) -> None:
    swept = [metrics(experiment("attack", **{"attack.gamma": gamma})) for gamma in (10, 20, 40, 80)]
    for smaller, larger in pairwise(swept):
        assert larger["flip"] >= smaller["flip"] - 0.01
        assert larger["D_norm"] >= smaller["D_norm"] - 0.01
    assert swept[-1]["flip"] > 5 * swept[0]["flip"]
    assert swept[-1]["D_norm"] > 2 * swept[0]["D_norm"]


def assert_pgd_beats_noise(record: Record) -> None:
    found = metrics(record)
    assert found["pgd_flip"] >= found["pgd_noise_flip"]
    assert found["pgd_flip_half"] >= found["pgd_noise_flip_half"]
    assert found["pgd_flip"] >= found["pgd_flip_half"] > 0


@pytest.mark.parametrize("stage", ["attack", "reattack"])
def test_t12_pgd_flips_at_least_as_many_as_noise_of_its_radius(chain: dict[str, Record], stage: str) -> None:
    assert_pgd_beats_noise(chain[stage])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["control", "alternating"])
def test_t12_pgd_beats_noise_on_the_other_defenses(experiment: Experiment, mode: str) -> None:
    assert_pgd_beats_noise(experiment(**{"defense.mode": mode}))


def test_victim_and_defended_model_are_compared_at_one_radius(chain: dict[str, Record]) -> None:
    radius = metrics(chain["attack"])["delta_norm"]
    assert metrics(chain["attack"])["pgd_radius"] == metrics(chain["reattack"])["pgd_radius"] == radius


@pytest.mark.slow
def test_t14_the_same_seed_gives_the_same_metrics_and_weights(few_digits: Dataset, tmp_path: Path) -> None:
    first, second = (tiny(few_digits, tmp_path / name) for name in ("first", "second"))
    for stage in first:
        assert first[stage]["metrics"] == second[stage]["metrics"]
        assert first[stage]["checkpoint"] == second[stage]["checkpoint"]
    other = tiny(few_digits, tmp_path / "first", seed=1)
    assert other["attack"]["checkpoint"]["sha256"] != first["attack"]["checkpoint"]["sha256"]


@pytest.mark.parametrize("stage", ["cluster", "defend"])
def test_t14_a_loaded_model_predicts_what_was_recorded(
    chain: dict[str, Record], context: Context, stage: Stage
) -> None:
    spec = specs_of(context.dataset)[-1].ancestor(stage)
    model = context.trained_model(spec).eval()
    assert context.labels is not None
    predicted = model.labels(embed(model, context.views).z).numpy()
    assert np.bincount(predicted, minlength=10).tolist() == chain[stage]["health"]["cluster_sizes"]
    assert accuracy(context.labels, predicted) == metrics(chain[stage])["ACC"]
    assert describe_model(model, context)["metrics"]["NMI"] == metrics(chain[stage])["NMI"]


def test_t15_the_victim_clusters_the_digits(chain: dict[str, Record]) -> None:
    assert metrics(chain["cluster"])["ACC"] >= 0.70
    assert chain["cluster"]["health"]["collapsed"] is False
    assert "collapsed" not in chain["cluster"]["flags"]
    assert 0 <= chain["cluster"]["health"]["label_change"] < 0.5


def test_t15_the_attack_lowers_acc_by_five_points_and_stays_invisible(chain: dict[str, Record]) -> None:
    found = metrics(chain["attack"])
    assert found["ACC"] - found["ACC*"] >= 0.05
    assert found["reconstruction_change"] < found["reconstruction_error"]
    assert "not imperceptible" not in chain["attack"]["flags"]


def test_t15_the_old_attacker_hurts_the_defended_model_less_than_the_victim(chain: dict[str, Record]) -> None:
    victim, defended = metrics(chain["attack"]), metrics(chain["defend"])
    assert defended["ACC"] - defended["ACC*"] < victim["ACC"] - victim["ACC*"]
    assert defended["flip"] < victim["flip"]


def test_clean_scores_of_an_attacked_model_are_those_of_the_model(chain: dict[str, Record]) -> None:
    for attacked, model in (("attack", "cluster"), ("reattack", "defend")):
        for name in ("ACC", "NMI", "ARI", "reconstruction_error"):
            assert metrics(chain[attacked])[name] == metrics(chain[model])[name]


# Records


def located(record: Record) -> Record:
    """The record with the spec of each stage of its lineage under that stage's name."""
    lineage: Record = {spec.stage: spec.to_json() for spec in RunSpec.from_json(record["spec"]).lineage()}
    return {**lineage, **record}


@pytest.mark.parametrize(("path", "names"), FIELDS.items())
def test_a_record_holds_what_section_10_lists(chain: dict[str, Record], path: str, names: str) -> None:
    group = reduce(lambda level, name: level[name], filter(None, path.split(".")), located(chain["reattack"]))
    for name in names.split():
        assert name in group
        assert group[name] is not None or (path, name) == ("spec.data", "limit")


@pytest.mark.parametrize(
    ("model", "weight"), [("mie", "information_weight"), ("graph", "graph_weight"), ("graph", "neighbors")]
)
def test_the_victims_own_weights_are_in_their_specs(digits: Dataset, model: str, weight: str) -> None:
    assert specs_of(digits, "cluster", model)[-1].settings["model"][weight] > 0


def test_every_record_says_how_long_it_trained(chain: dict[str, Record]) -> None:
    assert [record["training"]["epochs"] for record in chain.values()] == [20, 10, 10, 10, 10]
    assert [record["training"]["steps"] for record in chain.values()] == [280, 200, 200, 200, 200]
    assert [record["training"]["samples"] for record in chain.values()] == [280 * 128, *[200 * 128] * 4]


# Labels


@pytest.mark.slow
def test_without_labels_the_chain_works_and_label_metrics_are_none(few_digits: Dataset, tmp_path: Path) -> None:
    with_labels = tiny(few_digits, tmp_path / "with")
    without = tiny(replace(few_digits, labels=None), tmp_path / "without")
    for stage, record in without.items():
        found, expected = metrics(record), metrics(with_labels[stage])
        beside = {"chance", "purity"} & set(found)
        label_metrics = {name for name in found if name[:3] in {"ACC", "NMI", "AMI", "ARI"}} | beside
        assert {name for name, value in found.items() if value is None} == label_metrics
        assert {name: expected[name] for name in found.keys() - label_metrics} == {
            name: found[name] for name in found.keys() - label_metrics
        }
        assert record["data"]["labels"] is False
    assert len(metrics(without["attack"]).keys() & {"ACC", "NMI*", "ACC*_clean_map", "chance"}) == 4


def test_labels_change_label_metrics_and_nothing_else(few_digits: Dataset, tmp_path: Path) -> None:
    assert few_digits.labels is not None
    permuted = replace(few_digits, labels=np.random.default_rng(0).permutation(few_digits.labels))
    original, other = tiny(few_digits, tmp_path / "original"), tiny(permuted, tmp_path / "permuted")
    for stage in original:
        assert original[stage]["checkpoint"] == other[stage]["checkpoint"]
        assert original[stage]["training"]["losses"] == other[stage]["training"]["losses"]
        assert original[stage]["health"] == other[stage]["health"]
        assert original[stage]["flags"] == other[stage]["flags"]
    assert metrics(original["cluster"])["NMI"] != metrics(other["cluster"])["NMI"]
    assert metrics(original["attack"])["D"] == metrics(other["attack"])["D"]


# Images and checkpoints


@pytest.mark.slow
def test_images_go_through_every_stage(tmp_path: Path) -> None:
    images = load(DataRef("digits-28", limit=60), Folders())
    assert images.info.shapes == ((1, 28, 28),)
    records = tiny(images, tmp_path)
    assert list(records) == ["pretrain", "cluster", "attack", "defend", "reattack"]
    assert records["attack"]["checks"]["victim_unchanged"] is True
    assert metrics(records["reattack"])["zero_flip"] == 0.0
    assert metrics(records["reattack"])["D"] > 0
    assert metrics(records["attack"])["reconstruction_error"] > metrics(records["attack"])["reconstruction_change"] > 0


@pytest.mark.parametrize("damage", ["edited", "truncated", "missing"])
def test_a_checkpoint_changed_after_its_run_is_refused_by_the_next_stage(
    few_digits: Dataset, tmp_path: Path, damage: str
) -> None:
    context = context_of(tmp_path, few_digits)
    specs = specs_of(few_digits, "attack", latent_dim=8, overrides=FEW)
    execute(specs[:2], context)
    path = context.store.path(specs[1]) / MODEL
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes(flipped if damage == "edited" else content[:half])
    sentence = "is missing" if damage == "missing" else "was truncated or edited"
    with pytest.raises(CheckpointError, match=rf"The checkpoint .*{MODEL} {sentence}") as caught:
        execute(specs, context)
    assert caught.value.hint == "rc cluster with --force makes it anew"
    assert context.store.record(specs[2]) is None
