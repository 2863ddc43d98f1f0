"""Attacks on the views: halves of the data, rows held back, both batch-norm modes, and what an attack must beat."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.view_gan import Config, ViewGan
from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.multiview import halves, sources
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError
from robust_cluster.measure import pgd
from robust_cluster.measure.rows import Rows
from robust_cluster.measure.views import refit
from robust_cluster.metrics.accuracy import accuracy
from robust_cluster.models.base import ClusterModel
from robust_cluster.models.multiview.comvc import CoMVC
from robust_cluster.runs.spec import DataRef, RunSpec, Stage
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import auditing, bench
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context, Trial
from robust_cluster.stages.defend import restart

Record = dict[str, Any]
SMALL = {"model.cluster.batch_size": 20, "attack.schedule.batch_size": 20, "defense.schedule.batch_size": 20}


@pytest.fixture(scope="module")
def data(pair: Dataset) -> Dataset:
    """The pair's 200 samples, 100 to train on and 100 to attack."""
    return replace(pair, ref=DataRef("pair", split="halves"))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> Context:
    return Context(RunStore(tmp_path_factory.mktemp("runs")), data, "smoke", device="cpu", threads=1)


def specs(context: Context, stage: Stage, **fields: Any) -> list[RunSpec]:
    asked = {"model": "comvc", "profile": "smoke", "attack": "view_gan", "defense": "ar_dmvc", "overrides": SMALL}
    return plan(Request(stage, context.dataset.ref, **(asked | fields)), context.info)


