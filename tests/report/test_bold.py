"""`--bold`: which numbers of a table are its best, and how each format shows it."""

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from robust_cluster.measure.metric import Metric
from robust_cluster.report.bold import direction
from robust_cluster.report.formats import render
from robust_cluster.runs.spec import DataRef
from robust_cluster.stages.cluster import SAW_CLASSES
from tests.report.toy import Table, record, text

SEEDS = ("seed = [0, 1]", "seed = [0, 1, 2, 3]")
FLIPS = ('values = ["D"]', 'values = ["flip", "noise_flip"]')
TOP, LOW = (0.90, 0.92, 0.94, 0.96), (0.50, 0.52, 0.54, 0.56)
NEAR = (0.95, 0.90, 0.93, 0.93)  # its mean is 0.25 points below that of TOP, and the seeds take turns


def runs(model: str, accuracies: Any, moved: Any = None, data: str = "stl10", **more: float) -> list[dict[str, Any]]:
    """A run per seed, with ACC and ACC*."""
    pairs = enumerate(zip(accuracies, moved or accuracies, strict=True))
    return [
        record(model=model, seed=seed, data=DataRef(data), metrics={"ACC": one, "ACC*": other, "D": 1.0, **more})
        for seed, (one, other) in pairs
    ]


def bold(grid: Any) -> set[tuple[str, str, str]]:
    """Data, method and metric of the bold numbers."""
    return {
        (place["data"], place["method"], str(value.metric))
        for (row, column), cell in grid.cells.items()
        for value in cell.values
        if value.is_best
        for place in [dict(zip((*grid.spec.rows, *grid.spec.columns), (*row, *column), strict=True))]
    }


def test_the_best_of_each_metric_on_each_data_set_is_bold_and_sizes_have_none(table: Table) -> None:
    some = [*runs("kmeans", LOW, TOP), *runs("convae", TOP, LOW), *runs("kmeans", TOP, data="digits")]
    grid = table(some, SEEDS, bold="best")
    assert bold(grid) == {("STL-10", "ConvAE", "ACC"), ("STL-10", "kmeans", "ACC*")}, "one alone has no rival"
    assert bold(table(some, SEEDS)) == set(), "nothing is bold unless it is asked for"
    assert "Bold: the best with the same latent_dim, data and metric, from the model's side" in " ".join(grid.caption)


def test_few_flips_are_better_and_noise_has_no_best(table: Table) -> None:
    some = [*runs("kmeans", LOW, flip=0.2, noise_flip=0.3), *runs("convae", LOW, flip=0.4, noise_flip=0.1)]
    assert {place for place in bold(table(some, SEEDS, FLIPS, bold="best")) if "flip" in place[2]} == {
        ("STL-10", "kmeans", "flip")
    }


def test_methods_in_columns_compete_along_their_row(table: Table) -> None:
    turned = (
        'rows = ["data", "method", "metric"]\ncolumns = ["latent_dim"]',
        'rows = ["data", "latent_dim", "metric"]\ncolumns = ["method"]',
    )
    some = [*runs("kmeans", LOW), *runs("convae", TOP), *runs("kmeans", TOP, data="digits")]
    some += [*runs("convae", LOW, data="digits")]
    best = {("STL-10", "ConvAE"), ("digits", "kmeans")}
    assert {place[:2] for place in bold(table(some, SEEDS, turned, bold="best"))} == best


def test_numbers_that_are_printed_alike_are_bold_alike(table: Table) -> None:
    some = [*runs("kmeans", [0.90001] * 4, LOW), *runs("convae", [0.9] * 4, TOP)]
    assert {place[1] for place in bold(table(some, SEEDS, bold="best")) if place[2] == "ACC"} == {"kmeans", "ConvAE"}


def test_significant_is_what_a_paired_test_does_not_tell_from_the_best(table: Table) -> None:
    def winners(other: tuple[float, ...]) -> set[str]:
        grid = table([*runs("kmeans", other), *runs("convae", TOP)], SEEDS, bold="significant")
        assert not any("have no test" in sentence for sentence in grid.caption)
        return {place[1] for place in bold(grid) if place[2] == "ACC"}

    assert stats.ttest_rel(TOP, NEAR, alternative="greater").pvalue > 0.05
    assert winners(NEAR) == {"ConvAE", "kmeans"}
    shifted = (*(value - 0.01 for value in TOP[:3]), TOP[3] - 0.02)  # always below, by hardly more than NEAR
    assert stats.ttest_rel(TOP, shifted, alternative="greater").pvalue < 0.05
    assert winners(shifted) == {"ConvAE"}


