"""A toy table in a folder of its own, and its grid from made-up records."""

from pathlib import Path
from typing import Any

import pytest

from robust_cluster.report.grid import Grid
from robust_cluster.report.spec import TableSpec, load_spec
from robust_cluster.report.table import build
from tests.report.toy import Load, Table

TOY = """
title = "Toy"
source = "Nobody & Co., 2020"
stage = "attack"
attack = "latent_net"
defense = "mutual_info"
statistic = "mean±std"
rows = ["data", "method", "metric"]
columns = ["latent_dim"]

[axes]
data = ["stl10", "digits"]
latent_dim = [64, 128]
seed = [0, 1]
attack_seed = [0, 1, 2]

[[methods]]
label = "{model}"
models = ["kmeans", "convae"]

[[cells]]
label = "ACC"
values = ["ACC", "ACC*"]
scale = 100

[[cells]]
label = "D"
values = ["D"]
digits = 2

[profile.smoke]

[profile.one]
seed = [0]
"""
PUBLISHED = """data,model,latent_dim,metric,value,notes
stl10,ConvAE,64,ACC,84.7,
stl10,ConvAE,64,ACC*,78.1,
stl10,ConvAE,64,D,,illegible
stl10,ConvAE,128,ACC,81.2,
"""
LABELS = """
[model]
convae = "ConvAE"
[data]
stl10 = "STL-10"
[symbol]
latent_dim = "d"
"attack.gamma" = "γ"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.toml").write_text(TOY, encoding="utf-8")
    (tmp_path / "toy.published.csv").write_text(PUBLISHED, encoding="utf-8")
    (tmp_path / "labels.toml").write_text(LABELS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def load_toy(folder: Path) -> Load:
    """load_toy((old, new), ...) is the toy table with pieces of its text replaced."""

    def load(*changes: tuple[str, str]) -> TableSpec:
        text = TOY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "toy.toml").write_text(text, encoding="utf-8")
        return load_spec("toy", folder)

    return load


@pytest.fixture
def table(load_toy: Load) -> Table:
    """table(records, (old, new), ...) is the grid of the toy table with pieces of its text replaced."""

    def built(records: list[dict[str, Any]], *changes: tuple[str, str], profile: str = "smoke", **choices: Any) -> Grid:
        return build(load_toy(*changes), records, profile=profile, **choices)

    return built
