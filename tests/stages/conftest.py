"""What every test of the stages needs: the digits, and a chain of runs in a temporary folder."""

from pathlib import Path

import pytest

from robust_cluster.data.base import Dataset, Folders
from robust_cluster.data.prepare import load
from robust_cluster.runs.spec import DataRef
from robust_cluster.runs.store import RunStore


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load(DataRef("digits"), Folders())


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    return load(DataRef("digits", limit=300), Folders())


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")
