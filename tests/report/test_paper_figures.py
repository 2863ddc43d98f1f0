"""Figures of many runs: the points by value, then what is drawn of them, from made-up records and logs."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.measure import training_curve
from robust_cluster.measure.portraits import Cloud, Strip
from robust_cluster.report import canvas, paper_figures
from robust_cluster.report.grid import Grid
from robust_cluster.report.spec import TableSpec, figure_names, load_spec, requests, table_names
from robust_cluster.report.table import build
from tests.report.toy import Load, record

GAMMA = '"attack.gamma" = [20, 40, 80]\n\n[[methods]]'
LINES = 'kind = "lines"\nx = "attack.gamma"\n'
HEAT = 'kind = "heat"\nx = "attack.gamma"\ny = "latent_dim"\n'
LEARNING = 'kind = "learning"\nlogged = ["flip"]\n'


@pytest.fixture
def load_figure(load_toy: Load, folder: Path) -> Load:
    """load_figure(section, (old, new), ...) is the toy table, over gamma too, as a figure."""

    def load(section: str, *changes: tuple[str, str]) -> TableSpec:
        load_toy()
        text = (folder / "toy.toml").read_text()
        text = text.replace("[[methods]]", GAMMA).replace("[axes]", f"[figure]\n{section}\n[axes]")
        text = text.replace('columns = ["latent_dim"]', 'columns = ["latent_dim", "attack.gamma"]')
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "toy.figure.toml").write_text(text)
        (folder / "toy.toml").unlink()
        return load_spec("toy", folder)

    return load


@pytest.fixture
def grid(load_figure: Load) -> Grid:
    """ConvAE on STL-10 at d = 64 under gamma 20 and 40, of two seeds and one."""
    records = [
        record(gamma=20.0, seed=0, metrics={"ACC": 0.9, "ACC*": 0.8, "D": 1.0}),
        record(gamma=20.0, seed=1, metrics={"ACC": 0.9, "ACC*": 0.6, "D": 2.0}),
        record(gamma=40.0, seed=0, metrics={"ACC": 0.9, "ACC*": 0.5, "D": 3.0}),
    ]
    return build(load_figure(LINES), records, profile="smoke")


def lines(figure: Figure, panel: str) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> x and y of the lines of a panel."""
    (axes,) = (axes for axes in figure.axes if axes.get_title() == panel)
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.get_lines()
    }


def test_a_figure_is_a_table_that_is_not_listed_among_tables(load_figure: Load, folder: Path) -> None:
    spec = load_figure(LINES)
    assert (table_names(folder), figure_names(folder)) == ([], ["toy"])
    assert (spec.name, spec.title) == ("toy", "Toy")
    assert len(requests(spec, "smoke")) == 2 * 2 * 2 * 3 * 2


