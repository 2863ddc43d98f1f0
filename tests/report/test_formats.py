import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich import table as rich_table
from rich.console import Console

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.report.flags import MARKS
from robust_cluster.report.formats import render, replace_block
from robust_cluster.report.grid import Grid
from robust_cluster.report.spec import figure_names, load_spec, table_names
from robust_cluster.report.table import build
from robust_cluster.runs.spec import DataRef
from tests.report.toy import Table, record, text

MARKDOWN = r"""**Toy**

| data | method | metric | d = 64 | d = 128 | marks |
| --- | --- | --- | ---: | ---: | --- |
| STL-10 | kmeans | ACC | – | – |  |
|  |  | D | – | – |  |
|  | ConvAE | ACC | 85.0±7.1 / 60.0±14.1\* | – | u |
|  |  | D | 1.25±0.35 | 0.25 (n=1) | u1 |
| digits | kmeans | ACC | 70.0 / 70.0\* (n=1) | – |  |
|  |  | D | 0.00 (n=1) | – |  |
|  | ConvAE | ACC | – | – |  |
|  |  | D | – | – |  |

Mean±sample standard deviation over 2 seeds; a cell with fewer says so. 5 of 8 cells not run (–); 4 of 16 runs found. \
A – in a cell that was run: no labels. \
Marks, for at least one run of the row (a number says of which column): u unconverged. \
4 of 4 attacks have no audit (rc audit RUN). \
Source: Nobody & Co., 2020.
""".replace("\\\n", "")

COMPARED = r"""
| data | method | metric | d = 64, ours | d = 64, paper | d = 64, difference | d = 128, ours | d = 128, paper | d = 128, difference | marks |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| STL-10 | kmeans | ACC | – | – | – | – | – | – |  |
|  |  | D | – | – | – | – | – | – |  |
|  | ConvAE | ACC | 85.0±7.1 / 60.0±14.1\* | 84.7 / 78.1\* | +0.3 / −18.1 | – | 81.2 / – | – | u |
|  |  | D | 1.25±0.35 | illegible | – | 0.25 (n=1) | – | – | u1 |
| digits | kmeans | ACC | 70.0 / 70.0\* (n=1) | not available | – | – | not available | – |  |
"""  # noqa: E501

LATEX = r"""\begin{tabular}{lllrrl}
\toprule
data & method & metric & \multicolumn{1}{c}{d = 64} & \multicolumn{1}{c}{d = 128} & marks \\
\midrule
STL-10 & kmeans & ACC & -- & -- &  \\
 &  & D & -- & -- &  \\
 & ConvAE & ACC & 85.0$\pm$7.1 / 60.0$\pm$14.1* & -- & u \\
 &  & D & 1.25$\pm$0.35 & 0.25 (n=1) & u1 \\
\midrule
digits & kmeans & ACC & 70.0 / 70.0* (n=1) & -- &  \\
 &  & D & 0.00 (n=1) & -- &  \\
 & ConvAE & ACC & -- & -- &  \\
 &  & D & -- & -- &  \\
\bottomrule
\end{tabular}
\end{table}
"""


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return [
        record(seed=0, metrics={"ACC": 0.8, "ACC*": 0.5, "D": 1.0}),
        record(seed=1, metrics={"ACC": 0.9, "ACC*": 0.7, "D": 1.5}, flags=("unconverged",)),
        record(latent_dim=128, metrics={"ACC": None, "ACC*": None, "D": 0.25}),
        record(data=DataRef("digits"), model="kmeans", metrics={"ACC": 0.7, "ACC*": 0.7, "D": 0.0}),
    ]


@pytest.fixture
def grid(table: Table, records: list[dict[str, Any]]) -> Grid:
    return table(records)


@pytest.fixture
def compared(table: Table, records: list[dict[str, Any]]) -> Grid:
    return table(records, compare=True)


def test_markdown_is_the_golden_text(grid: Grid) -> None:
    assert text(grid) == MARKDOWN


def test_the_caption_speaks_of_one_seed_and_of_one_run_where_there_is_no_more(table: Table) -> None:
    place = {"accelerator": None, "cpu": "a CPU", "threads": 1, "commit": "abcdef0123", "dirty": False}
    one = {**record(profile="one"), "environment": place, "training": {"loss": 1.0, "seconds": 100.0}}
    caption = table([one], profile="one").caption
    assert caption[0] == "One seed."
    assert "1 run of this stage, 2 min of training in all on a CPU (1 thread); commit abcdef0." in caption


