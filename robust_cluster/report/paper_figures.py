"""A figure of many runs: first the points that it shows, one flat row each, then the picture, from these rows alone.

Lines and heat maps are drawn from the records that a table of the same runs is printed from, learning curves from what
those runs logged. Embeddings and samples come as arrays, which measure/portraits.py makes anew from checkpoints.
"""

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_cluster.errors import ConfigError
from robust_cluster.report import canvas
from robust_cluster.report.formats import csv_of
from robust_cluster.report.grid import Grid, axes_of, records_of
from robust_cluster.report.spec import CellRequest, Drawing, TableSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robust_cluster.measure.portraits import Cloud, Strip

Point = dict[str, Any]
Line = Mapping[str, Any]  # of a run's log
DASHES = ("-", "--", ":", "-.")
PANEL = (3.4, 2.8)  # inches
LOGGED = "rc table NAME of a figure of ACC, NMI or gradients logs these, as --curve does"
LOST = {"lines": "×", "heat": "ᶜ"}  # marks of a point with a run that collapsed
DOTS = 10  # colors of a scatter that repeat beyond


def swept_points(grid: Grid) -> list[Point]:
    """A point per number of the grid: panel, curve, place on the drawn axes, mean (None without a run), std, n, and
    whether any of its runs collapsed.
    """
    spec, axes = grid.spec, grid.spec.profile(grid.profile)
    drawing, metrics = drawing_of(spec), {form.label: form.values for form in spec.cells}
    places = {axis: dict(zip(spec.values(axis, axes), along(axes.along(axis)), strict=True)) for axis in drawing.axes}
    points = []
    for number in records_of(grid.numbers):
        shown = metrics[number["cell"]][: 1 if drawing.kind == "heat" else None]
        if number["metric"] in shown:
            panel, curve = names(spec, {axis: number[axis] for axis in axes_of(spec)})
            named = {
                "panel": f"{panel}{number['cell']}",
                "curve": curve if len(shown) == 1 else f"{curve}, {number['metric']}",
                "metric": str(number["metric"]),
            }
            here = {name: places[axis][number[axis]] for name, axis in zip("xy", drawing.axes, strict=False)}
            told = {name: number[name] for name in ("mean", "std", "n")}
            points.append({**named, **here, **told, "collapsed": "collapsed" in number["flags"]})
    return points


def along(values: Sequence[Any]) -> list[float]:
    """Where the values of an axis stand: numbers at themselves, others at 0, 1, ..."""
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return [float(value) for value in values] if are_numbers else [float(i) for i in range(len(values))]


def names(spec: TableSpec, at: Mapping[str, str]) -> tuple[str, str]:
    """In which panel ("MNIST, " or "") and on which curve ("LPVDN", "γ = 0.1") a place of the table is drawn."""
    hidden = {"data", "method", "metric", *drawing_of(spec).axes}
    others = [f"{spec.symbol(axis)} = {label}" for axis, label in at.items() if axis not in hidden]
    is_alone = len(spec.methods) == 1 and others
    method = [] if is_alone else [at.get("method", spec.methods[0].label)]
    return (f"{at['data']}, " if "data" in at else ""), ", ".join([*method, *others])


def names_of(spec: TableSpec, request: CellRequest) -> tuple[str, str]:
    """The panel and the curve of a run."""
    return names(spec, {axis: request.place[axis] for axis in axes_of(spec)})


def drawing_of(spec: TableSpec) -> Drawing:
    """How the table is drawn. Raises: ConfigError for one that is only printed."""
    if spec.figure is None:
        raise ConfigError(f"{spec.name} is a table, not a figure", hint=f"rc table {spec.name}")
    return spec.figure


def statistic(spec: TableSpec, points: Sequence[Point]) -> str:
    """What a drawn value is, in words for the figure's note: "mean over 3 seeds; × where a run collapsed"."""
    drawing = drawing_of(spec)
    counts = [point["n"] for point in points if point["n"]]
    least, most = min(counts, default=0), max(counts, default=0)
    seeds = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    over = "one seed" if most == 1 else f"mean over {seeds}"
    if drawing.kind != "heat" and most > 1:
        over = f"mean ± sample standard deviation over {seeds}"
    lost = any(point.get("collapsed") for point in points)
    said = {
        over: True,
        "dashed where some have ended": drawing.kind == "learning" and least < most,
        f"{LOST.get(drawing.kind)} where a run collapsed": lost,
        f"trailing mean of {drawing.smooth} epochs": drawing.smooth > 1,
        "in brackets the mean over the epochs that all curves have of a seed, then over seeds": drawing.average,
    }
    return "; ".join(text for text, is_so in said.items() if is_so)