@pytest.fixture(scope="module", autouse=True)
def _short_pgd() -> Iterator[None]:
    """Two steps on 20 rows: what PGD finds is tested with the attack itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pgd, "STEPS", 2)
        patch.setattr(pgd, "ROWS", 20)
        patch.setattr(auditing, "findings", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def between() -> list[tuple[str, int, bool]]:
    """Phase, epoch and mode of the model, of each call of its `after_epoch` in the chain."""
    return []


@pytest.fixture(scope="module")
def chain(context: Context, between: list[tuple[str, int, bool]]) -> dict[str, Record]:
    """Cluster, attack, defense and re-attack of CoMVC, one epoch each."""

    def after_epoch(self: CoMVC, phase: str, epoch: int, embed: Any, seed: int) -> None:
        between.append((phase, epoch, self.training))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CoMVC, "after_epoch", after_epoch)
        return {record["spec"]["stage"]: record for record in execute(specs(context, "reattack"), context)}


@pytest.fixture(scope="module")
def victim(context: Context, chain: dict[str, Record]) -> ClusterModel:
    """The CoMVC that the chain attacked."""
    return context.trained_model(specs(context, "cluster")[-1]).eval().requires_grad_(False)


def rows_of(victim: ClusterModel, context: Context, bn: Any = "eval") -> Rows:
    return Rows(Surface(victim, "input", bn=bn), context.part(2).placed)


def test_models_train_on_one_half_and_are_attacked_on_a_fifth_of_the_other(chain: dict[str, Record]) -> None:
    assert {stage: record["data"]["n_samples"] for stage, record in chain.items()} == dict.fromkeys(chain, 100)
    assert chain["attack"]["spec"]["data"]["split"] == "halves"
    assert chain["attack"]["metrics"]["samples"] == 20
    assert chain["attack"]["training"]["samples"] == 80


def test_the_threat_model_says_what_the_attacker_has_seen(chain: dict[str, Record]) -> None:
    threats = {stage: chain[stage]["threat"] for stage in ("attack", "defend", "reattack")}
    assert {stage: threat["knowledge"] for stage, threat in threats.items()} == {
        "attack": "white",
        "defend": "transfer",  # it learned from the undefended model
        "reattack": "white",
    }
    assert [threat["queries"] for threat in threats.values()] == [160, 0, 160]  # clean and moved, once each


def test_the_halves_of_a_context_are_those_of_the_data(context: Context, data: Dataset) -> None:
    for which, rows in zip((1, 2), halves(200), strict=True):
        half = context.part(which)  # type: ignore[arg-type]
        assert torch.equal(half.views[1], data.views[1][rows])
        assert half.labels is not None
        assert data.labels is not None
        assert np.array_equal(half.labels, data.labels[rows])
    whole = replace(context, dataset=replace(data, ref=DataRef("pair", split="none")))
    assert whole.part(1) is whole


def test_rows_held_back_are_no_attackers_and_the_same_for_every_method(context: Context) -> None:
    half = context.part(2)
    seen, held = bench.parts(specs(context, "attack")[-1], half)
    _, again = bench.parts(specs(context, "attack", model="simvc", seed=3)[-1], half)
    together = torch.cat([seen.views[0], held.views[0]]).flatten(1).sum(dim=1).sort().values
    assert torch.equal(together, half.views[0].flatten(1).sum(dim=1).sort().values)
    assert torch.equal(held.views[0], again.views[0])
    overrides = SMALL | {"attack.train_share": 1.0}
    assert bench.parts(specs(context, "attack", overrides=overrides)[-1], half) == (half, half)


def test_rows_held_back_of_noisy_pairs_show_no_image_of_the_attackers_and_older_runs_keep_theirs(
    context: Context, data: Dataset
) -> None:
    """The key of a run says which rule its rows were held back by; of data without such pairs it is what it was."""
    assert data.labels is not None
    ref, info = DataRef("noisy:pair", split="halves"), replace(data.info, name="noisy:pair")
    noisy = replace(data, ref=ref, info=info, sources=sources(data.labels))
    there = Context(context.store, noisy, "smoke", device="cpu", threads=1)
    spec, half = specs(there, "attack")[-1], there.part(2)
    assert spec.versions["held_back"] == 2
    assert "held_back" not in specs(context, "attack")[-1].versions
    assert "held_back" not in specs(there, "attack", overrides=SMALL | {"attack.train_share": 1.0})[-1].versions
    older = replace(spec, versions={name: version for name, version in spec.versions.items() if name != "held_back"})
    shared = []
    for run in (spec, older):
        seen, held = bench.parts(run, half)
        assert (seen.info.n_samples, held.info.n_samples) == (80, 20)
        assert seen.dataset.sources is not None
        shared.append(np.isin(held.dataset.sources, seen.dataset.sources).any(axis=1).mean())
    assert shared[0] == 0 < 0.4 < shared[1]
    assert torch.equal(
        bench.parts(spec, half)[1].views[0], bench.parts(specs(there, "attack", seed=3)[-1], half)[1].views[0]
    )


def test_nothing_of_the_victim_changes_and_no_move_changes_nothing(chain: dict[str, Record]) -> None:
    for stage in ("attack", "reattack"):
        assert chain[stage]["checks"] == {"victim_unchanged": True}
    assert chain["defend"]["checks"] == {"attacker_unchanged": True}
    for stage in ("attack", "defend", "reattack"):
        assert chain[stage]["metrics"]["zero_flip"] == 0


def test_every_control_stands_beside_the_attack(chain: dict[str, Record]) -> None:
    metrics = chain["attack"]["metrics"]
    kinds = ("equal_norm", "sign", "uniform", "shuffled", "untrained")
    for name in kinds:
        assert {f"ACC*_{name}", f"NMI*_{name}", f"ARI*_{name}", f"{name}_flip", f"{name}_shift"} <= metrics.keys()
    for suffix in ("", "_at_0.2"):
        for name in ("shift", "assignment"):
            assert {f"ACC*_pgd_{name}{suffix}", f"pgd_{name}_flip{suffix}"} <= metrics.keys()
    worst = min(metrics[f"ACC*_{name}"] for name in kinds)
    assert metrics["ACC*_noise"] == worst
    assert "pgd_flip" not in chain["defend"]["metrics"]
    assert [set(point) for point in chain["attack"]["curve"]] == [{"flip", "ACC*"}]


def test_a_refit_labels_moved_points_by_their_own_k_means(
    victim: ClusterModel, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = rows_of(victim, context)
    swapped = replace(scorer.clean, labels=np.zeros(100, np.int64))
    without = refit(scorer, swapped, seed=0)
    assert without["ACC_refit"] == accuracy(scorer.truth, scorer.clean.labels)  # type: ignore[arg-type]
    assert without["ACC*_refit"] == accuracy(scorer.truth, swapped.labels)  # type: ignore[arg-type]
    assert scorer.truth is not None
    perfect = torch.from_numpy(scorer.truth)
    monkeypatch.setattr(type(victim), "refit_labels", lambda self, z, seed: perfect)
    assert refit(scorer, swapped, seed=0)["ACC*_refit"] == 1.0


def test_pgd_ascends_the_attacks_own_terms_and_the_models_labels(
    victim: ClusterModel, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ascended: list[Any] = []
    monkeypatch.setattr(pgd, "ascended", lambda *given: ascended.append(given[2]) or given[3].views)
    surface, half = Surface(victim, "input"), context.part(2)
    attack = ViewGan(Config(terms="con"), surface)
    trial = Trial(attack, surface, specs(context, "attack")[-1], half, half)
    pgd.pgd(attack, bench.scored(trial, half), bench.beside(trial))
    assert ascended == [attack.objective, pgd.OBJECTIVES["assignment"]] * 2


def test_a_defense_from_the_beginning_lets_the_model_do_what_it_does_between_epochs(
    chain: dict[str, Record], between: list[tuple[str, int, bool]]
) -> None:
    assert set(chain) == {"cluster", "attack", "defend", "reattack"}
    assert between == [("cluster", 1, False)] * 2


def test_a_restarted_model_begins_as_the_clustering_did(victim: ClusterModel, context: Context) -> None:
    spec = specs(context, "defend")[-1]
    model = copy.deepcopy(victim).requires_grad_(True)
    restart(model, spec, context.part(1))
    fresh = context.new_model(spec.ancestor("cluster"))
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, victim.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_defense_of_the_embedding_refuses_attacks_on_the_views(context: Context) -> None:
    with pytest.raises(
        ConfigError, match="mutual_info defends against attacks in latent space, view_gan is in input space"
    ):
        execute(specs(context, "defend", defense="mutual_info"), context)


def test_an_attack_on_decoded_images_refuses_models_without_a_decoder(context: Context) -> None:
    with pytest.raises(ConfigError, match="CoMVC has no decoder"):
        execute(specs(context, "attack", attack="latent_net"), context)


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Noisy pairs of 400 digits of 28 x 28 pixels, half of them to attack."""
    dataset = load(DataRef("noisy:digits-28", limit=400), Folders())
    return Context(RunStore(tmp_path_factory.mktemp("runs")), dataset, "smoke", device="cpu", threads=1)


