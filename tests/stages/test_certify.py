"""The certify stage: closed forms on k-means, attacks inside the radius, and what a record holds."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from robust_cluster.attacks import ensemble
from robust_cluster.attacks.base import Surface
from robust_cluster.data.base import Batch, DataInfo, Dataset
from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.measure.scores import spaced
from robust_cluster.metrics.certificate import certify
from robust_cluster.models.shallow.kmeans import Config as KMeansConfig
from robust_cluster.models.shallow.kmeans import KMeansModel
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.seeds import generator
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RESULT, RunStore
from robust_cluster.stages import auditing, chain, methods, settings
from robust_cluster.stages.certify import (
    Config,
    certificates,
    characters,
    cluster_counts,
    listed,
    smoothed_health,
)
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context, Trial, frozen_surface

Record = dict[str, Any]
SMALL = {"certify.samples": 200, "certify.rows": 20, "model.n_init": 1}
FEW = {"certify.rows": 20}
UNIT = 2.0  # the range of the plane's values


def plane(points: np.ndarray[Any, Any], centers: list[list[float]]) -> tuple[Surface, Dataset]:
    """Points of a plane of range [-1, 1], and k-means with these centers."""
    views = (torch.tensor(points, dtype=torch.float32),)
    info = DataInfo("plane", ((2,),), len(points), len(centers), (-1.0, 1.0), 1.0, "ab" * 32)
    model = KMeansModel(KMeansConfig(), info, 2)
    model.centers.copy_(torch.tensor(centers))
    return frozen_surface(model, "input", None), Dataset(DataRef("plane"), info, views, None, "made up")


def context_of(dataset: Dataset, folder: Path, **fields: Any) -> Context:
    return Context(RunStore(folder), dataset, "smoke", device="cpu", threads=1, **fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certified")


@pytest.fixture(scope="module")
def record(few_digits: Dataset, folder: Path) -> Record:
    """A certificate of k-means on 300 digits."""
    return run("kmeans", few_digits, folder)[-1]


def run(model: str, dataset: Dataset, folder: Path, defense: str = "none", **settings: Any) -> list[Record]:
    overrides = {**SMALL, **settings}
    request = Request("certify", dataset.ref, model, profile="smoke", defense=defense, overrides=overrides)
    return execute(plan(request, dataset.info), context_of(dataset, folder))


def test_of_two_clusters_the_radius_tends_to_the_distance_from_the_boundary(tmp_path: Path) -> None:
    """In the units of sigma, here half of what the model sees."""
    points = np.array([[-0.1, 0.5], [0.3, -0.9], [0.02, 0.0]])
    surface, dataset = plane(points, [[-0.5, 0.0], [0.5, 0.0]])
    distance = np.abs(points[:, 0]) / UNIT
    gaps = []
    for samples in (100, 2000, 40_000):
        config = Config(sigma=0.1, samples=samples)
        found = certificates(surface, context_of(dataset, tmp_path), torch.arange(3), config=config, seed=0)
        gaps.append(distance - found.radius)
        assert (found.labels[:2] == [0, 1]).all()
    assert (np.array(gaps)[:, :2] > 0).all(), "this seed has no wrong certificate"
    assert gaps[0].max() > gaps[2].max()
    assert gaps[2].max() < 0.004
    assert found.radius[2] == pytest.approx(0.01, abs=0.004)


def attacked(surface: Surface, dataset: Dataset, radius: Any, labels: Any, draws: int = 2000) -> int:
    """How many certified points the smoothed model labels otherwise once they are moved by their radius.

    Each towards the nearest boundary of k-means, along the line between two centers.
    """
    model = surface.model
    assert isinstance(model, KMeansModel)
    centers = model.centers.numpy().astype(float)
    broken = 0
    for i, point in enumerate(dataset.views[0].numpy().astype(float)):
        if labels[i] < 0:
            continue
        normals = centers - centers[labels[i]]
        lengths = np.linalg.norm(normals, axis=1)
        others = lengths > 0
        reach = ((point - centers) ** 2).sum(1) - ((point - centers[labels[i]]) ** 2).sum()
        distance = np.where(others, reach / (2 * np.where(others, lengths, 1)), np.inf)
        nearest = int(distance.argmin())
        moved = point + 0.999 * radius[i] * UNIT * normals[nearest] / lengths[nearest]
        target = (torch.tensor(moved, dtype=torch.float32)[None],)
        counts = cluster_counts(surface, target, draws, sigma=0.1 * UNIT, random=generator(1000 + i))
        broken += int(counts.argmax()) != labels[i]
    return broken


def test_an_attack_inside_the_radius_flips_no_more_certified_points_than_alpha_allows(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    surface, dataset = plane(random.uniform(-1, 1, (60, 2)), [[-0.6, -0.4], [0.6, -0.4], [0.0, 0.7]])
    config = Config(sigma=0.1, samples=2000, alpha=0.01)
    found = certificates(surface, context_of(dataset, tmp_path), torch.arange(60), config=config, seed=0)
    certified = int((found.labels >= 0).sum())
    assert certified > 40
    allowed = stats.binom.ppf(0.999, certified, config.alpha)
    assert attacked(surface, dataset, found.radius, found.labels) <= allowed
    below = found.radius < 0.2
    inflated = np.where(below, 2 * found.radius + 0.02, 0)
    assert attacked(surface, dataset, inflated, np.where(below, found.labels, -1)) > allowed, "the attack is one"


@pytest.mark.slow
def test_the_ensemble_inside_the_radius_flips_no_more_certified_points_than_alpha_allows(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    surface, dataset = plane(random.uniform(-1, 1, (12, 2)), [[-0.6, -0.4], [0.6, -0.4], [0.0, 0.7]])
    config = Config(sigma=0.1, samples=1000, alpha=0.01)
    found = certificates(surface, context_of(dataset, tmp_path), torch.arange(12), config=config, seed=0)
    certified = np.flatnonzero(found.radius > 0)
    broken = 0
    for row in certified.tolist():
        budget = ensemble.Config(norm="l2", eps=float(0.999 * found.radius[row]), steps=5, queries=5, draws=1)
        batch = Batch((dataset.views[0][row : row + 1],), torch.tensor([row]))
        moved = ensemble.Ensemble(budget, surface).perturb(surface, batch)
        assert (moved[0] - batch.views[0]).norm() > 0.9 * found.radius[row] * UNIT
        counts = cluster_counts(surface, moved, 2000, sigma=0.1 * UNIT, random=generator(row))
        broken += int(counts.argmax()) != found.labels[row]
    assert len(certified) > 8
    assert broken <= stats.binom.ppf(0.999, len(certified), config.alpha)


def test_a_certificate_is_not_read_for_rows_that_an_attack_holds_back(
    record: Record, few_digits: Dataset, folder: Path
) -> None:
    context, spec = context_of(few_digits, folder), RunSpec.from_json(record["spec"])
    assert spec.parent is not None
    surface = frozen_surface(context.trained_model(spec.parent), "input", None)
    trial = Trial(None, surface, spec, context, context)  # type: ignore[arg-type]
    found = auditing.certificate(trial, spaced(few_digits.info.n_samples, 20).numpy())
    assert found is not None
    assert [c for c in found.labels.tolist() if c >= 0] == [int(c) for c in record["samples"]["smoothed"] if c != "-"]
    held = context.rows(np.arange(100, few_digits.info.n_samples))
    rows = spaced(held.info.n_samples, 20).numpy()
    assert auditing.certificate(dataclasses.replace(trial, held=held), rows) is None


def test_a_rows_certificate_depends_on_no_other_row(tmp_path: Path) -> None:
    points = np.random.default_rng(1).uniform(-1, 1, (6, 2))
    surface, dataset = plane(points, [[-0.5, 0.0], [0.5, 0.0]])
    context, config = context_of(dataset, tmp_path), Config(sigma=0.2, samples=100)
    together = certificates(surface, context, torch.arange(6), config=config, seed=3)
    alone = certificates(surface, context, torch.tensor([4]), config=config, seed=3)
    assert alone.radius[0] == together.radius[4]
    other = certificates(surface, context, torch.arange(6), config=config, seed=4)
    assert (other.radius != together.radius).any()


def test_noise_is_added_to_every_view_and_to_the_embedding_as_asked(pair: Dataset, tmp_path: Path) -> None:
    views = tuple(view[:3] for view in pair.views)
    model = KMeansModel(KMeansConfig(), pair.info, 2)
    seen: list[tuple[torch.Tensor, ...]] = []
    encode = model.encode
    model.encode = lambda views: (seen.append(views), encode(views))[1]  # type: ignore[method-assign]
    cluster_counts(frozen_surface(model, "input", None), views, 3, sigma=0.5, random=generator(0))
    moved = [noisy - clean for noisy, clean in zip(seen[0], views, strict=True)]
    assert [round(float(part.std()), 1) for part in moved] == [0.5, 0.5]
    assert not torch.equal(moved[0], moved[1])
    seen.clear()
    counts = cluster_counts(
        frozen_surface(model, "latent", None), (torch.zeros(1, 512),), 7, sigma=1, random=generator(0)
    )
    assert (int(counts.sum()), seen) == (7, [])


def test_the_record_says_what_was_certified_and_how(record: Record) -> None:
    found = record["certified"]
    assert {name: found[name] for name in ("sigma", "n", "n0", "alpha", "space", "rows")} == {
        "sigma": 0.25,
        "n": 200,
        "n0": 100,
        "alpha": 0.001,
        "space": "input",
        "rows": 20,
    }
    assert found["sigma_model"] == pytest.approx(0.25 * 16 * record["data"]["scale"])
    assert found["radius_cap"] == pytest.approx(0.25 * stats.norm.ppf(0.001 ** (1 / 200)))
    assert record["checks"] == {"victim_unchanged": True, "radius_cap_holds": True}
    assert isinstance(found["seed"], int)
    assert "checkpoint" not in record


def test_the_headline_figures_are_those_of_the_listed_points(record: Record) -> None:
    listed, metrics = record["samples"], record["metrics"]
    assert len(listed["clean"]) == len(listed["smoothed"]) == len(listed["radius"]) == listed["rows"] == 20
    stable = np.array([a == b for a, b in zip(listed["clean"], listed["smoothed"], strict=True)])
    radius = np.where(stable, listed["radius"], 0)
    assert metrics["certified_share"] == pytest.approx(stable.mean())
    assert metrics["abstained"] == pytest.approx(np.mean([label == "-" for label in listed["smoothed"]]))
    assert metrics["mean_radius"] == pytest.approx(radius.mean(), abs=1e-5)
    assert metrics["median_radius"] == pytest.approx(np.median(radius), abs=1e-5)
    assert metrics["certified_share_at_1s"] == pytest.approx((radius >= 0.25).mean())
    curve = record["certified"]
    assert curve["share"][0] == pytest.approx(metrics["certified_share"])
    assert curve["ACC"][0] == pytest.approx(metrics["ACC_certified"])
    for values in (curve["share"], curve["ACC"]):
        assert values == sorted(values, reverse=True)
    assert curve["radii"][0] == 0
    assert curve["radii"][-1] <= curve["radius_cap"] < curve["radii"][-1] + 1e-5
    assert all(acc <= metrics["ACC_rows"] + metrics["abstained"] + 0.2 for acc in curve["ACC"])


def test_certified_acc_is_under_the_clean_matching_of_all_rows(
    record: Record, few_digits: Dataset, folder: Path
) -> None:
    """Recomputed from the listed points with another matching routine: the best permutation by counts."""
    from sklearn.metrics.cluster import contingency_matrix

    listed = record["samples"]
    context = context_of(few_digits, folder)
    spec = RunSpec.from_json(record["spec"]["parent"])
    every = frozen_surface(context.trained_model(spec), "input", None).labels(context.placed.views).numpy()  # type: ignore[arg-type]
    from scipy.optimize import linear_sum_assignment

    table = contingency_matrix(every, few_digits.labels)
    classes = dict(zip(*linear_sum_assignment(-table), strict=True))
    right = [
        label != "-" and classes[int(label)] == int(own)
        for label, own in zip(listed["smoothed"], listed["truth"], strict=True)
    ]
    assert record["metrics"]["ACC_certified"] == pytest.approx(np.mean(right))


def test_another_sigma_is_another_run_of_the_same_model(record: Record, few_digits: Dataset) -> None:
    overrides = {**SMALL, "certify.sigma": 0.1}
    request = Request("certify", few_digits.ref, "kmeans", profile="smoke", defense="none", overrides=overrides)
    parent, asked = plan(request, few_digits.info)
    assert asked.key != record["key"]
    assert parent.to_json() == record["spec"]["parent"]


def test_without_labels_the_curve_of_stability_stands_alone(few_digits: Dataset, tmp_path: Path) -> None:
    bare = dataclasses.replace(few_digits, labels=None)
    found = run("kmeans", bare, tmp_path)[-1]
    assert found["metrics"]["certified_share"] > 0
    assert (found["metrics"]["ACC_certified"], found["metrics"]["ACC_certified_at_1s"]) == (None, None)
    assert (found["certified"]["ACC"], found["samples"]["truth"]) == (None, None)


def test_a_defended_model_is_certified_after_its_defense(few_digits: Dataset, tmp_path: Path) -> None:
    request = Request("certify", few_digits.ref, "convae", profile="smoke", defense="mutual_info", overrides=FEW)
    specs = plan(request, few_digits.info)
    assert [spec.stage for spec in specs] == ["pretrain", "cluster", "attack", "defend", "certify"]
    plain = plan(dataclasses.replace(request, defense="none"), few_digits.info)
    assert [spec.stage for spec in plain] == ["pretrain", "cluster", "certify"]
    assert specs[-1].settings == plain[-1].settings
    assert specs[-1].key != plain[-1].key
    assert specs[-1].precision == plain[-1].precision == "highest"


def test_an_embedding_is_certified_in_its_own_units(few_digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = methods.plain(methods.resolve("models", "convae", "smoke", {}))
    model = methods.new_model("convae", values, few_digits.info, 8)
    surface = frozen_surface(model.eval(), "latent", None)
    asked: list[torch.Tensor] = []
    labels = model.labels
    model.labels = lambda z: (asked.append(z), labels(z))[1]  # type: ignore[method-assign]
    config = Config(space="latent", sigma=0.5, samples=1000)
    found = certificates(surface, context_of(few_digits, tmp_path), torch.tensor([7]), config=config, seed=0)
    with torch.no_grad():
        z = model.encode((few_digits.views[0][7:8],)).z
    assert [part.shape for part in asked] == [(100, 8), (1000, 8)]
    assert float((asked[1] - z).std()) == pytest.approx(0.5, rel=0.05), "digits span 16 units of their own"
    assert found.radius.shape == (1,)


def test_a_model_that_labels_no_new_points_is_refused_before_anything_runs(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KMeansModel, "transductive", True)
    with pytest.raises(ConfigError, match=r"KMeansModel labels only the data that it was fitted on, .* no certificate"):
        plan(Request("certify", few_digits.ref, "kmeans", defense="none"), few_digits.info)


def test_a_model_that_is_not_trained_cannot_be_defended_before(few_digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="kmeans is not trained while clustering: no defense can train it on"):
        plan(Request("certify", few_digits.ref, "kmeans", defense="mutual_info"), few_digits.info)


@pytest.mark.parametrize("stage", ["certify", "cluster"])
def test_an_unknown_setting_of_a_certificate_is_refused_by_every_verb(few_digits: Dataset, stage: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown setting 'certify.sgima'. Did you mean 'certify.sigma'\?"):
        plan(Request(stage, few_digits.ref, "kmeans", defense="none", overrides={"certify.sgima": 1}), few_digits.info)


def test_the_profile_smoke_takes_fewer_draws_than_the_default() -> None:
    assert (Config().samples, Config().n0, Config().alpha, Config().sigma, Config().rows) == (
        10_000,
        100,
        0.001,
        0.25,
        1000,
    )
    small = settings.resolve(chain.certify, "smoke", {}, "certify")
    assert (small.samples, small.rows, small.sigma) == (1000, 200, 0.25)
    assert settings.resolve(chain.certify, "smoke", {"samples": 5000}, "certify").samples == 5000


class Stops(Silent):
    """Ends the run, as Ctrl-C does, at the third point."""

    def epoch(self, number: int, losses: Mapping[str, float]) -> None:
        if number == 3:
            raise KeyboardInterrupt


def test_an_interrupted_certificate_leaves_no_record_and_the_same_command_makes_it(
    record: Record, few_digits: Dataset, tmp_path: Path
) -> None:
    request = Request("certify", few_digits.ref, "kmeans", profile="smoke", defense="none", overrides=SMALL)
    specs = plan(request, few_digits.info)
    stopped = context_of(few_digits, tmp_path, progress=Stops())
    with pytest.raises(KeyboardInterrupt):
        execute(specs, stopped)
    assert not (stopped.store.path(specs[-1]) / RESULT).exists()
    again = execute(specs, context_of(few_digits, tmp_path))[-1]
    for name in ("key", "metrics", "samples", "health", "flags"):
        assert again[name] == record[name], "the same spec gives the same record"
    assert json.loads((stopped.store.path(specs[-1]) / RESULT).read_text())["key"] == record["key"]


def test_a_smoothed_model_that_loses_clusters_is_found_without_labels() -> None:
    constant = certify(np.zeros(6, dtype=int), np.full(6, 100), 100, alpha=0.001, sigma=1.0)
    health = smoothed_health(constant, np.array([0, 0, 1, 1, 2, 2]), 3)
    assert health == {"smoothed_sizes": [6, 0, 0], "smoothed_clusters_used": 1, "clusters_used_rows": 3}


def test_points_are_listed_a_character_each_with_radii_rounded_down() -> None:
    found = certify(np.array([11, 3]), np.array([100, 40]), 100, alpha=0.001, sigma=1.0)
    few = listed(found, np.array([11, 35]), None)
    assert few is not None
    assert (few["clean"], few["smoothed"], few["truth"]) == ("bz", "b-", None)
    assert few["radius"][0] <= found.radius[0] < few["radius"][0] + 1e-5
    assert listed(found, np.array([11, 36]), None) is None, "there is no character for cluster 36"
    assert characters(np.array([0, 9, 10, -1])) == "09a-"