def test_markdown_puts_the_papers_number_and_the_difference_beside_each_cell(compared: Grid) -> None:
    assert COMPARED in text(compared)
    assert "Difference: ours minus the paper's." in text(compared)


def test_a_table_without_published_numbers_has_no_columns_for_them() -> None:
    grid = build(load_spec("gamma"), [], profile="smoke", compare=True)
    assert "| γ = 20 | γ = 40 | γ = 80 | γ = 160 |" in text(grid)


def test_latex_is_the_golden_text_and_escaped(grid: Grid) -> None:
    head, rest = text(grid, "latex").split(r"\begin{tabular}")
    assert rf"\begin{{tabular}}{rest}" == LATEX
    assert r"\caption{Toy. Mean$\pm$sample standard deviation over 2 seeds" in head
    assert r"Nobody \& Co., 2020." in head


def test_latex_headings_of_two_levels_span_their_columns() -> None:
    latex = text(build(load_spec("table3"), [], profile="paper"), "latex")
    images = ("MNIST", "MNIST, images", "Fashion-MNIST", "Fashion-MNIST, images")
    spans = " & ".join(rf"\multicolumn{{4}}{{c}}{{{name}}}" for name in (*images, "STL-10", "REUTERS-10k"))
    assert rf" &  & {spans} \\" in latex
    assert latex.count(r"\multicolumn{1}{c}{d = 64}") == 6
    assert r"D\_norm" in text(build(load_spec("gamma"), [], profile="paper"), "latex")


def test_a_part_of_the_papers_data_stands_beside_its_number_for_the_whole_without_a_difference(table: Table) -> None:
    one = record(data=DataRef("stl10", limit=100), metrics={"ACC": 0.8})
    shown = text(table([one], ('"stl10"', '{ name = "stl10", limit = 100 }'), compare=True))
    head, _, *lines = (line for line in shown.splitlines() if line.startswith("|"))
    assert "d = 64, paper" in head
    assert "difference" not in head
    assert any("84.7 / 78.1\\*‡" in line for line in lines)
    assert "‡: of the whole data set, of which ours is a part: no difference is taken." in shown


def test_data_that_the_paper_has_no_number_for_get_no_columns_for_it(table: Table) -> None:
    one = record(data=DataRef("mnist10k"), metrics={"ACC": 0.8})
    shown = text(table([one], ('"stl10"', '"mnist10k"'), compare=True))
    assert "| data | method | metric | d = 64 | d = 128 |" in shown
    assert "The paper has no number for these data." in shown


def test_csv_has_one_row_per_number(compared: Grid) -> None:
    rows = list(csv.DictReader(io.StringIO(text(compared, "csv"))))
    assert len(rows) == 8 * 3  # places x (ACC, ACC*, D)
    found = next(row for row in rows if row["mean"] == "60.0")
    assert found == {
        "data": "STL-10",
        "method": "ConvAE",
        "latent_dim": "64",
        "cell": "ACC",
        "metric": "ACC*",
        "mean": "60.0",
        "std": "14.142136",
        "n": "2",
        "paper": "78.1",
        "difference": "-18.1",
        "note": "",
        "flags": "unconverged",
        "whole": "",
    }


def test_json_has_null_and_never_nan_for_what_is_missing(compared: Grid) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads(text(compared, "json"), parse_constant=refuse)
    assert (content["table"], content["profile"], content["statistic"]) == ("toy", "smoke", "mean±std")
    assert len(content["cells"]) == 24
    assert (content["cells"][0]["mean"], content["cells"][0]["std"], content["cells"][0]["n"]) == (None, None, 0)


def test_the_terminal_table_shows_every_cell_and_the_caption(grid: Grid) -> None:
    rendered = render(grid, "terminal")
    assert isinstance(rendered, rich_table.Table)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(rendered)
    shown = " ".join(console.export_text().split())
    for piece in ("STL-10", "d = 128", "85.0±7.1 / 60.0±14.1*", "marks", "u1", "0.25 (n=1)", "5 of 8 cells not run"):
        assert piece in shown


