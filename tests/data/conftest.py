"""Folders of a test's own, and a network that is not there."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from robust_cluster.data import sources
from robust_cluster.data.base import Folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """An empty --data-dir; a cache and a system's folder that are not there."""
    (tmp_path / "data").mkdir()
    return Folders(tmp_path / "data", tmp_path / "cache", system=(tmp_path / "system",))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(sources, "urlopen", refuse)
