"""What every test of the stages needs: runs in a temporary folder."""

from pathlib import Path

import pytest

from robust_cluster.runs.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")
