"""The README's result tables are what the committed records give. `make readme` writes them anew."""

import re
from pathlib import Path

import pytest

from robust_cluster.report.formats import render, replace_block
from robust_cluster.report.spec import load_spec
from robust_cluster.report.table import build, load_results

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCKS = re.findall(r"<!-- table:(\w+-\w+) -->", README.read_text(encoding="utf-8"))


def block(name: str) -> str:
    """The Markdown of TABLE-PROFILE from the records in tables/results, with the paper's numbers where it has any."""
    table, profile = name.split("-")
    is_published = (ROOT / "tables" / f"{table}.published.csv").exists()
    records = load_results(ROOT / "tables" / "results")
    return str(render(build(load_spec(table), records, profile=profile, compare=is_published), "markdown"))


def test_the_readme_shows_results() -> None:
    assert BLOCKS


@pytest.mark.parametrize("name", BLOCKS)
def test_a_table_of_the_readme_is_what_the_records_give(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    assert replace_block(text, name, block(name)) == text


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for name in BLOCKS:
        text = replace_block(text, name, block(name))
    README.write_text(text, encoding="utf-8")