def test_claims_are_no_table(folder: Path) -> None:
    (folder / "claims.toml").write_text("")
    assert table_names(folder) == ["toy"]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ('kind = "line"\nx = "latent_dim"', "Unknown kind of toy.figure.toml [figure] 'line'. Did you mean 'lines'?"),
        ('kind = "lines"', "toy.figure.toml [figure] needs the key 'x'"),
        ('kind = "heat"\nx = "latent_dim"', "toy.figure.toml [figure] needs the key 'y'"),
        ('kind = "learning"', "toy.figure.toml [figure] needs the key 'logged'"),
        ('kind = "lines"\nx = "attack.gama"', "axis of toy.figure.toml [figure] 'attack.gama'. Did you mean"),
        (
            'kind = "lines"\nx = "latent_dim"\nsmoth = 3',
            "key in toy.figure.toml [figure]: 'smoth'. Did you mean 'smooth'",
        ),
    ],
)
def test_a_section_that_describes_no_figure_is_refused(load_figure: Load, section: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_figure(section)
    assert sentence in str(caught.value)


def test_a_table_is_not_drawn(load_toy: Load) -> None:
    with pytest.raises(ConfigError, match=r"toy is a table, not a figure \(rc table toy\)"):
        paper_figures.drawing_of(load_toy())


def test_a_curve_has_mean_and_deviation_over_seeds_at_every_swept_value(grid: Grid) -> None:
    points = paper_figures.swept_points(grid)
    assert len(points) == 2 * 2 * 2 * 3 * 3  # data, methods, d, gamma, metrics
    own = [p for p in points if (p["panel"], p["curve"]) == ("STL-10, ACC", "ConvAE, d = 64, ACC*")]
    assert [(p["x"], p["n"]) for p in own] == [(20.0, 2), (40.0, 1), (80.0, 0)]
    assert [p["mean"] for p in own] == [pytest.approx(70.0), 50.0, None]
    assert [p["std"] for p in own] == [pytest.approx(20 / math.sqrt(2)), None, None]


def test_a_panel_shows_a_line_per_curve_with_a_band_and_leaves_out_what_was_not_run(grid: Grid) -> None:
    figure = paper_figures.draw(grid.spec, "smoke", paper_figures.swept_points(grid), "a note")
    assert [axes.get_title() for axes in figure.axes if axes.axison] == [
        *("STL-10, ACC", "STL-10, D"),
        *("digits, ACC", "digits, D"),
    ]
    drawn = lines(figure, "STL-10, ACC")
    assert drawn["ConvAE, d = 64, ACC*"] == ([20.0, 40.0], [pytest.approx(70.0), 50.0])
    assert drawn["ConvAE, d = 128, ACC"] == ([], [])
    panel = figure.axes[0]
    assert len(panel.collections) == 1, "one curve has a deviation other than 0: its band"
    assert panel.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(70 + 20 / math.sqrt(2))
    by_label = {str(line.get_label()): line for line in panel.get_lines()}
    clean, moved = by_label["ConvAE, d = 64, ACC"], by_label["ConvAE, d = 64, ACC*"]
    assert (clean.get_color(), clean.get_linestyle()) == (moved.get_color(), "-")
    assert moved.get_linestyle() == "--"
    assert panel.get_xlabel() == "γ"
    title = figure.get_suptitle()
    assert title == "Toy\na note"


def test_the_axes_may_be_logarithmic_and_limited(load_figure: Load) -> None:
    spec = load_figure(f"{LINES}log = true\nxlim = [10, 100]\nylim = [0, 1]")
    grid = build(spec, [record(gamma=20.0, metrics={"D": 0.5})], profile="smoke")
    axes = paper_figures.draw(spec, "smoke", paper_figures.swept_points(grid), "").axes[1]
    assert (axes.get_xscale(), axes.get_xlim(), axes.get_ylim()) == ("log", (10, 100), (0, 1))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["20", "40", "80"]
    assert list(axes.get_xticks(minor=True)) == []


def point(panel: str, curve: str, x: float, n: int = 1) -> dict[str, Any]:
    named = {"panel": panel, "curve": curve, "metric": ""}
    return {**named, "x": x, "mean": 0.5, "std": None, "n": n, "average": 0.5}


def test_a_curve_has_one_color_in_every_panel_and_four_panels_stand_two_by_two(load_figure: Load) -> None:
    points = [point("a", "one", 5), point("b", "two", 5), point("c", "two", 5), point("d", "one", 5)]
    figure = paper_figures.draw(load_figure(LEARNING), "smoke", points, "")
    colors = [axes.get_lines()[0].get_color() for axes in figure.axes]
    assert colors[0] == colors[3] != colors[1] == colors[2]
    assert [axes.get_subplotspec().get_geometry()[:2] for axes in figure.axes] == [(2, 2)] * 4  # type: ignore[union-attr]


@pytest.mark.parametrize(("last", "shown"), [(200, 200), (9000, 5000)])
def test_an_axis_ends_where_a_short_run_does(load_figure: Load, last: float, shown: float) -> None:
    spec = load_figure(f"{LEARNING}xlim = [0, 5000]")
    figure = paper_figures.draw(spec, "smoke", [point("a", "one", 5), point("a", "one", last)], "")
    assert figure.axes[0].get_xlim() == (0, shown)


@pytest.mark.parametrize(
    ("section", "counts", "said"),
    [
        (LINES, [3, 3, 0], "mean ± sample standard deviation over 3 seeds"),
        (LINES, [3, 1], "mean ± sample standard deviation over 1 to 3 seeds"),
        (LINES, [1, 1, 0], "one seed"),
        (HEAT, [3], "mean over 3 seeds"),
        (LEARNING, [2, 2, 1], "mean ± sample standard deviation over 1 to 2 seeds; dashed where some have ended"),
        (f"{LEARNING}smooth = 10\naverage = true", [1], "one seed; trailing mean of 10 epochs; in brackets the mean"),
    ],
)
def test_what_is_drawn_is_said(load_figure: Load, section: str, counts: list[int], said: str) -> None:
    """Over as many seeds as there are runs, not as many as the table asks for."""
    points = [point("a", "one", x, n) for x, n in enumerate(counts)]
    assert paper_figures.statistic(load_figure(section), points).startswith(said)


def test_runs_that_collapsed_are_counted_beside_their_curve(load_figure: Load) -> None:
    spec = load_figure(LEARNING)
    asked = requests(spec, "smoke")
    first = paper_figures.names_of(spec, asked[0])
    curve = [request for request in asked if paper_figures.names_of(spec, request) == first]
    answers = [(request, {"flags": ["collapsed"] if request is curve[1] else []}) for request in asked]
    name = first[1]
    assert paper_figures.collapsed(spec, answers) == [f"collapsed on STL-10: {name} (1 of {len(curve)})"]
    unfinished = [(request, None if request is curve[1] else record) for request, record in answers]
    assert paper_figures.collapsed(spec, unfinished) == []


def test_a_point_with_a_run_that_collapsed_is_marked(load_figure: Load) -> None:
    metrics = {"ACC": 0.9, "ACC*": 0.8, "D": 1.0}
    found = [record(gamma=20.0, metrics=metrics), record(gamma=40.0, metrics=metrics, flags=["collapsed"])]
    spec = load_figure(LINES)
    points = [p for p in paper_figures.swept_points(build(spec, found, profile="smoke")) if p["mean"] is not None]
    assert {(point["x"], point["collapsed"]) for point in points} == {(20.0, False), (40.0, True)}
    assert paper_figures.statistic(spec, points).endswith("; × where a run collapsed")
    axes = paper_figures.draw(spec, "smoke", points, "").axes[0]
    marked = [np.asarray(dots.get_offsets()).tolist() for dots in axes.collections if len(dots.get_offsets())]
    assert [place[0] for places in marked for place in places] == [40.0] * len(marked)
    assert marked
    assert "collapsed" not in paper_figures.statistic(spec, [point for point in points if not point["collapsed"]])


def test_an_axis_that_is_no_number_is_drawn_at_0_1_and_named(load_figure: Load) -> None:
    spec = load_figure('kind = "lines"\nx = "data"')
    grid = build(spec, [record(gamma=20.0, metrics={"D": 0.5})], profile="smoke")
    points = paper_figures.swept_points(grid)
    assert {p["x"] for p in points} == {0.0, 1.0}
    axes = paper_figures.draw(spec, "smoke", points, "").axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["STL-10", "digits"]


def test_a_heat_map_has_a_square_per_pair_of_settings(load_figure: Load) -> None:
    spec = load_figure(HEAT)
    records = [
        record(gamma=gamma, latent_dim=dim, metrics={"ACC": gamma / 100, "D": 1.0})
        for gamma, dim in ((20.0, 64), (80.0, 64), (40.0, 128))
    ]
    points = paper_figures.swept_points(build(spec, records, profile="smoke"))
    assert {p["metric"] for p in points} == {"ACC", "D"}, "a map shows the first metric of a cell"
    figure = paper_figures.draw(spec, "smoke", points, "")
    (axes,) = (axes for axes in figure.axes if axes.get_title() == "ConvAE: STL-10, ACC")
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array().filled(np.nan), [[20, np.nan, 80], [np.nan, 40, np.nan]])
    assert image.get_clim() == (0, 100)
    assert [text.get_text() for text in axes.texts] == ["20.0", "–", "80.0", "–", "40.0", "–"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["64", "128"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("γ", "d")


def log(values: list[float | None], *, steps: int = 5) -> list[dict[str, Any]]:
    return [
        {"epoch": i, "steps": steps, "loss": 9.0, "losses": {"kl": 1.0}, "health": {"flip": value}}
        for i, value in enumerate(values, start=1)
    ]


def logs_of(spec: TableSpec, *per_seed: list[float | None]) -> Any:
    asked = [r for r in requests(spec, "smoke") if (r.model, r.data.name, r.latent_dim) == ("convae", "stl10", 64)]
    one = [r for r in asked if r.own_settings["attack.gamma"] == 20]
    return list(zip(one, [log(values) for values in per_seed], strict=False))


def test_a_learning_curve_is_the_mean_over_seeds_of_trailing_means_against_iterations(load_figure: Load) -> None:
    spec = load_figure(f"{LEARNING}smooth = 2")
    points = paper_figures.logged_points(spec, logs_of(spec, [0.0, 1.0, 2.0], [4.0, 4.0]))
    assert [(p["panel"], p["curve"]) for p in points] == [("STL-10, flip", "ConvAE, d = 64, γ = 20")] * 3
    assert [p["x"] for p in points] == [5, 10, 15]
    assert [p["mean"] for p in points] == [2.0, (0.5 + 4) / 2, 1.5]
    assert [p["average"] for p in points] == [(1 + 4) / 2] * 3, "of the runs' own means, however long they are"
    assert [p["n"] for p in points] == [2, 2, 1]
    assert points[0]["std"] == pytest.approx(4 / math.sqrt(2))
    assert points[2]["std"] is None


def test_a_learning_curve_is_dashed_where_fewer_runs_go_on(load_figure: Load) -> None:
    spec = load_figure(LEARNING)
    points = paper_figures.logged_points(spec, logs_of(spec, [0.0, 1.0, 2.0], [4.0, 4.0]))
    (axes,) = paper_figures.draw(spec, "smoke", points, "").axes
    shared, alone = axes.get_lines()
    assert (shared.get_linestyle(), alone.get_linestyle()) == ("-", "--")
    np.testing.assert_array_equal(shared.get_ydata(), [2.0, 2.5, np.nan])
    np.testing.assert_array_equal(alone.get_ydata(), [np.nan, np.nan, 2.0])
    assert shared.get_color() == alone.get_color()
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["ConvAE, d = 64, γ = 20"]


def test_the_average_of_a_curve_is_that_of_its_record(load_figure: Load) -> None:
    """Without the start, which the curve itself shows."""
    spec = load_figure(LEARNING)
    lines = [{"epoch": 0, "steps": 0, "flip": 9.0}, *log([1.0, None, 2.0])]
    ((request, _),) = logs_of(spec, [])
    points = paper_figures.logged_points(spec, [(request, lines)])
    assert [(p["x"], p["average"]) for p in points] == [(0, 1.5), (5, 1.5), (15, 1.5)]
    health = [dict.fromkeys(training_curve.FIGURES, value) for value in (1.0, None, 2.0)]
    lines = [{"steps": 5, "health": figures} for figures in health]
    record = training_curve.columns(dict.fromkeys(training_curve.FIGURES, 9.0), lines)
    assert record["mean"] == dict.fromkeys(training_curve.FIGURES, 1.5)


def test_averages_that_stand_beside_each_other_are_over_the_epochs_that_both_curves_have_of_a_seed(
    load_figure: Load,
) -> None:
    """Else the one that ends early would be told by its start alone."""
    spec = load_figure(LEARNING)
    asked = [r for r in requests(spec, "smoke") if r.data.name == "stl10" and r.latent_dim == 64]
    long, short = ([r for r in asked if r.model == "convae" and r.own_settings["attack.gamma"] == g] for g in (20, 40))
    logs = [
        *zip(long, [log([1.0, 3.0, 50.0, 50.0]), log([5.0, 70.0])], strict=False),
        *zip(short, [log([0.0, 1.0]), log([2.0])], strict=False),
    ]
    averages = {p["curve"]: p["average"] for p in paper_figures.logged_points(spec, logs)}
    assert averages == {
        "ConvAE, d = 64, γ = 20": ((1 + 3) / 2 + 5) / 2,
        "ConvAE, d = 64, γ = 40": ((0 + 1) / 2 + 2) / 2,
    }


@pytest.mark.parametrize("name", ["adec_outputs", "adec_zoom"])
def test_the_titles_of_adecs_figures_6_and_12_name_the_methods_and_the_data_that_are_drawn(name: str) -> None:
    spec = load_spec(name)
    assert all(f"{method.label} " in spec.title for method in spec.methods)
    assert {spec.display("data", data).split()[0] for p in ("paper", "cpu") for data in spec.profile(p).data} == {
        "MNIST"
    }
    assert "MNIST" in spec.title


def test_epochs_are_counted_where_they_are_asked_for_and_none_is_left_out(load_figure: Load) -> None:
    spec = load_figure(f'{LEARNING}x = "epoch"')
    points = paper_figures.logged_points(spec, logs_of(spec, [None, 1.0, 3.0]))
    assert [(p["x"], p["mean"]) for p in points] == [(2, 1.0), (3, 3.0)]


@pytest.mark.parametrize(("name", "expected"), [("loss", 9.0), ("kl", 1.0), ("flip", 0.5)])
def test_a_logged_figure_is_found_beside_the_losses_and_among_them(name: str, expected: float) -> None:
    assert paper_figures.logged(log([0.5])[0], name) == expected


def test_a_record_that_keeps_the_figures_needs_no_log() -> None:
    drift = {"steps": [0, 10, 25], "ACC": [0.3, 0.5, 0.6], "delta_FR": [0.2, None, 0.1], "mean": {"ACC": 0.55}}
    assert paper_figures.recorded({"drift": drift}, ["ACC", "delta_FR"]) == [
        {"epoch": 0, "steps": 0, "ACC": 0.3, "delta_FR": 0.2},
        {"epoch": 1, "steps": 10, "ACC": 0.5, "delta_FR": None},
        {"epoch": 2, "steps": 15, "ACC": 0.6, "delta_FR": 0.1},
    ]
    assert paper_figures.recorded({"drift": drift}, ["loss"]) is None
    assert paper_figures.recorded({}, ["ACC"]) is None


def test_what_was_not_logged_is_named_with_what_was(load_figure: Load) -> None:
    with pytest.raises(ConfigError, match=r"no 'ACC' was logged; there is epoch, flip, kl, loss, steps .* --curve"):
        paper_figures.logged(log([0.5])[0], "ACC")
    spec = load_figure(LEARNING)
    with pytest.raises(ConfigError, match="no 'flip' was logged: the run had no epoch"):
        paper_figures.logged_points(spec, logs_of(spec, []))


def test_a_learning_curve_may_tell_its_average_and_stand_apart(load_figure: Load) -> None:
    spec = load_figure(f"{LEARNING}average = true\napart = true")
    points = paper_figures.logged_points(spec, logs_of(spec, [0.0, 1.0, 5.0]))
    figure = paper_figures.draw(spec, "smoke", points, "")
    drawn = lines(figure, "ConvAE, d = 64, γ = 20: STL-10, flip")
    assert drawn == {"ConvAE, d = 64, γ = 20 (mean 2)": ([5.0, 10.0, 15.0], [0.0, 1.0, 5.0])}
    assert figure.axes[0].get_xlabel() == "iteration"


def test_what_is_drawn_is_written_as_csv_and_as_json(grid: Grid) -> None:
    points = paper_figures.swept_points(grid)
    rows = list(csv.DictReader(io.StringIO(paper_figures.write(grid.spec, points, grid.caption, "csv"))))
    assert len(rows) == len(points)
    (row,) = (r for r in rows if r["mean"].startswith("70") and r["metric"] == "ACC*")
    assert (row["panel"], row["curve"], row["x"], row["n"]) == ("STL-10, ACC", "ConvAE, d = 64, ACC*", "20.0", "2")
    content = json.loads(paper_figures.write(grid.spec, points, grid.caption, "json"))
    assert (content["figure"], content["points"]) == ("toy", points)
    assert any("runs found" in sentence for sentence in content["caption"])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".svg", *(pytest.param(kind, marks=pytest.mark.slow) for kind in (".png", ".pdf"))])
