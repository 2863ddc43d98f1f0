"""The robustness curve of one attack or reattack: scores and flips against the radius, as a figure, CSV or JSON."""

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

from robust_cluster.measure.metric import WHOLE, Metric
from robust_cluster.report.canvas import NARROWEST, style
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
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's


def draw(record: Record) -> "Figure":
    """The figure: left the scores under the worst attack, where there are labels; right the flips by each attack."""
    lines: Sequence[Mapping[str, Any]] = record["radii"]
    names = [name for name in SCORES if any(line[name] is not None for line in lines)]
    attacks = list(dict.fromkeys(line["attack"] for line in lines))
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(NARROWEST, 3.8), layout="constrained")
        panels = figure.subplots(1, 2 if names else 1, squeeze=False)[0]
        for name, color in zip(names, cycle(COLORS), strict=False):
            points = [(line["eps"], line[name]) for line in lines if line["attack"] == WHOLE]
            plot(panels[0], points, SCORES[name], color, "-")
        for number, (attack, color) in enumerate(zip(attacks, cycle(COLORS), strict=False)):
            points = [(line["eps"], line[FLIP]) for line in lines if line["attack"] == attack]
            label = "worst of all" if attack == WHOLE else attack
            plot(panels[-1], points, label, "#000000" if attack == WHOLE else color, ("--", ":", "-.")[number % 3])
        if names:
            panels[0].set_ylabel("score under the worst attack (%)")
        panels[-1].set_ylabel("samples that change cluster (%)")
        for axes in panels:
            axes.set(xlabel=unit(record), ylim=(-2, 102), yticks=range(0, 101, 20))
            axes.legend(frameon=False, fontsize=7)
        found = record["metrics"]
        figure.suptitle(
            f"{title(RunSpec.from_json(record['spec']))}\n{found['samples']:,} samples", fontsize=9, x=0.02, ha="left"
        )
    return figure


def plot(axes: "Axes", points: Sequence[tuple[float, float]], label: str, color: str, line: str) -> None:
    """Draw one curve in percent over the radii."""
    radii, values = zip(*points, strict=True)
    axes.plot(
        radii, [100 * value for value in values], line, color=color, marker=".", label=label, clip_on=False, lw=1.2
    )


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
