"""A grid as a report shows it: headings that span, rows in groups, and cells that know their runs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from robust_cluster.measure.metric import MATCHED
from robust_cluster.report.flags import MARKS, MEANING, merged
from robust_cluster.report.formats import PARTS, number, parts_of, shown
from robust_cluster.report.grid import Cell, Grid, Labels, Value, axes_of, records_of
from robust_cluster.runs.record import OUT_OF_MEMORY

POINTS = (1.0, 5.0, 10.0)  # of a difference of two shares: where its color gets stronger
PARTIAL = (0.05, 0.2, 0.5)  # of the paper's number, for any other
SHARES = (*MATCHED, "flip")  # scores that are shares, however a table writes them
Step = int  # of a difference's color, from -3 (far below the paper) to 3 (far above)


@dataclass(frozen=True)
class Heading:
    """A column heading, over so many columns."""

    text: str
    span: int


@dataclass(frozen=True)
class Difference:
    """Ours minus the paper's, as text, and how strongly it is colored."""

    text: str
    step: Step


@dataclass(frozen=True)
class Entry:
    """What stands in a cell: ours, its marks, the paper's and the differences; `place`: number of its runs' place.

    `place` is None where nothing was run; `paper` and `differences` where the column has none.
    """

    ours: str
    marks: str
    place: int | None
    paper: str | None
    differences: tuple[Difference, ...] | None


