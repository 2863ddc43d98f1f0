"""A clustering that would take more memory than there is: recorded as such, tried again, and no model for others."""

from typing import Any

import pytest

from robust_cluster.data.base import Dataset
from robust_cluster.data.formats import memory
from robust_cluster.errors import OutOfMemory
from robust_cluster.runs.record import checked
from robust_cluster.runs.store import RESULT, RunStore
from robust_cluster.stages.chain import Request, execute, plan
from robust_cluster.stages.context import Context

METHODS = ("agglomerative", "spectral", "rbf_kmeans", "ssc_omp", "ensc", "ae_finch")
KERNEL = 4 * 300 * (300 + 3 * 10)  # bytes of 300 samples' kernel and of what assigns them


def clustered(dataset: Dataset, store: RunStore, model: str = "rbf_kmeans", **settings: Any) -> dict[str, Any]:
    overrides = {f"model.{name}": value for name, value in settings.items()}
    specs = plan(Request("cluster", dataset.ref, model, 6, profile="smoke", overrides=overrides), dataset.info)
    record = execute(specs, Context(store, dataset, "smoke", device="cpu", threads=1))[-1]
    return checked(record, store.path(specs[-1]) / RESULT)


@pytest.mark.parametrize("model", METHODS)
def test_a_method_beyond_its_bound_is_recorded_without_scores_and_with_what_it_needs(
    model: str, few_digits: Dataset, store: RunStore
) -> None:
    quick = {"pretrain.epochs": 1} if model == "ae_finch" else {}
    record = clustered(few_digits, store, model, memory=1e-4, **quick)
    assert record["flags"] == ["out of memory"]
    assert record["memory"]["available"] == int(1e-4 * 2**30)
    assert record["memory"]["needed"] > record["memory"]["available"]
    assert set(record["metrics"].values()) == {None}
    assert (record["training"], record["health"], "checkpoint" in record) == (None, {}, False)
    assert record["data"]["n_samples"] == 300


def test_the_estimate_is_of_the_rows_that_it_is_fitted_on(few_digits: Dataset, store: RunStore) -> None:
    assert clustered(few_digits, store, memory=1e-4)["memory"]["needed"] == KERNEL


def test_without_a_bound_what_the_machine_has_left_counts(
    few_digits: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: KERNEL - 1)
    assert clustered(few_digits, store)["memory"] == {"needed": KERNEL, "available": KERNEL - 1}
    assert clustered(few_digits, store, memory=1.0)["memory"]["available"] == KERNEL - 1, "the less of both"
    monkeypatch.setattr(memory, "available", lambda: KERNEL)
    record = clustered(few_digits, store)  # the same run: it is tried again
    assert "memory" not in record
    assert record["metrics"]["ACC"] > 0.3
    monkeypatch.setattr(memory, "available", lambda: 0)
    assert clustered(few_digits, store) == record, "what is done is done"


def test_where_the_system_does_not_tell_its_memory_nothing_is_refused(
    few_digits: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: None)
    assert clustered(few_digits, store)["flags"] == []


def test_a_stage_after_it_says_why_there_is_no_model(
    few_digits: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"attack.steps": 1, "attack.rows": 5}
    request = Request("attack", few_digits.ref, "kmeans", attack="pgd", profile="smoke", overrides=overrides)
    from robust_cluster.models.shallow.kmeans import KMeansModel

    def start(*_: Any, **__: Any) -> None:
        raise OutOfMemory("kmeans", 3 * 2**30, 2**30)

    monkeypatch.setattr(KMeansModel, "start", start)
    said = r"kmeans on digits.* needs 3.0 GiB of memory, 1.0 GiB are available \(--limit"
    with pytest.raises(OutOfMemory, match=said):
        execute(plan(request, few_digits.info), Context(store, few_digits, "smoke", device="cpu"))