def collapsed(spec: TableSpec, answers: Iterable[tuple[CellRequest, Mapping[str, Any] | None]]) -> list[str]:
    """A note such as "collapsed on MNIST: ADEC (2 of 3)" for each panel with runs that use too few clusters."""
    panels: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for request, record in answers:
        if record is not None:
            panel, curve = names_of(spec, request)
            panels[panel.removesuffix(", ")][curve].append("collapsed" in record["flags"])
    found = []
    for panel, curves in panels.items():
        counts = [f"{curve} ({sum(each)} of {len(each)})" for curve, each in curves.items() if any(each)]
        found += [f"collapsed{panel and f' on {panel}'}: {', '.join(counts)}"] if counts else []
    return found


def logged_points(spec: TableSpec, logs: Iterable[tuple[CellRequest, Sequence[Line]]]) -> list[Point]:
    """A point per epoch of a curve: mean and std of the trailing mean, over the runs that trained for so long.

    `average` is the same in all points of a curve: the mean over runs of each run's plain mean over the epochs that the
    runs of its seed have on all curves of the panel, the start left out. So none is averaged where others have ended. A
    line whose figure is None gives no point.
    Raises: ConfigError when a run has not logged it.
    """
    drawing = drawing_of(spec)
    found: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    trained: dict[tuple[str, int], dict[str, dict[float, float]]] = defaultdict(dict)
    averages: dict[tuple[str, str], list[float]] = defaultdict(list)
    for request, lines in logs:
        place, curve = names_of(spec, request)
        for name in drawing.logged:
            panel = f"{place}{spec.symbol(name)}"
            known = list(series(lines, name, drawing))
            for i, (x, _) in enumerate(known):
                found[panel][curve][x].append(fmean(v for _, v in known[max(0, i + 1 - drawing.smooth) : i + 1]))
            if later := {x: value for x, value in known if x}:
                trained[panel, request.seed][curve] = later
    for (panel, _), curves in trained.items():
        common = set[float].intersection(*map(set, curves.values()))
        for curve, known_at in curves.items() if common else ():
            averages[panel, curve].append(fmean(known_at[x] for x in sorted(common)))
    return [
        {
            "panel": panel,
            "curve": curve,
            "metric": "",
            "x": x,
            "mean": fmean(values),
            "std": stdev(values) if len(values) > 1 else None,
            "n": len(values),
            "average": fmean(own) if (own := averages[panel, curve]) else None,
        }
        for panel, curves in found.items()
        for curve, points in curves.items()
        for x, values in sorted(points.items())
    ]


def series(lines: Sequence[Line], name: str, drawing: Drawing) -> Iterator[tuple[float, float]]:
    """x, 0 at the start, and value of each line, None left out. Raises: ConfigError for what was not logged."""
    if not lines:
        raise ConfigError(f"no {name!r} was logged: the run had no epoch", hint=LOGGED)
    values = [logged(line, name) for line in lines]
    steps = accumulate(int(line["steps"]) for line in lines)
    places = steps if drawing.x == "iteration" else (int(line["epoch"]) for line in lines)
    return ((float(x), float(value)) for x, value in zip(places, values, strict=True) if value is not None)


def recorded(record: Mapping[str, Any], names: Sequence[str]) -> list[Line] | None:
    """The start and each epoch as lines of a log, from a record that keeps these figures; None where it does not."""
    drift: Mapping[str, Any] = record.get("drift") or {}
    if not set(names) <= drift.keys():
        return None
    done = [0, *drift["steps"]]
    return [
        {"epoch": epoch, "steps": steps - done[epoch], **{name: drift[name][epoch] for name in names}}
        for epoch, steps in enumerate(drift["steps"])
    ]


def logged(line: Line, name: str) -> float | None:
    """The figure of this name in a line of a log or in one of its groups (losses, health). Raises: ConfigError."""
    groups = [line, *(group for group in line.values() if isinstance(group, Mapping))]
    for group in groups:
        if name in group:
            value: float | None = group[name]
            return value
    known = sorted({key for group in groups for key, value in group.items() if not isinstance(value, Mapping)})
    raise ConfigError(f"no {name!r} was logged; there is {', '.join(known)}", hint=LOGGED)


