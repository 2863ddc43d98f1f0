"""Whose each table is: `tables/papers.toml`, the papers in the order of a report, with their tables and findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_cluster.report.spec import PAPERS, check_keys, filled, read_toml, tables_folder

FINDINGS = "findings"  # the folder of the pages that say in prose what was found


@dataclass(frozen=True)
class Paper:
    """One paper, or a study of our own: its `tables` and figures by name, `findings`: a page in findings/ or ""."""

    name: str
    title: str
    source: str
    tables: tuple[str, ...]
    findings: str = ""


OTHERS = Paper("others", "Other tables", "tables of no paper", ())  # for those that papers.toml does not name


def load_papers(folder: Path | None = None) -> list[Paper]:
    """The papers of `folder` (default: the checkout's `tables/`), in their order; none where it has no such file.

    Raises: UnknownNameError for an unknown key, ConfigError for a file that describes no papers.
    """
    path = (folder or tables_folder()) / f"{PAPERS}.toml"
    if not path.exists():
        return []
    content: Mapping[str, Any] = read_toml(path)
    check_keys(content, path.name, required=("papers",))
    return [filled(Paper, entry, f"{path.name} [[papers]]") for entry in content["papers"]]


def paper_of(table: str, papers: Sequence[Paper]) -> Paper:
    """The paper that a table is of; `OTHERS` where none names it."""
    return next((paper for paper in papers if table in paper.tables), OTHERS)
