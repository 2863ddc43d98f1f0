"""Gaussian noise on the data: its size, that nothing bounds it, and what the record of a run under it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_cluster.attacks.base import Surface
from robust_cluster.attacks.gaussian_pollution import Config, GaussianPollution
from robust_cluster.data.base import Batch, Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.measure.scores import embed
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context


@pytest.fixture(scope="module")
def few() -> Dataset:
    """200 digits as vectors, whose values have no bounds."""
    return load(DataRef("digits", limit=200), Folders())


def surface_of(data: Dataset) -> Surface:
    torch.manual_seed(0)
    model = methods.new_model("kmeans", {"n_init": 1}, data.info, 6)
    model.start("cluster", lambda: embed(model, data.views), seed=0)
    return Surface(model.eval(), "input")


def polluted(data: Dataset, folder: Path, sigma: float) -> dict[str, Any]:
    """The record of an attack on k-means."""
    context = Context(RunStore(folder), data, "smoke", device="cpu", threads=1)
    settings = {"model.n_init": 1, "attack.sigma": sigma}
    asked = Request("attack", data.ref, "kmeans", attack="gaussian_pollution", profile="smoke", overrides=settings)
    return execute(plan(asked, data.info), context)[-1]


def test_every_value_moves_by_a_normal_draw_of_deviation_sigma() -> None:
    data = load(DataRef("digits"), Folders())
    batch = Batch(data.views, torch.arange(data.info.n_samples))
    torch.manual_seed(0)
    (moved,) = GaussianPollution(Config(sigma=0.3), surface_of(data)).perturb(surface_of(data), batch)
    delta = (moved - data.views[0]).flatten() / data.info.unit  # sigma is a share of the range of a digit's values
    assert data.info.unit == pytest.approx(16 * data.info.scale)
    assert delta.mean().item() == pytest.approx(0, abs=0.005)
    assert delta.std().item() == pytest.approx(0.3, rel=0.01)
    assert (delta.abs() < 0.3).float().mean().item() == pytest.approx(0.6827, abs=0.005)
    assert torch.corrcoef(torch.stack([delta[:-1], delta[1:]]))[0, 1].abs() < 0.02


def test_pixels_are_not_clipped(pair: Dataset) -> None:
    data = replace(pair, info=replace(pair.info, shapes=pair.info.shapes[:1]), views=pair.views[:1])
    attack, batch = GaussianPollution(Config(sigma=0.5), surface_of(data)), Batch(data.views, torch.arange(200))
    assert data.info.bounds == (0, 1)
    (moved,) = attack.budget.clip(batch.views, attack.perturb(surface_of(data), batch))
    assert moved.min() < -0.5
    assert moved.max() > 1.5
    assert (attack.budget.norm, attack.budget.eps, attack.budget.bounds) == (None, 0.5, None)


def test_every_view_has_noise_of_its_own(pair: Dataset) -> None:
    batch = Batch((pair.views[0], pair.views[0]), torch.arange(200))
    first, second = GaussianPollution(Config(sigma=0.5), surface_of(pair)).perturb(surface_of(pair), batch)
    assert not torch.equal(first, second)


def test_the_record_has_clusters_fitted_anew_and_the_clean_models_on_data_without_bounds(
    few: Dataset, tmp_path: Path
) -> None:
    assert few.info.bounds is None
    record = polluted(few, tmp_path, 0.8)
    found = record["metrics"]
    assert (found["eps"], found["samples"]) == (pytest.approx(0.8), 200)
    assert found["delta_norm"] == pytest.approx(0.8 * few.info.unit * 8, rel=0.02)  # of 64 values
    assert found["ACC*"] < found["ACC"]
    assert found["ACC*_clean_map"] <= found["ACC*"]
    assert 0 < found["ACC*_refit"] < found["ACC_refit"]
    assert not {"noise_flip", "pgd_flip", "ACC*_noise"} & found.keys(), "noise needs no noise beside it"
    assert record["flags"] == []
    assert record["checks"] == {"victim_unchanged": True}


@pytest.mark.slow
def test_a_run_is_the_same_every_time_and_sigma_scales_one_draw(few: Dataset, tmp_path: Path) -> None:
    first, again = (polluted(few, tmp_path / name, 1.0) for name in ("a", "b"))
    assert first["metrics"] == again["metrics"]
    double = polluted(few, tmp_path / "a", 2.0)
    assert double["metrics"]["delta_norm"] == pytest.approx(2 * first["metrics"]["delta_norm"], rel=1e-5)
    assert double["key"] != first["key"]


def test_without_noise_nothing_changes(few: Dataset, tmp_path: Path) -> None:
    found = polluted(few, tmp_path, 0.0)["metrics"]
    assert found["flip"] == found["delta_norm"] == 0
    assert found["ACC*"] == found["ACC*_clean_map"] == found["ACC"]


def test_without_labels_the_scores_are_none(few: Dataset, tmp_path: Path) -> None:
    record = polluted(replace(few, labels=None), tmp_path, 1.0)
    found = record["metrics"]
    assert {found[name] for name in ("ACC*", "ACC*_refit", "ACC*_clean_map")} == {None}
    assert 0 < found["flip"] < 1
    assert record["flags"] == []


def test_models_of_several_views_are_polluted_too(pair: Dataset, tmp_path: Path) -> None:
    found = polluted(pair, tmp_path, 0.3)["metrics"]
    assert found["delta_norm"] == pytest.approx(0.3 * (2 * 256) ** 0.5, rel=0.05)
