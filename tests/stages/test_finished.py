"""What is made anew from a finished run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robust_cluster.errors import StoreError
from robust_cluster.runs.progress import Silent
from robust_cluster.runs.spec import DataRef, RunSpec
from robust_cluster.runs.store import RunStore
from robust_cluster.stages import auditing, finished
from tests.made import MADE


def test_an_audit_owns_the_run_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    spec = RunSpec("attack", DataRef("digits"), "ab" * 32, "graph", latent_dim=64, seed=0, attack="pgd")
    with store.own(spec) as run:
        run.finish(MADE)

    def work(*given: Any) -> list[dict[str, Any]]:
        with pytest.raises(StoreError, match="is being run by process"), store.own(spec, wait=False):
            pass
        return []

    monkeypatch.setattr(finished, "trial", lambda spec, context: None)
    monkeypatch.setattr(auditing, "findings", work)
    context: Any = SimpleNamespace(store=store, progress=Silent())
    assert finished.audit(spec, context) == []
    assert (store.record(spec) or {})["audit"] == []