@dataclass(frozen=True)
class Row:
    """A row: its labels with the rows that each spans, 0 for one that an earlier row spans; its entries."""

    labels: tuple[tuple[str, int], ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Group:
    """Rows under one label of the first axis; "" where the table has one row axis."""

    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Place:
    """The runs of a place of a table: all its cells that differ in the metric alone show these."""

    label: str
    runs: tuple[str, ...]  # keys


@dataclass(frozen=True)
class Table:
    """A table ready to be written; `has_runs`: of how many of its cells, `n_cells`."""

    name: str
    profile: str
    title: str
    caption: tuple[str, ...]
    corner: tuple[str, ...]
    headings: tuple[tuple[Heading, ...], ...]
    groups: tuple[Group, ...]
    first: int  # number of its first place
    places: tuple[Place, ...]
    marks: tuple[tuple[str, str, str], ...]  # letter, flag, meaning
    has_runs: int
    n_cells: int
    n_found: int
    compares: bool

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return f"{self.name}-{self.profile}"

    @property
    def width(self) -> int:
        """How many columns it has."""
        return len(self.corner) + sum(heading.span for heading in self.headings[0])


def table_of(grid: Grid, first: int = 0) -> Table:
    """The table; its places are numbered from `first` on."""
    places, numbered = places_of(grid, first)
    texts = {place: shown(cell, grid) for place, cell in grid.cells.items()}
    parts = parts_of(grid, texts)
    entries = {at: entry_of(grid, at, texts[at], parts[at[1]], numbered) for at in grid.cells}
    flags = merged(cell.flags for cell in grid.cells.values())
    known = [cell for cell in grid.cells.values() if any(value.n for value in cell.values) or cell.is_out_of_memory]
    return Table(
        name=grid.spec.name,
        profile=grid.profile,
        title=grid.spec.title,
        caption=grid.caption,
        corner=tuple(grid.spec.rows[1:] if len(grid.spec.rows) > 1 else grid.spec.rows),
        headings=tuple(headings_of(grid, parts)),
        groups=tuple(groups_of(grid, entries)),
        first=first,
        places=places,
        marks=tuple((letter_of(flag), flag, MEANING.get(flag, "")) for flag in flags if flag != OUT_OF_MEMORY),
        has_runs=len(known),
        n_cells=len(grid.cells),
        n_found=len(grid.runs),
        compares=any(count == len(PARTS) for count in parts.values()),
    )


def letter_of(flag: str) -> str:
    """How a table writes a flag."""
    return MARKS.get(flag, f"[{flag}]")


def places_of(grid: Grid, first: int) -> tuple[tuple[Place, ...], dict[Labels, int]]:
    """The places that have runs, in the order of the table, and the number of each by its labels."""
    axes, found = axes_of(grid.spec), defaultdict(list)
    for run in records_of(grid.runs):
        found[tuple(run[axis] for axis in axes)].append(run)
    places: list[Place] = []
    numbered: dict[Labels, int] = {}
    for at, runs in found.items():
        numbered[at] = first + len(places)
        labels = [grid.spec.heading(axis, label) for axis, label in zip(axes, at, strict=True)]
        runs.sort(key=lambda run: (run["seed"], -1 if run["attack_seed"] is None else run["attack_seed"]))
        places.append(Place(", ".join(labels), tuple(run["record"]["key"] for run in runs)))
    return tuple(places), numbered


def headings_of(grid: Grid, parts: dict[Labels, int]) -> Iterator[tuple[Heading, ...]]:
    """The rows of headings: one for each axis of the columns, then ours, paper and difference where they differ."""
    spec = grid.spec
    for level in range(len(spec.columns)):
        row = []
        for above, group in groupby(parts, key=lambda column: column[: level + 1]):
            label = spec.heading(spec.columns[level], above[-1])
            row.append(Heading(label, sum(parts[column] for column in group)))
        yield tuple(row)
    if max(parts.values()) > 1:
        yield tuple(Heading(part, 1) for count in parts.values() for part in PARTS[:count])


def groups_of(grid: Grid, entries: dict[tuple[Labels, Labels], Entry]) -> Iterator[Group]:
    """The rows under each label of the first axis; of one axis alone all rows in one group."""
    spec, depth = grid.spec, len(grid.spec.rows)
    for first, group in groupby(grid.rows, key=lambda row: row[0] if depth > 1 else ""):
        inside = list(group)
        rows = []
        for i, row in enumerate(inside):
            named = list(enumerate(row))[1 if depth > 1 else 0 :]
            labels = [(spec.heading(spec.rows[level], label), spanned(inside, i, level)) for level, label in named]
            rows.append(Row(tuple(labels), tuple(entries[row, column] for column in grid.columns)))
        yield Group(spec.heading(spec.rows[0], first) if depth > 1 else "", tuple(rows))


def spanned(rows: Sequence[Labels], i: int, level: int) -> int:
    """How many rows from the i-th on have its label of a level; 0 where the row before has it too."""
    alike = rows[i][: level + 1]
    if i and rows[i - 1][: level + 1] == alike:
        return 0
    return next((j for j, row in enumerate(rows[i:]) if row[: level + 1] != alike), len(rows) - i)


def entry_of(
    grid: Grid, at: tuple[Labels, Labels], texts: tuple[str, str, str], parts: int, numbered: dict[Labels, int]
) -> Entry:
    """The content of one cell, at a row and a column."""
    spec, cell = grid.spec, grid.cells[at]
    labels = dict(zip(spec.rows + spec.columns, at[0] + at[1], strict=True))
    return Entry(
        ours=texts[0],
        marks=" ".join(letter_of(flag) for flag in cell.flags if flag != OUT_OF_MEMORY),
        place=numbered.get(tuple(labels[axis] for axis in axes_of(spec))),
        paper=texts[1] if parts > 1 else None,
        differences=tuple(differences_of(cell)) if parts > 2 else None,
    )


def differences_of(cell: Cell) -> Iterator[Difference]:
    """The differences of a cell, each with the step of its color."""
    for value in cell.values if cell.comparable else ():
        if value.difference is not None:
            text = number(value.difference, f"+z.{cell.format.digits}f")
            yield Difference(text, step_of(value, cell.format.scale))


def step_of(value: Value, scale: float) -> Step:
    """How strongly a difference is colored: by points for shares, for others by its part of the paper's number."""
    difference, paper = value.difference or 0.0, value.paper or 0.0
    if value.metric.score in SHARES:
        step = sum(100 * abs(difference) / scale >= limit for limit in POINTS)
    else:
        step = sum(abs(difference) >= limit * abs(paper) > 0 for limit in PARTIAL)
    return step if difference > 0 else -step
