"""What is logged of a model while it trains."""

from pathlib import Path

import pytest
import torch

from robust_cluster.data.base import Dataset
from robust_cluster.measure.scores import Watch, embed
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