def test_too_few_seeds_for_a_test_are_told_and_the_best_alone_is_bold(table: Table) -> None:
    grid = table([*runs("kmeans", NEAR[:2]), *runs("convae", TOP)], SEEDS, bold="significant")
    assert {place[1] for place in bold(grid)} == {"ConvAE"}
    assert any(one.startswith("2 of 2 comparisons share fewer than 3 seeds and have no test") for one in grid.caption)


def test_a_run_out_of_memory_is_never_best_and_a_collapsed_one_keeps_its_mark(table: Table) -> None:
    some = [*runs("kmeans", TOP), *runs("convae", LOW)]
    for one in some[:4]:
        one["flags"] = ["collapsed"]
    grid = table(some, SEEDS, bold="best")
    assert ("STL-10", "kmeans", "ACC") in bold(grid)
    assert grid.marks(("STL-10", "kmeans", "ACC")) == "c"
    lost = [{**one, "metrics": {"ACC": None, "ACC*": None}, "flags": ["out of memory"]} for one in some[:4]]
    assert bold(table([*lost, *some[4:]], SEEDS, bold="best")) == set()


def test_an_oracle_is_no_rival(table: Table) -> None:
    oracle = [{**one, "flags": [SAW_CLASSES]} for one in runs("kmeans", TOP)]
    assert bold(table([*oracle, *runs("convae", LOW)], SEEDS, bold="best")) == set()


def test_the_papers_numbers_compete_among_themselves(table: Table, folder: Any) -> None:
    published = folder / "toy.published.csv"
    published.write_text(published.read_text() + "stl10,kmeans,64,ACC,90.0,\n")
    some = [*runs("kmeans", LOW), *runs("convae", TOP)]
    shown = text(table(some, SEEDS, bold="best", compare=True))
    assert "| 53.0±2.6 / 53.0±2.6\\* | **90.0** / – |" in shown
    assert "| **93.0±2.6** / **93.0±2.6\\*** | 84.7 / 78.1\\* |" in shown
    assert "The paper's numbers are bold among themselves." in shown
    tested = text(table(some, SEEDS, bold="significant", compare=True))
    assert "**90.0**" not in tested
    assert "Of the paper's none is bold: they have no seeds to test." in tested


def test_every_format_shows_it(table: Table) -> None:
    grid = table([*runs("kmeans", LOW, TOP), *runs("convae", TOP, LOW)], SEEDS, bold="best")
    assert r"| **93.0±2.6** / 53.0±2.6\* |" in text(grid)
    assert r"\textbf{93.0$\pm$2.6} / 53.0$\pm$2.6*" in text(grid, "latex")
    assert r"53.0$\pm$2.6 / \textbf{93.0$\pm$2.6*}" in text(grid, "latex")
    assert "<b>93.0±2.6</b> / 53.0±2.6*</td>" in text(grid, "html")
    rows = list(csv.DictReader(io.StringIO(text(grid, "csv"))))
    assert [row["method"] for row in rows if row["is_best"] == "True"] == ["kmeans", "ConvAE"]
    cells = json.loads(text(grid, "json"))["cells"]
    assert [cell["metric"] for cell in cells if cell["is_best"]] == ["ACC*", "ACC"]
    with (console := Console(width=200, force_terminal=True, color_system="standard")).capture() as shown:
        console.print(render(grid, "terminal"))
    assert "\x1b[1m93.0±2.6\x1b[0m / 53.0±2.6*" in shown.get()
    assert not {"\ue000", "\ue001"} & set(shown.get() + text(grid, "latex") + text(grid, "html") + text(grid))


def test_html_is_escaped_and_has_the_caption_and_every_cell(table: Table) -> None:
    found = text(table(runs("convae", TOP), SEEDS), "html")
    assert "<caption>Toy. Mean±sample standard deviation over 4 seeds" in found
    assert "Nobody &amp; Co., 2020." in found
    assert found.count("<tr>") == 1 + 8


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("ACC", 1), ("ACC*_clean_map", 1), ("ARI_refit", 1), ("certified_share_at_1s", 1), ("radii.0.1.ACC*", 1),
        ("flip", -1), ("flip_transferred", -1), ("pgd_flip", -1), ("radii.0.5.flip", -1), ("abstained", -1),
        ("noise_flip", 0), ("ACC*_noise", 0), ("pgd_noise_flip", 0), ("delta_norm", 0), ("D", 0), ("shift", 0),
        ("training.total_seconds", 0), ("training.losses.consistency", 0), ("drift.delta_FR", 0),
    ],
)  # fmt: skip
def test_what_is_better_is_told_by_the_metric(name: str, sign: int) -> None:
    assert direction(Metric.parse(name)) == sign
