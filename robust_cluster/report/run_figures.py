"""Figures of a run: what an attack did to images or to what is decoded of its embedding, how far it got after each
epoch or at each radius, and what a certificate shows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robust_cluster.errors import ConfigError, RobustClusterError
from robust_cluster.measure.metric import WHOLE, Metric
from robust_cluster.report import canvas
from robust_cluster.report.canvas import CELL, GAP, NARROWEST, PERCENT, Pixels
from robust_cluster.report.formats import csv_of
from robust_cluster.runs.spec import RunSpec
from robust_cluster.stages.settings import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robust_cluster.measure.images import Sheet
    from robust_cluster.measure.portraits import Decodings

Record = Mapping[str, Any]
BETWEEN = 0.2  # inches between two views
SIZE = (NARROWEST / 2, 3.4)  # inches of a panel
LEFT, RIGHT, TOP, BOTTOM = 1.5, 0.15, 0.85, 0.55  # inches around all images
SCORES = {  # metric of a line -> its label
    str(Metric("ACC", "attack")): "ACC, matched anew",
    str(Metric("ACC", "attack", matching="clean")): "ACC, clean matching",
    str(Metric("NMI", "attack")): "NMI",
    str(Metric("ARI", "attack")): "ARI",
}
SYMBOLS = {"gamma": "γ", "eps": "ε"}  # setting of an attack -> how a row of decodings writes it
FLIP = str(Metric("flip", "attack"))
ATTACK, NOISE, PGD = "#0072b2", "#7f7f7f", "#d55e00"  # told apart also without red and green


@dataclass(frozen=True)
class Panel:
    """One metric over the attack's epochs, in [0, 1]: where it starts, and what noise and PGD do beside the attack."""

    title: str
    metric: Metric
    start: float
    noise: float | None
    pgd: float | None


def images(sheet: "Sheet") -> "Figure":
    """A column for each misled sample, e.g. "3 → 5", a three taken for a five: per view clean, perturbation, and moved.

    Raises: RobustClusterError when no sample is misled.
    """
    if not len(sheet.rows):
        what = "is in a wrong cluster" if sheet.has_classes else "changes its cluster"
        raise RobustClusterError(
            f"there is nothing to draw: none of {sheet.n_scored:,} samples {what} under {sheet.spec.attack}"
        )
    rows = image_rows(sheet)
    heights = [CELL * view.shape[1] / view.shape[2] for _, view in rows]
    tops = np.cumsum([0.0, *(h + (BETWEEN if i % 3 == 2 else GAP) for i, h in enumerate(heights))])
    columns = len(sheet.rows)
    width = max(NARROWEST, LEFT + columns * (CELL + GAP) - GAP + RIGHT)
    height = TOP + float(tops[-1]) - BETWEEN + BOTTOM
    with canvas.style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height))
        for (label, view), top, size in zip(rows, tops, heights, strict=False):
            for i, image in enumerate(view):
                axes = canvas.add_image(figure, image, LEFT + i * (CELL + GAP), TOP + top, size)
                if i == 0:
                    axes.set_ylabel(label, rotation=0, ha="right", va="center")
        for axes, own, found in zip(figure.axes, sheet.own, sheet.found, strict=False):
            axes.set_title(f"{own} → {found if found >= 0 else 'none'}")
        figure.text(0.1 / width, 1 - 0.1 / height, "\n".join(heading(sheet)), va="top")
        figure.text(0.1 / width, 0.1 / height, "\n".join(notes(sheet)), fontsize=8)
    return figure


def image_rows(sheet: "Sheet") -> list[tuple[str, Pixels]]:
    """Label and pixels (m, H, W, C) in [0, 1] of each row of images: three per view.

    Gray is no perturbation; one beyond eps, as of Gaussian noise, is shown as one of eps.
    """
    rows: list[tuple[str, Pixels]] = []
    radius = 2 * sheet.eps or 1.0  # eps 0: a perturbation of 0 is gray
    for number, (clean, delta, moved) in enumerate(zip(sheet.clean, sheet.delta, sheet.moved, strict=True), start=1):
        rows += [
            (f"view {number}, clean", clean),
            ("perturbation", 0.5 + delta / np.float32(radius)),
            ("moved", moved),
        ]
    return [(label, pixels.transpose(0, 2, 3, 1).clip(0, 1)) for label, pixels in rows]


def heading(sheet: "Sheet") -> list[str]:
    """Two lines: which run it is, and which samples are shown of how many."""
    shown = f"first {len(sheet.rows)} of" if len(sheet.rows) < sheet.n_misled else "all"
    asked = "wrong under the attack" if sheet.has_classes else "that change cluster under the attack"
    before = f", {sheet.n_before:,} of them wrong before it" if sheet.n_before else ""
    return [
        title(sheet.spec),
        f"{shown} {sheet.n_misled:,} samples {asked}{before}; {sheet.n_scored:,} scored",
    ]


def notes(sheet: "Sheet") -> list[str]:
    """Two lines: what the titles of the columns say, and how pixels and perturbations are drawn."""
    return [
        f"columns: {'true class → predicted' if sheet.has_classes else 'cluster before → under the attack'}",
        f"pixels in [0, 1]; perturbation δ drawn as 0.5 + δ / 2ε, ε = {sheet.eps:g}",
    ]