@pytest.mark.slow
@pytest.mark.parametrize("bn", ["batch", "eval"])
def test_a_trained_generator_does_more_than_noise_and_its_own_start(clustered: Context, bn: str) -> None:
    """The representations move further in both modes; with stored statistics noise may ruin the labels just as well."""
    overrides = {
        "model.cluster.epochs": 12,
        "model.cluster.batch_size": 40,
        "attack.schedule.epochs": 8,
        "attack.schedule.batch_size": 32,
        "attack.schedule.lr": 0.003,
        "attack.eps": 0.3,
        "attack.bn": bn,
    }
    metrics = execute(specs(clustered, "attack", overrides=overrides), clustered)[-1]["metrics"]
    for name in ("sign", "shuffled", "untrained"):
        assert metrics["shift"] > metrics[f"{name}_shift"]
    if bn == "batch":
        assert metrics["ACC"] > 0.6
        assert metrics["ACC*"] <= metrics["ACC*_noise"] - 0.02


@pytest.mark.slow
def test_the_same_attack_on_one_view_works_unchanged(tmp_path: Path, data: Dataset) -> None:
    info = replace(data.info, name="single", shapes=data.info.shapes[:1])
    single = replace(data, ref=DataRef("single"), info=info, views=data.views[:1])
    context = Context(RunStore(tmp_path), single, "smoke", device="cpu", threads=1)
    few = {f"model.{phase}.epochs": 1 for phase in ("pretrain", "cluster")}
    few |= {"model.head_steps": 5, "model.cluster.steps_per_epoch": 2, "model.n_init": 1}
    record = execute(specs(context, "attack", model="convae", overrides=SMALL | few), context)[-1]
    assert record["checks"] == {"victim_unchanged": True}
    assert record["metrics"]["zero_flip"] == 0
    assert record["data"]["n_samples"] == 200  # not split: the same rows for the model and its attacker
