"""Whose each table is."""

from pathlib import Path

import pytest

from robust_cluster.errors import UnknownNameError
from robust_cluster.report.papers import FINDINGS, OTHERS, load_papers, paper_of
from robust_cluster.report.spec import figure_names, table_names, tables_folder


def test_every_table_and_figure_is_of_exactly_one_paper() -> None:
    named = [name for paper in load_papers() for name in paper.tables]
    assert sorted(named) == sorted([*table_names(), *figure_names()])


def test_every_page_of_findings_is_that_of_a_paper() -> None:
    pages = {path.name for path in (tables_folder() / FINDINGS).glob("*.md")}
    assert {paper.findings for paper in load_papers() if paper.findings} == pages


def test_a_table_that_no_paper_names_is_one_of_the_others(tmp_path: Path) -> None:
    assert load_papers(tmp_path) == []
    assert paper_of("mine", load_papers()) is OTHERS
    assert paper_of("lpvdn3", load_papers()).title == "LPVDN"


def test_a_misspelt_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    text = '[[papers]]\nname = "a"\ntitle = "A"\nsource = "B"\ntabels = ["t"]\n'
    (tmp_path / "papers.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UnknownNameError, match="Did you mean 'tables'"):
        load_papers(tmp_path)
