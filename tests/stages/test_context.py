"""What a record says of the time that a run and those before it took."""

from dataclasses import replace
from pathlib import Path

import pytest

from robust_cluster.data.base import Dataset
from robust_cluster.runs.spec import RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages.context import Context, record
from robust_cluster.stages.loop import Summary
from tests.made import MADE


@pytest.mark.parametrize("is_first_done", [True, False])
def test_the_time_of_a_run_counts_the_runs_before_it(tmp_path: Path, digits: Dataset, is_first_done: bool) -> None:
    store = RunStore(tmp_path)
    first = RunSpec("pretrain", digits.ref, digits.info.sha256, "ae_kmeans", 10, 0)
    second = replace(first, stage="cluster", parent=first)
    third = replace(second, stage="attack", parent=second)
    for spec, seconds in ((first, 8.0), (second, 4.0)):
        if spec is second or is_first_done:
            with store.own(spec) as run:
                run.finish({**MADE, "training": {**MADE["training"], "seconds": seconds}})
    summary = Summary(epochs=1, steps=2, samples=3, stop_reason="epochs", seconds=1.5, loss=None, losses={})
    training = record(Context(store, digits, device="cpu", threads=1), third, summary)["training"]
    assert training["seconds"] == 1.5
    assert training["total_seconds"] == (13.5 if is_first_done else None)
