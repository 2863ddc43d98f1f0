"""The tables of README and RESULTS.md are what the committed records give. `make results` writes them anew."""

import re
from functools import cache
from pathlib import Path

import pytest

from robust_cluster.report.formats import render, replace_block
from robust_cluster.report.spec import load_spec
from robust_cluster.report.table import build, load_results

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tables" / "results"
PAGES = (ROOT / "README.md", ROOT / "tables" / "RESULTS.md")
BLOCKS = [(page, name) for page in PAGES for name in re.findall(r"<!-- table:(\w+-\w+) -->", page.read_text("utf-8"))]

records = cache(load_results)


def block(name: str) -> str:
    """The Markdown of TABLE-PROFILE from the records in tables/results, with the paper's numbers where it has any."""
    table, profile = name.split("-")
    is_published = (ROOT / "tables" / f"{table}.published.csv").exists()
    return str(render(build(load_spec(table), records(RECORDS), profile=profile, compare=is_published), "markdown"))


def test_both_pages_show_results() -> None:
    assert {page for page, _ in BLOCKS} == set(PAGES)


@pytest.mark.parametrize(("page", "name"), BLOCKS, ids=[name for _, name in BLOCKS])
def test_a_table_is_what_the_records_give(page: Path, name: str) -> None:
    text = page.read_text(encoding="utf-8")
    assert replace_block(text, name, block(name)) == text


if __name__ == "__main__":
    for page, name in BLOCKS:
        page.write_text(replace_block(page.read_text(encoding="utf-8"), name, block(name)), encoding="utf-8")