def write(spec: TableSpec, points: Sequence[Point], caption: Sequence[str], form: str) -> str:
    """The points as text: "csv", a line each, or "json" with the figure's title and caption."""
    if form == "json":
        head = {"figure": spec.name, "title": spec.title, "source": spec.source, "caption": list(caption)}
        return json.dumps({**head, "points": points}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return csv_of(points)


def draw(spec: TableSpec, profile: str, points: Sequence[Point], note: str) -> "Figure":
    """The figure of these points: panels of lines or heat maps side by side, `note` below the title."""
    drawing = drawing_of(spec)
    panels: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        is_apart = drawing.apart or drawing.kind == "heat"
        panels[f"{point['curve']}: {point['panel']}" if is_apart else point["panel"]].append(point)
    colors = colors_of(points)
    with canvas.panels(f"{spec.title}\n{note}", len(panels), PANEL, room=1.0) as (figure, grid):
        letters = int(figure.get_figwidth() / canvas.abreast(len(panels)) * canvas.LETTERS)
        for axes, (title, inside) in zip(grid, panels.items(), strict=True):
            axes.set_title(textwrap.fill(title, letters))
            if drawing.kind == "heat":
                draw_heat(axes, spec, profile, inside)
            else:
                draw_lines(axes, spec, profile, inside, colors)
        canvas.legend_below(figure)
    return figure


def colors_of(points: Sequence[Point]) -> dict[str, str]:
    """The color of each curve, the same in every panel; the metrics of one method or setting share theirs."""
    found: dict[str, str] = {}
    for panel in dict.fromkeys(point["panel"] for point in points):
        inside = [point for point in points if point["panel"] == panel]
        n_metrics = len({point["metric"] for point in inside})
        curves = [curve for curve in dict.fromkeys(point["curve"] for point in inside) if curve not in found]
        first = len(set(found.values()))
        found |= {curve: canvas.COLORS[(first + i // n_metrics) % len(canvas.COLORS)] for i, curve in enumerate(curves)}
    return found


def draw_lines(axes: "Axes", spec: TableSpec, profile: str, points: Sequence[Point], colors: Mapping[str, str]) -> None:
    """Draw a curve per method or setting, with a band of one standard deviation where there are several seeds."""
    drawing = drawing_of(spec)
    metrics = list(dict.fromkeys(point["metric"] for point in points))
    for curve in dict.fromkeys(point["curve"] for point in points):
        own = [point for point in points if point["curve"] == curve]
        known = [point for point in own if point["mean"] is not None]
        dash, color = metrics.index(own[0]["metric"]), colors[curve]
        x, mean, std, n = (np.array([point[key] or 0.0 for point in known]) for key in ("x", "mean", "std", "n"))
        if drawing.kind == "learning":
            average = known[0]["average"] if drawing.average and known else None
            label = curve if average is None else f"{curve} (mean {average:.3g})"
            is_whole = n == n.max(initial=0)
            axes.plot(x, np.where(is_whole, mean, np.nan), color=color, label=label)
            if not is_whole.all():  # a jump there may be another run's absence
                axes.plot(x, np.where(is_whole, np.nan, mean), color=color, linestyle="--")
        else:
            axes.plot(x, mean, color=color, linestyle=DASHES[dash % 4], marker=".", label=curve)
            lost = np.array([point["collapsed"] for point in known], dtype=bool)
            if lost.any():
                axes.scatter(x[lost], mean[lost], color=color, marker="x")
        if std.any():
            axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
    axes.set_xlabel(spec.symbol(drawing.x))
    if drawing.log:
        axes.set_xscale("log")
    if drawing.kind == "lines":
        name_places(axes.xaxis, spec, profile, drawing.x)
    if drawing.xlim:
        low, high = drawing.xlim
        last = max(point["x"] for point in points)
        is_short = drawing.kind == "learning" and low < last < high  # the run ends before the paper's axis does
        axes.set_xlim(low, last if is_short else high)
    if drawing.ylim:
        axes.set_ylim(*drawing.ylim)


def name_places(axis: Any, spec: TableSpec, profile: str, name: str) -> None:
    """Put ticks at the values of an axis where they are no numbers, or stand on a logarithmic scale."""
    values = spec.profile(profile).along(name)
    if drawing_of(spec).log or not all(isinstance(value, int | float) for value in values):
        axis.set_ticks(along(values), labels=spec.values(name, spec.profile(profile)))
        axis.set_ticks([], minor=True)


def draw_heat(axes: "Axes", spec: TableSpec, profile: str, points: Sequence[Point]) -> None:
    """Draw a square per place with its number in it; the colors span 0 to the scale of the metric."""
    drawing, chosen = drawing_of(spec), spec.profile(profile)
    xs, ys = (along(chosen.along(axis)) for axis in drawing.axes)
    means = np.full((len(ys), len(xs)), np.nan)
    marks = {}
    for point in points:
        if point["mean"] is not None:
            place = ys.index(point["y"]), xs.index(point["x"])
            means[place], marks[place] = point["mean"], LOST["heat"] if point["collapsed"] else ""
    form = next(cell for cell in spec.cells if points[0]["metric"] in map(str, cell.values))
    image = axes.imshow(means, cmap="viridis", vmin=0, vmax=form.scale, origin="lower", aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        text = "–" if np.isnan(mean) else f"{mean:.{form.digits}f}{marks[row, column]}"
        is_dark = mean < form.scale / 2
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="w" if is_dark else "k")
    for axis, name in zip((axes.xaxis, axes.yaxis), drawing.axes, strict=True):
        axis.set_ticks(range(len(chosen.along(name))), labels=spec.values(name, chosen))
        axis.set_label_text(spec.symbol(name))
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def cloud_points(clouds: Mapping[str, "Cloud"]) -> list[Point]:
    """A point per sample: its panel, place, class (or cluster) and row of the data set."""
    return [
        {"panel": panel, "x": float(x), "y": float(y), "class": int(own), "row": int(row)}
        for panel, cloud in clouds.items()
        for (x, y), own, row in zip(cloud.points, cloud.classes, cloud.rows, strict=True)
    ]


def draw_clouds(spec: TableSpec, clouds: Mapping[str, "Cloud"], note: str) -> "Figure":
    """A scatter per run, colored by class (by cluster without labels), with a cross at each centroid."""
    colors = "class" if all(cloud.has_classes for cloud in clouds.values()) else "cluster"
    shown = sorted({int(own) for cloud in clouds.values() for own in cloud.classes})
    heading = f"{spec.title}\n{note}; colored by {colors}, × centroids"
    with canvas.panels(heading, len(clouds), (PANEL[0], 3.4), room=0.8) as (figure, grid):
        from matplotlib.cm import tab10

        dots: dict[str, Any] = {"cmap": "tab10", "vmin": -0.5, "vmax": 9.5, "s": 2, "linewidths": 0, "rasterized": True}
        for axes, (title, cloud) in zip(grid, clouds.items(), strict=True):
            (x, y), centers = cloud.points.T, cloud.centers.T
            axes.scatter(x, y, c=cloud.classes % DOTS, **dots)
            axes.scatter(centers[0], centers[1], c="k", marker="x", s=30)
            axes.set(title=title, xlabel=cloud.axes[0], ylabel=cloud.axes[1], xticks=[], yticks=[])
        for own in shown if len(shown) <= DOTS else ():
            grid[0].plot([], [], color=tab10(own % DOTS), marker="o", markersize=4, linestyle="", label=str(own))
        canvas.legend_below(figure, ncol=len(shown), columnspacing=0.8, handletextpad=0.0)
    return figure


def strip_points(sheets: Mapping[str, Sequence["Strip"]]) -> list[Point]:
    """A point per image: panel, label of its row, column, row of the data set, class (-1: unlabeled)."""
    return [
        {"panel": panel, "strip": strip.label, "column": column, "row": int(row), "class": int(own)}
        for panel, strips in sheets.items()
        for strip in strips
        for column, (row, own) in enumerate(zip(strip.rows, strip.classes, strict=True))
    ]


def draw_strips(spec: TableSpec, sheets: Mapping[str, Sequence["Strip"]], note: str) -> "Figure":
    """Rows of images under each other, each labeled at its left and each image with its class above."""
    return canvas.strips(f"{spec.title}\n{note}", sheets)