@pytest.mark.parametrize(
    "profile", ["cpu", *(pytest.param(p, marks=pytest.mark.slow) for p in ("paper", "short", "smoke"))]
)
def test_latex_of_every_table_and_figure_is_ascii(profile: str) -> None:
    """What pdfLaTeX sets without further packages; among the captions are accents, daggers and Greek letters."""
    specs = [load_spec(name) for name in (*table_names(), *figure_names())]
    there = [spec for spec in specs if profile in spec.profiles]
    assert there
    for spec in there:
        latex = text(build(spec, [], profile=profile, compare=True), "latex")
        assert latex.isascii(), (spec.name, {char for char in latex if not char.isascii()})


def test_latex_rules_off_the_groups_of_rows_alone() -> None:
    latex = text(build(load_spec("dcan2"), [], profile="smoke"), "latex")
    assert latex.count(r"\midrule") == 1
    one_label = replace(load_spec("dcan2"), rows=("method",))
    assert text(build(one_label, [], profile="smoke"), "latex").count(r"\midrule") == 1


def test_every_flag_has_a_letter_of_its_own() -> None:
    assert len(set(MARKS.values())) == len(MARKS)
    assert (MARKS["not imperceptible"], MARKS["no better than noise"]) == ("i", "n")


def test_a_flag_without_a_mark_is_spelled_out(table: Table) -> None:
    grid = table([record(metrics={"D": 1.0}, flags=("odd", "masked"))])
    assert "| 1.00 (n=1) | – | m [odd] |" in text(grid)


def test_an_unknown_format_is_refused_with_the_nearest(grid: Grid) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown table format 'markdwn'. Did you mean 'markdown'?"):
        render(grid, "markdwn")


def test_a_block_replaces_what_stands_between_its_own_markers_only() -> None:
    readme = "a\n<!-- table:t1 -->\nold\n<!-- /table -->\nb\n<!-- table:t2 -->\nkept\n<!-- /table -->\n"
    changed = replace_block(readme, "t1", r"new \1" + "\n")
    assert changed == readme.replace("old", r"new \1")
    assert replace_block(changed, "t1", r"new \1") == changed


@pytest.mark.parametrize(
    "text", ["", "<!-- table:t1 --> <!-- table:t2 --> <!-- /table -->", "<!-- table:t1 --><!-- /table -->" * 2]
)
def test_a_block_without_its_markers_exactly_once_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="<!-- table:t1 --> and <!-- /table --> exactly once"):
        replace_block(text, "t1", "new")


BEYOND: dict[str, Any] = {
    "metrics": {"ACC": None, "ACC*": None, "D": None},
    "flags": ("out of memory",),
}
OOM_LINES = r"""
| STL-10 | kmeans | ACC | – | – | – | – | – | – |  |
|  |  | D | – | – | – | – | – | – |  |
|  | ConvAE | ACC | OOM | 84.7 / 78.1\* | – | 85.0 / 60.0\* (n=1) | 81.2 / – | +3.8 / – | u2 |
|  |  | D | OOM | illegible | – | 1.50 (n=1) | – | – | u2 |
"""


def beyond(seed: int, gib: int, latent_dim: int = 64) -> dict[str, Any]:
    sizes = {"needed": gib * 2**30, "available": 2**30}
    return {**record(seed=seed, latent_dim=latent_dim, **BEYOND), "memory": sizes, "training": None}


def test_a_cell_whose_runs_were_out_of_memory_says_so_and_the_caption_what_they_need(table: Table) -> None:
    known = record(latent_dim=128, metrics={"ACC": 0.85, "ACC*": 0.6, "D": 1.5}, flags=("unconverged",))
    grid = table([beyond(0, 3), beyond(1, 5), known, beyond(1, 5, latent_dim=128)], compare=True)
    assert OOM_LINES.strip() in text(grid)
    assert "OOM: the fit needs more memory than there was, 3.0 to 5.0 GiB." in grid.caption
    assert not any(sentence.startswith("A – in a cell that was run") for sentence in grid.caption)
    assert "OOM" in text(grid, "latex")
    flags = {row["flags"] for row in csv.DictReader(io.StringIO(text(grid, "csv"))) if row["method"] == "ConvAE"}
    assert flags == {"", "out of memory", "unconverged;out of memory"}  # of digits there is no run
