"""What is logged of a model while it trains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robust_cluster.data.base import Dataset
from robust_cluster.measure import scores as measured
from robust_cluster.measure.scores import Watch, attacked_scores, embed, hard_neighbors, labeled, scores
from robust_cluster.measure.training_curve import fixed_rows
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import methods
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context


def test_the_label_change_is_the_share_that_changed_cluster(few_digits: Dataset) -> None:
    torch.manual_seed(0)
    values = methods.plain(methods.resolve("models", "kmeans", "smoke", {}))
    model = methods.new_model("kmeans", values, few_digits.info, 6)
    model.start("cluster", lambda: embed(model, few_digits.views), 0)
    watch = Watch(model, few_digits.views)
    assert watch()["label_change"] is None
    assert watch()["label_change"] == 0.0
    before = model.labels(few_digits.views[0])
    model.get_buffer("centers")[3:] = model.get_buffer("centers")[3:].roll(1, dims=0)
    share = (before != model.labels(few_digits.views[0])).float().mean().item()
    assert watch()["label_change"] == pytest.approx(share) != 0


@pytest.mark.parametrize("model", ["vae_kmeans", "lpvdn"])
def test_labels_that_only_the_end_gives_have_no_label_change(few_digits: Dataset, tmp_path: Path, model: str) -> None:
    settings = {"model.hidden": [16], "model.cluster.epochs": 3}
    specs = plan(Request("cluster", few_digits.ref, model, overrides=settings, profile="smoke"), few_digits.info)
    context = Context(RunStore(tmp_path), few_digits, "smoke", device="cpu")
    record = execute(specs, context)[-1]
    with context.store.own(specs[-1]) as run:
        changes = [line["health"]["label_change"] for line in run.lines()]
    assert changes == [None] * 3
    assert record["health"]["label_change"] is None
    assert record["health"]["clusters_used"] > 1


def test_the_label_change_of_a_record_is_the_one_that_training_stops_by(few_digits: Dataset, tmp_path: Path) -> None:
    settings = {"model.hidden": [16], "model.pretrain.epochs": 1, "model.cluster.epochs": 3}
    specs = plan(Request("cluster", few_digits.ref, "dec", overrides=settings, profile="smoke"), few_digits.info)
    record = execute(specs, Context(RunStore(tmp_path), few_digits, "smoke", device="cpu"))[-1]
    assert record["health"]["label_change"] == record["health"]["labels_changed"]


def test_rows_without_a_label_are_left_out_of_every_score() -> None:
    labels, clean, moved = np.array([0, 1, 1, 0]), np.array([1, 0, 0, 1]), np.array([1, 0, 1, 1])
    more = [np.append(one, extra) for one, extra in zip((labels, clean, moved), (-1, 0, 1), strict=True)]
    assert scores(more[0], more[1], 2) == scores(labels, clean, 2)
    assert attacked_scores(*more, 2) == attacked_scores(labels, clean, moved, 2)
    assert attacked_scores(*more, 2)["ACC*"] == 0.75
    for found in (scores(labels * 0 - 1, clean, 2), attacked_scores(labels * 0 - 1, clean, moved, 2)):
        assert set(found.values()) == {None}


def test_rows_for_certificates_audits_and_curves_have_a_label(few_digits: Dataset) -> None:
    index, labels = torch.tensor([0, 2, 3]), np.array([1, 0, -1, 0])
    assert labeled(index, labels).tolist() == [0, 3]
    assert labeled(index, None) is index
    assert labeled(index, abs(labels)) is index
    assert few_digits.labels is not None
    some = replace(few_digits, labels=np.where(few_digits.labels > 5, -1, few_digits.labels))
    assert some.labels is not None
    assert fixed_rows(some).tolist() == [row for row in fixed_rows(few_digits).tolist() if some.labels[row] >= 0]


def test_hard_neighbors_are_those_of_samples_that_look_like_another_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nearest each. By pixels one alone, at 11.5, has both of another class; an embedding puts it near its own."""
    monkeypatch.setattr(measured, "NEAREST", 2)
    labels = np.array([0, 0, 0, 1, 1, 1, 0])
    pixels = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.2], [11.5]])
    assert hard_neighbors(pixels, pixels, labels) == 0
    for place, share in ((0.4, 1.0), (6.0, 0.5)):
        points = pixels.clone()
        points[6] = place
        assert hard_neighbors(points, pixels, labels) == share
    assert hard_neighbors(pixels[:6], pixels[:6], labels[:6]) is None, "nothing looks like another class"
    assert hard_neighbors(pixels, pixels, None) is None
    labels[6] = -1
    assert hard_neighbors(pixels, pixels, labels) is None, "a sample whose class is not known is no query"


def test_a_record_has_the_hard_neighbors_of_what_is_clustered(few_digits: Dataset, tmp_path: Path) -> None:
    settings = {"model.hidden": [16], "model.cluster.epochs": 1, "model.pretrain.epochs": 1}
    request = Request("cluster", few_digits.ref, "lpvdn", 6, profile="smoke", overrides=settings)
    specs = plan(request, few_digits.info)
    context = Context(RunStore(tmp_path), few_digits, "smoke", device="cpu", threads=1)
    found = execute(specs, context)[-1]["metrics"]["hard_neighbors"]
    model = context.trained_model(specs[-1]).eval()
    with torch.no_grad():
        s = model.get_submodule("f_lp")(embed(model, few_digits.views).z)
    x = few_digits.views[0]
    assert isinstance(x, torch.Tensor)
    assert found == pytest.approx(hard_neighbors(s, x, few_digits.labels), abs=0.02)
    assert found is not None
