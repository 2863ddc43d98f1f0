"""Synthetic run records: real specs with their whole lineage, made-up numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robust_cluster.report.spec import TableSpec, load_spec
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.made import MADE

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
def load_toy(folder: Path) -> Callable[..., TableSpec]:
    """load_toy(old=new, ...) is the toy table with pieces of its text replaced."""

    def load(*changes: tuple[str, str]) -> TableSpec:
        text = TOY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "toy.toml").write_text(text, encoding="utf-8")
        return load_spec("toy", folder)

    return load


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    return make_record


def make_record(
    stage: str = "attack",
    *,
    metrics: dict[str, float | None] | None = None,
    flags: tuple[str, ...] = (),
    loss: float = 1.0,
    profile: str = "smoke",
    n_views: int = 1,
    **choices: Any,
) -> dict[str, Any]:
    """A run's record; choices: data, model, latent_dim, seed, attack_seed, mode, gamma (own), met_gamma (chain)."""
    spec = chain(stage, **choices)
    return {
        "key": spec.key,
        "spec": spec.to_json(),
        "profile": profile,
        "data": {**MADE["data"], "shapes": [[3, 96, 96]] * n_views},
        "metrics": metrics or {},
        "flags": list(flags),
        "training": {**MADE["training"], "loss": loss},
    }


def chain(
    stage: str,
    *,
    attack_seed: int = 0,
    mode: str = "frozen",
    gamma: float = 40.0,
    met_gamma: float = 40.0,
    **choices: Any,
) -> RunSpec:
    base: dict[str, Any] = {
        "data": DataRef("stl10"),
        "data_sha256": "0",
        "model": "convae",
        "latent_dim": 64,
        "seed": 0,
        **choices,
    }
    cluster = RunSpec(stage="cluster", settings={"model": {"lr": 1e-3}}, **base)

    def attack(name: Any, weight: float, parent: RunSpec) -> RunSpec:
        own: dict[str, Any] = {"attack": "latent_net", "attack_seed": attack_seed if name == "reattack" else 0}
        return RunSpec(stage=name, settings={"attack": {"gamma": weight}}, parent=parent, **own, **base)

    if stage == "cluster":
        return cluster
    if stage == "attack":
        return attack("attack", gamma, cluster)
    met = attack("attack", met_gamma, cluster)
    defend = RunSpec(stage="defend", settings={"defense": {"mode": mode}}, defense="mutual_info", parent=met, **base)
    return defend if stage == "defend" else attack("reattack", gamma, defend)
