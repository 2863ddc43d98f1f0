"""What the tests of tables share: made-up records of real specs and their lineage, and how grids and lines are read."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from robust_cluster.report.formats import render
from robust_cluster.report.grid import Grid, Value
from robust_cluster.report.spec import TableSpec
from robust_cluster.runs.spec import DataRef, RunSpec
from tests.made import MADE

Load = Callable[..., TableSpec]
Table = Callable[..., Grid]


def value(grid: Grid, cell: str = "ACC", metric: str = "ACC*") -> Value:
    """A number of ConvAE on STL-10 at d = 64."""
    values = grid.cells[("STL-10", "ConvAE", cell), ("64",)].values
    return next(value for value in values if str(value.metric) == metric)


def flags_of(grid: Grid) -> tuple[str, ...]:
    """The flags of ConvAE's ACC on STL-10 at d = 64."""
    return grid.cells[("STL-10", "ConvAE", "ACC"), ("64",)].flags


def text(grid: Grid, format: str = "markdown") -> str:
    rendered = render(grid, format)
    assert isinstance(rendered, str)
    return rendered


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> x and y of the lines of a panel."""
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.get_lines()
    }


def record(
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