def test_equal_points_give_equal_bytes(grid: Grid, tmp_path: Path, suffix: str) -> None:
    content = []
    for name in ("a", "b"):
        figure = paper_figures.draw(grid.spec, "smoke", paper_figures.swept_points(grid), "")
        canvas.save(figure, tmp_path / f"{name}{suffix}")
        content.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert content[0] == content[1]


def test_a_legend_of_long_names_stays_inside_the_figure(grid: Grid) -> None:
    figure = paper_figures.draw(grid.spec, "smoke", paper_figures.swept_points(grid), "")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def cloud(**changes: Any) -> Cloud:
    points = np.array([[0, 0], [1, 2], [3, 4]], np.float32)
    fields: dict[str, Any] = {
        "classes": np.array([0, 1, 1]),
        "centers": points[:2],
        "rows": np.array([5, 6, 7]),
        "axes": ("1", "2"),
        "has_classes": True,
    }
    return Cloud(points, **(fields | changes))


def test_a_scatter_shows_every_point_in_the_color_of_its_class(load_figure: Load) -> None:
    spec = load_figure('kind = "scatter"')
    clouds = {"one": cloud(), "two": cloud(has_classes=False)}
    figure = paper_figures.draw_clouds(spec, clouds, "a note")
    dots, crosses = figure.axes[0].collections
    assert np.asarray(dots.get_offsets()).tolist() == [[0, 0], [1, 2], [3, 4]]
    assert np.asarray(dots.get_array()).tolist() == [0, 1, 1]
    assert len(np.asarray(crosses.get_offsets())) == 2
    assert figure.get_suptitle() == "Toy\na note; colored by cluster, × centroids"
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == ["0", "1"]
    assert paper_figures.cloud_points(clouds)[1] == {"panel": "one", "x": 1.0, "y": 2.0, "class": 1, "row": 6}