def decoded(found: "Decodings", specs: Sequence[RunSpec]) -> "Figure":
    """ALRDC's Figure 1: samples, what is decoded of their clean embeddings, and below a row for each attack.

    Raises: RobustClusterError when no sample changes its cluster.
    """
    if not found.n_moved:
        attacks = " or ".join(dict.fromkeys(str(spec.attack) for spec in specs))
        raise RobustClusterError(
            f"there is nothing to draw: none of {found.n_scored:,} samples changes its cluster under {attacks}"
        )
    sample, clean, *moved = found.strips
    rows = [
        replace(one, label=f"{one.label}\n{100 * share:.0f} % flip")
        for one, share in zip(moved, found.flips, strict=True)
    ]
    shown = f"first {len(sample.rows)} of" if len(sample.rows) < found.n_moved else "all"
    first, *others = specs
    keys = "".join(f", {other.key}" for other in others)
    lines = [
        f"{title(first)}{keys}",
        f"{shown} {found.n_moved:,} samples that change cluster, {found.n_scored:,} scored; "
        "above: their class, then that of the cluster",
    ]
    return canvas.strips("\n".join(lines), {"": [sample, clean, *rows]})


def in_order(specs: Sequence[RunSpec]) -> list[tuple[str, RunSpec]]:
    """Runs of a sweep, each once, in the order of what they differ in, with a label that says it: "γ = 40"."""
    runs = {spec.key: spec for spec in specs}
    each = {
        key: {"attack": spec.attack, "attack seed": spec.attack_seed, **flat(spec.settings.get("attack", {}))}
        for key, spec in runs.items()
    }
    shared = [name for name in next(iter(each.values())) if all(name in values for values in each.values())]
    told = [name for name in shared if len({str(values[name]) for values in each.values()}) > 1]
    told = told or [name for name in SYMBOLS if name in shared][:1]

    def label(key: str) -> str:
        known = [(SYMBOLS.get(name, name), each[key][name]) for name in told]
        return "\n".join(
            f"{name} = {value:g}" if isinstance(value, int | float) else f"{name} = {value}" for name, value in known
        )

    def place(key: str) -> list[tuple[bool, float, str]]:
        values = [each[key][name] for name in told]
        return [(not isinstance(v, int | float), v if isinstance(v, int | float) else 0.0, str(v)) for v in values]

    return [(label(key) or "moved", runs[key]) for key in sorted(runs, key=place)]


def title(spec: RunSpec) -> str:
    """The attack, the model, how it was defended, the data and the run's key, in words."""
    return f"{spec.attack} on {victim(spec)}, {spec.data.label}, run {spec.key}"


def victim(spec: RunSpec) -> str:
    """The model, and how it was defended."""
    return f"{spec.model} after {spec.parent.defense}" if spec.parent and spec.parent.defense else spec.model


def curve(record: Record) -> "Figure":
    """How ACC and the flip rate change while an attacker trains, epoch by epoch, with lines for noise and PGD.

    Without labels there is no ACC. Raises: ConfigError for a record without a curve.
    """
    points: Sequence[Mapping[str, float]] = record.get("curve") or ()
    if not points:
        reason = f"{record['spec']['attack']} has no curve: only attackers trained on the views are scored every epoch"
        raise ConfigError(reason, hint="rc attack --attack view_gan")
    shown = curve_panels(record)
    with canvas.panels(caption(record), len(shown), SIZE) as (figure, axes):
        for one, panel in zip(axes, shown, strict=True):
            draw_panel(one, panel, [panel.start, *(point[str(panel.metric)] for point in points)])
        canvas.legend_below(figure)
    return figure


def curve_panels(record: Record) -> list[Panel]:
    """The panels of the curve: ACC where there are labels, and the flip rate.

    ACC starts at the clean score of the rows on which PGD is measured, or of all scored rows in older records.
    """

    def panel(title: str, metric: Metric, start: float) -> Panel:
        noise, pgd = (replace(metric, points=move).read(record) for move in ("noise", "pgd"))
        return Panel(title, metric, start, noise, pgd)

    own, clean = Metric("ACC", rows="pgd").read(record), Metric("ACC").read(record)
    flips = panel("samples that change cluster (%)", Metric("flip", "attack"), 0.0)
    start = clean if own is None else own
    return [flips] if start is None else [panel("ACC (%)", Metric("ACC", "attack"), start), flips]


