"""The robustness curve of one attack or reattack: scores and flips against the radius, as a figure, CSV or JSON."""

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

from robust_cluster.measure.metric import WHOLE, Metric
from robust_cluster.report.canvas import COLORS, NARROWEST, PERCENT, panels
from robust_cluster.report.formats import csv_of
from robust_cluster.report.run_figures import title
from robust_cluster.runs.spec import RunSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
SCORES = {  # metric of a line -> its label
    str(Metric("ACC", "attack")): "ACC, matched anew",
    str(Metric("ACC", "attack", matching="clean")): "ACC, clean matching",
    str(Metric("NMI", "attack")): "NMI",
    str(Metric("ARI", "attack")): "ARI",
}
FLIP = str(Metric("flip", "attack"))


def draw(record: Record) -> "Figure":
    """The figure: left the scores under the worst attack, where there are labels; right the flips by each attack."""
    lines: Sequence[Mapping[str, Any]] = record["radii"]
    names = [name for name in SCORES if any(line[name] is not None for line in lines)]
    attacks = list(dict.fromkeys(line["attack"] for line in lines))
    heading = f"{title(RunSpec.from_json(record['spec']))}\n{record['metrics']['samples']:,} samples"
    with panels(heading, 2 if names else 1, (NARROWEST / 2, 3.8)) as (figure, axes):
        for name, color in zip(names, COLORS, strict=False):
            plot(axes[0], lines, WHOLE, name, label=SCORES[name], color=color)
        for attack, color, dash in zip(attacks, cycle(COLORS), cycle(("--", ":", "-.")), strict=False):
            label, shade = ("worst of all", "#000000") if attack == WHOLE else (attack, color)
            plot(axes[-1], lines, attack, FLIP, label=label, color=shade, linestyle=dash)
        if names:
            axes[0].set_ylabel("score under the worst attack (%)")
        axes[-1].set_ylabel("samples that change cluster (%)")
        for panel in axes:
            panel.set(xlabel=unit(record), **PERCENT)
            panel.legend(frameon=False, fontsize=7)
    return figure


def plot(axes: "Axes", lines: Sequence[Mapping[str, Any]], attack: str, name: str, **more: Any) -> None:
    """Draw one metric under one attack in percent over the radii; `more` is matplotlib's."""
    radii, values = zip(*((line["eps"], 100 * line[name]) for line in lines if line["attack"] == attack), strict=True)
    axes.plot(radii, values, marker=".", clip_on=False, lw=1.2, **more)


def unit(record: Record) -> str:
    """What the radius is measured in, e.g. "L∞ radius in pixels"."""
    threat = record["threat"]
    ball = {"linf": "L∞", "l2": "L2"}[threat["norm"]]
    where = "of the embedding" if threat["space"] == "latent" else "in pixels" if threat["box"] else "of the input"
    return f"{ball} radius {where}"


def write(record: Record, form: Literal["csv", "json"]) -> str:
    """The curve as text, a row per radius and attack: eps, attack, the scores, flips and gain."""
    rows = [{"eps": line["eps"], "attack": line["attack"], **line} for line in record["radii"]]
    return json.dumps(rows, indent=1) + "\n" if form == "json" else csv_of(rows)