def test_rows_of_images_are_labeled_and_each_image_has_its_class(load_figure: Load) -> None:
    spec = load_figure('kind = "top"')
    pixels = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)
    strips = [
        Strip("cluster 0", pixels, np.array([4, 5, 6]), np.array([1, 1, -1])),
        Strip("cluster 1", pixels[:1], np.array([9]), np.array([2])),
    ]
    sheets = {"digits, ADEC": strips, "usps, ADEC": strips[1:]}
    figure = paper_figures.draw_strips(spec, sheets, "a note")
    assert [axes.get_title() for axes in figure.axes] == ["1", "1", "", "2", "2"]
    assert np.array_equal(np.asarray(figure.axes[1].get_images()[0].get_array()), pixels[1, :, :, 0])
    assert [text.get_text() for text in figure.texts] == [
        *("digits, ADEC", "cluster 0", "cluster 1"),
        *("usps, ADEC", "cluster 1", "Toy\na note"),
    ]
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    assert paper_figures.strip_points(sheets)[3] == {
        "panel": "digits, ADEC",
        "strip": "cluster 1",
        "column": 0,
        "row": 9,
        "class": 2,
    }


FIGURES = {
    "lpvdn_alpha": "heat",
    "lpvdn_noise": "lines",
    "lpvdn_neighbors": "neighbors",
    "lpvdn_dimension": "lines",
    "lpvdn_scatter": "scatter",
    "adec_outputs": "outputs",
    "adec_fr": "learning",
    "adec_fd": "learning",
    "adec_curves": "learning",
    "adec_zoom": "learning",
    "adec_gamma": "lines",
    "adec_gamma_curves": "learning",
    "adec_scatter": "scatter",
    "adec_surest": "top",
}


