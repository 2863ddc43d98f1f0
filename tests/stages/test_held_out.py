"""Models of data with a split train on the first part alone, and are scored on what was kept from them too."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.errors import ConfigError
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context

ORDER = np.arange(60) % 2  # 40 rows at 0 and 10, then 10 that nobody sees, then 10 at 1 and 11


@pytest.fixture
def context(tmp_path: Path) -> Context:
    base = ORDER * 10.0 + np.repeat([0.0, 500.0, 1.0], [40, 10, 10])
    labels = ORDER.copy()
    labels[-3:] = 1 - labels[-3:]
    np.savez(tmp_path / "mine.npz", x=np.stack([base, base], axis=1), y=labels)
    data = load(DataRef("mine", normalize="none", split="40/10"), Folders(data_dir=tmp_path))
    return Context(RunStore(tmp_path / "runs"), data, "smoke", device="cpu")


def test_kmeans_of_the_first_rows_labels_the_last_ones_by_its_own_centres(context: Context) -> None:
    specs = plan(Request("cluster", context.dataset.ref, "kmeans", profile="smoke"), context.info)
    record = execute(specs, context)[-1]
    centers = context.trained_model(specs[-1]).get_buffer("centers")
    assert torch.equal(centers.sort(dim=0).values, torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    assert record["data"]["n_samples"] == 40
    assert (record["metrics"]["ACC"], record["metrics"]["ACC_held"]) == (1.0, 0.7)


def test_an_attack_is_on_the_rows_that_were_kept(context: Context) -> None:
    overrides = {"attack.rows": 10, "attack.norm": "linf", "attack.eps": 1.0}
    request = Request("attack", context.dataset.ref, "kmeans", attack="noise", profile="smoke", overrides=overrides)
    metrics = execute(plan(request, context.info), context)[-1]["metrics"]
    assert (metrics["samples"], metrics["ACC"]) == (10, 0.7)


def test_there_must_be_as_many_rows_to_train_on_as_clusters(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.eye(6), y=np.arange(6) % 3)
    with pytest.raises(ConfigError, match=r"n_clusters must be in \[2, samples of each part\] = \[2, 2\], got 3"):
        load(DataRef("mine", split="2/4"), Folders(data_dir=tmp_path))


def test_rows_in_order_of_class_are_not_divided(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.eye(9), y=np.arange(9) // 3)
    message = "the rows of mine that models would train on have 2 of its 3 classes"
    with pytest.raises(ConfigError, match=message) as caught:
        load(DataRef("mine", split="6/3"), Folders(data_dir=tmp_path))
    assert caught.value.hint == "shuffle the rows of the file, or --split none"
    assert load(DataRef("mine", split="6/3", n_clusters=2), Folders(data_dir=tmp_path)).info.n_clusters == 2


def test_a_part_too_small_for_a_batch_can_be_attacked(digits: Dataset, tmp_path: Path) -> None:
    data = replace(digits, ref=replace(digits.ref, split="1700/12"))
    context = Context(RunStore(tmp_path), data, "smoke", device="cpu")
    few = {"model.pretrain.epochs": 1, "model.cluster.epochs": 1, "attack.norm": "linf", "attack.eps": 0.1}
    request = Request("attack", data.ref, "lpvdn", attack="noise", latent_dim=4, profile="smoke", overrides=few)
    assert execute(plan(request, data.info), context)[-1]["metrics"]["samples"] == 12


def test_labels_that_only_training_rows_have_are_scored_beside_the_models(digits: Dataset, tmp_path: Path) -> None:
    few = {"model.pretrain.epochs": 1, "model.cluster.epochs": 2, "model.hidden": [16]}
    context = Context(RunStore(tmp_path), digits, "smoke", device="cpu")
    request = Request("cluster", digits.ref, "dc_gmm", latent_dim=4, profile="smoke", overrides=few)
    record = execute(plan(request, digits.info), context)[-1]
    metrics = record["metrics"]
    assert {name for name in metrics if name.endswith("_training")} == {"ACC_training", "NMI_training", "ARI_training"}
    assert (metrics["ACC_training"] != metrics["ACC"]) == (record["health"]["label_agreement"] < 1)
