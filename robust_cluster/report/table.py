"""A paper's table from run records: the public entrance to what answers.py, grid.py and caption.py make of them."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from robust_cluster.errors import DataError, MissingResultError
from robust_cluster.report import threats
from robust_cluster.report.answers import Record, select
from robust_cluster.report.bold import Bold
from robust_cluster.report.caption import sentences
from robust_cluster.report.compare import Published, load_published
from robust_cluster.report.grid import Grid, grid_of
from robust_cluster.report.spec import TableSpec, requests
from robust_cluster.runs.record import checked, read
from robust_cluster.runs.spec import Precision

ELSEWHERE = "this file holds no records of runs, or some that were changed by hand: give another folder"


def build(
    spec: TableSpec,
    records: Iterable[Record],
    *,
    profile: str,
    compare: bool = False,
    intervals: bool = False,
    bold: Bold | None = None,
    keys: Collection[str] | None = None,
    precision: Precision = "medium",
) -> Grid:
    """The table's grid from records of the profile, or from the records of exactly these `keys`.

    Of runs that were trained at several precisions it takes that of `precision`, where a row asks for none.

    Raises: UnknownNameError for the profile; ConfigError when two runs answer one cell and seed, or when a column
    holds different threat models.
    """
    if not compare:  # a row of the paper alone would be one of dashes
        spec = replace(spec, methods=tuple(method for method in spec.methods if not method.published_only))
    usable = [r for r in records if (r["profile"] == profile if keys is None else r["key"] in keys)]
    asked = requests(spec, profile)
    answers = list(zip(asked, select(asked, usable, precision=precision), strict=True))
    threats.check(spec, answers)
    published = load_published(spec.name, spec.folder) if compare else Published({})
    grid = grid_of(spec, profile, answers, published=published, intervals=intervals, bold=bold, records=usable)
    return replace(grid, caption=tuple(sentences(grid, answers)))


def load_results(folder: Path) -> list[Record]:
    """The records of every JSON file in `folder`; a file holds one record or a list of them.

    Raises: MissingResultError without the folder; StoreError for what is no record; DataError for two of one key.
    """
    if not folder.is_dir():
        raise MissingResultError(f"There is no folder of results {folder}")
    found: dict[str, Record] = {}
    for path in sorted(folder.glob("*.json")):
        for record in read_records(path):
            if record["key"] in found:
                raise DataError(f"Run {record['key']} is in {folder} twice, the second time in {path.name}")
            found[record["key"]] = record
    return list(found.values())


def read_records(path: Path) -> list[Record]:
    """The records of a JSON file, which holds one or a list of them. Raises: StoreError for what is no record."""
    content = read(path.read_bytes(), path, hint=ELSEWHERE)
    return [checked(record, path, hint=ELSEWHERE) for record in (content if isinstance(content, list) else [content])]