def test_the_checkout_has_every_figure_of_lpvdn_and_adec_that_shows_data() -> None:
    assert {name: paper_figures.drawing_of(load_spec(name)).kind for name in figure_names()} == FIGURES
    for name in FIGURES:
        spec = load_spec(name)
        assert set(spec.profiles) == {"paper", "cpu", "smoke"}
        assert {r.data.name for r in requests(spec, "smoke")} == {"digits"}
        assert {r.latent_dim for r in requests(spec, "cpu")} == {10}
        assert set(table_names()).isdisjoint(FIGURES)


def test_the_noise_of_lpvdn_is_met_by_every_variant_and_read_both_ways() -> None:
    spec = load_spec("lpvdn_noise")
    asked = requests(spec, "paper")
    assert {r.own_settings["attack.sigma"] for r in asked} == {0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert {(r.stage, r.attack) for r in asked} == {("attack", "gaussian_pollution")}
    assert {r.place["method"] for r in asked} == {"G+MI+LP", "G+MI", "G+LP", "G", "VaDE"}
    assert [[*map(str, cell.values)] for cell in spec.cells] == [["ACC*_refit"], ["ACC*_clean_map"]]


def test_an_unknown_figure_is_refused_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'lpvdn_noise'"):
        load_spec("lpvdn_nose")
