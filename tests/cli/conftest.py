"""Each test types its commands in an empty folder of its own, in a wide terminal, with no RC_* variable set."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("RC_")]:
        monkeypatch.delenv(name)
