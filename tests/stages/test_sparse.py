"""Runs on sparse data have the numbers of runs on the same data dense, and never see them dense as a whole."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from robust_cluster.data.base import Dataset
from robust_cluster.data.sparse import SparseView, canonical, view_of
from robust_cluster.errors import DataError
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import chain
from robust_cluster.stages.chain import Request
from robust_cluster.stages.context import Context

QUICK: dict[str, Any] = {
    "model.pretrain.epochs": 2,
    "model.pretrain.steps_per_epoch": 3,
    "model.hidden": [16],
    "model.n_init": 2,
}


@pytest.fixture
def sparse(few_digits: Dataset) -> Dataset:
    (x,) = few_digits.views
    assert isinstance(x, torch.Tensor)
    return replace(few_digits, views=(view_of(canonical(scipy.sparse.csr_array(x.numpy()))),))


def record(dataset: Dataset, store: RunStore, model: str, overrides: dict[str, Any], *, stage: Any = "cluster") -> Any:
    request = Request(
        stage=stage, data=dataset.ref, model=model, latent_dim=5, seed=0, profile="smoke", overrides=overrides
    )
    context = Context(store, dataset, "smoke", threads=1, curve=True)
    return chain.execute(chain.plan(request, dataset.info), context)[-1]


@pytest.fixture
def widest(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The most rows that were dense at once, so far."""
    most = [0]
    plain = SparseView.__getitem__

    def watched(self: SparseView, rows: Any) -> torch.Tensor:
        dense = plain(self, rows)
        most[0] = max(most[0], len(dense))
        return dense

    monkeypatch.setattr(SparseView, "__getitem__", watched)
    return most


def test_an_autoencoder_has_the_numbers_of_the_dense_data(
    tmp_path: Path, few_digits: Dataset, sparse: Dataset, widest: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_cluster.measure.scores.PORTION", 70)
    monkeypatch.setattr("robust_cluster.measure.scores.PROBE", 90)
    found, expected = (
        record(dataset, RunStore(tmp_path / name), "ae_kmeans", QUICK)
        for name, dataset in (("sparse", sparse), ("dense", few_digits))
    )
    assert found["metrics"] == expected["metrics"]
    assert found["health"] == expected["health"]
    assert 0 < widest[0] < len(few_digits.views[0])


def test_kmeans_on_the_data_never_makes_them_dense(
    tmp_path: Path, few_digits: Dataset, sparse: Dataset, widest: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_cluster.measure.scores.PORTION", 70)
    monkeypatch.setattr("robust_cluster.measure.scores.PROBE", 90)
    found, expected = (
        record(dataset, RunStore(tmp_path / name), "kmeans", {})
        for name, dataset in (("sparse", sparse), ("dense", few_digits))
    )
    assert found["metrics"]["ACC"] == pytest.approx(expected["metrics"]["ACC"], abs=0.03)
    assert sorted(found["health"]["cluster_sizes"]) == pytest.approx(sorted(expected["health"]["cluster_sizes"]), abs=9)
    for name in ("active_dims", "embedding_norm", "entropy_of_mean"):
        assert found["health"][name] == pytest.approx(expected["health"][name], rel=0.01)
    assert 0 < widest[0] <= 90


@pytest.mark.parametrize("model", ["kmeans", pytest.param("gmm", marks=pytest.mark.slow)])
def test_an_attack_on_the_embedding_runs_on_sparse_data(tmp_path: Path, sparse: Dataset, model: str) -> None:
    few = {"attack.schedule.epochs": 1, "model.n_init": 1}
    found = record(sparse, RunStore(tmp_path), model, few, stage="attack")
    assert np.isfinite(found["metrics"]["flip"])


def test_an_embedding_that_memory_cannot_hold_gets_one_sentence(
    tmp_path: Path, sparse: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_cluster.measure.scores.PORTION", 70)
    monkeypatch.setattr("robust_cluster.data.formats.memory.available", lambda: 2**16)
    with pytest.raises(DataError, match=r"300 samples needs 0\.15 MiB of memory, 0\.062 MiB are available \(--limit"):
        record(sparse, RunStore(tmp_path), "gmm", {"model.n_init": 1})