def draw_panel(axes: "Axes", panel: Panel, values: Sequence[float]) -> None:
    """One quantity in percent over the epochs 0 .. E, with horizontal lines for noise and PGD."""
    from matplotlib.ticker import MaxNLocator

    percent = [100 * value for value in values]
    axes.plot(range(len(values)), percent, color=ATTACK, marker=".", clip_on=False, label="attack")
    for label, value, color, line in (("PGD", panel.pgd, PGD, "--"), ("worst noise", panel.noise, NOISE, ":")):
        if value is not None:
            axes.axhline(100 * value, color=color, linestyle=line, label=label)
    axes.set(xlabel="attack epoch", ylabel=panel.title, xlim=(0, len(values) - 1), **PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def caption(record: Record) -> str:
    """Which run it is and on how many samples the lines were measured."""
    found = record["metrics"]
    few, all_ = found.get("pgd_samples"), found["samples"]
    part = f"; attack and PGD on {few:,} of them" if few and few < all_ else ""
    first = title(RunSpec.from_json(record["spec"]))
    return f"{first}\nε = {found['eps']:g}, pixels in [0, 1]; {all_:,} samples{part}"


def certificate(record: Record) -> "Figure":
    """The certified share of the points over the L2 radius, with certified ACC under the clean matching if labeled.

    The largest radius that so many draws can certify, and the model's own ACC on these points, are marked.
    """
    found, own = record["certified"], Metric("ACC", rows="certified").read(record)
    with canvas.panels(certificate_caption(record), 1, SIZE) as (figure, (axes,)):
        for label, values, color in (("stable", found["share"], ATTACK), ("ACC", found["ACC"], PGD)):
            if values is not None:
                percent = [100 * value for value in values]
                axes.plot(found["radii"], percent, color=color, label=f"certified {label}", clip_on=False)
        if own is not None:
            axes.axhline(100 * own, color=PGD, linestyle=":", label="ACC without noise or attack")
        axes.axvline(found["radius_cap"], color=NOISE, linestyle="--", label="largest radius of so many draws")
        axes.set(xlabel=f"L2 radius, {unit_of(found)}", ylabel="samples (%)", **PERCENT)
        half_sigmas = np.arange(0, 1.01 * found["radius_cap"], found["sigma"] / 2)
        axes.set(xlim=(0, 1.02 * found["radius_cap"]), xticks=half_sigmas, xticklabels=[f"{r:g}" for r in half_sigmas])
        canvas.legend_below(figure)
    return figure


def unit_of(found: Mapping[str, Any]) -> str:
    """The unit of a certificate's sigma and radii, in words."""
    return "embedding units" if found["space"] == "latent" else "share of the value range"


def certificate_caption(record: Record) -> str:
    """Which run it is, and with how many draws of what noise."""
    spec, found = RunSpec.from_json(record["spec"]), record["certified"]
    first = f"{victim(spec)} smoothed, {spec.data.label}, run {spec.key}"
    noise = (
        f"σ = {found['sigma']:g}, {found['n']:,} draws a point, each certificate right with {1 - found['alpha']:.2%}"
    )
    return f"{first}\n{noise}; {found['rows']:,} points"


def radii(record: Record) -> "Figure":
    """The robustness curve of an attack: left the scores under the worst, if there are labels; right flips by each."""
    lines: Sequence[Mapping[str, Any]] = record["radii"]
    names = [name for name in SCORES if any(line[name] is not None for line in lines)]
    attacks = list(dict.fromkeys(line["attack"] for line in lines))
    heading = f"{title(RunSpec.from_json(record['spec']))}\n{record['metrics']['samples']:,} samples"
    with canvas.panels(heading, 2 if names else 1, (NARROWEST / 2, 3.8)) as (figure, axes):
        for name, color in zip(names, canvas.COLORS, strict=False):
            plot(axes[0], lines, WHOLE, name, label=SCORES[name], color=color)
        for attack, color, dash in zip(attacks, cycle(canvas.COLORS), cycle(("--", ":", "-.")), strict=False):
            label, shade = ("worst of all", "#000000") if attack == WHOLE else (attack, color)
            plot(axes[-1], lines, attack, FLIP, label=label, color=shade, linestyle=dash)
        if names:
            axes[0].set_ylabel("score under the worst attack (%)")
        axes[-1].set_ylabel("samples that change cluster (%)")
        for panel in axes:
            panel.set(xlabel=unit_of_radius(record), **PERCENT)
            panel.legend(frameon=False, fontsize=7)
    return figure


def plot(axes: "Axes", lines: Sequence[Mapping[str, Any]], attack: str, name: str, **more: Any) -> None:
    """Draw one metric under one attack in percent over the radii; `more` is matplotlib's."""
    eps, values = zip(*((line["eps"], 100 * line[name]) for line in lines if line["attack"] == attack), strict=True)
    axes.plot(eps, values, marker=".", clip_on=False, lw=1.2, **more)


def unit_of_radius(record: Record) -> str:
    """What the radius is measured in, e.g. "L∞ radius in pixels"."""
    threat = record["threat"]
    ball = {"linf": "L∞", "l2": "L2"}[threat["norm"]]
    where = "of the embedding" if threat["space"] == "latent" else "in pixels" if threat["box"] else "of the input"
    return f"{ball} radius {where}"


def write_radii(record: Record, form: Literal["csv", "json"]) -> str:
    """The curve as text, a row per radius and attack: eps, attack, the scores, flips and gain."""
    rows = [{"eps": line["eps"], "attack": line["attack"], **line} for line in record["radii"]]
    return json.dumps(rows, indent=1) + "\n" if form == "json" else csv_of(rows)
