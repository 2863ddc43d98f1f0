"""A grid as terminal table, Markdown, LaTeX (booktabs), CSV or JSON; the same grid gives the same text."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, get_args

from rich import box
from rich.table import Table
from rich.text import Text

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.report.caption import WHOLE_SET
from robust_cluster.report.grid import Cell, Grid, Labels, Value, long_rows

if TYPE_CHECKING:
    from robust_cluster.metrics.bootstrap import Interval

Format = Literal["terminal", "markdown", "latex", "csv", "json"]
MARKS = "marks"  # heading of the last column, where any cell has a flag
MISSING = "–"
NOT_AVAILABLE = "not available"
LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
    "◇": r"$\diamond$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "α": r"$\alpha$",
    "γ": r"$\gamma$",
    "Δ": r"$\Delta$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "μ\u0303": r"$\tilde{\mu}$",
    "σ": r"$\sigma$",
    "₀": "$_0$",
    "₁": "$_1$",
}


LATEX_TEXT = re.compile("|".join(re.escape(key) for key in sorted(LATEX, key=len, reverse=True)))


def render(grid: Grid, format: str) -> str | Table:
    """The grid as text, or as a rich Table for "terminal". Raises: UnknownNameError for another format."""
    match format:
        case "terminal":
            return _terminal(grid)
        case "markdown":
            return _markdown(grid)
        case "latex":
            return _latex(grid)
        case "csv":
            return _csv(grid)
        case "json":
            return _json(grid)
        case _:
            raise UnknownNameError("table format", format, get_args(Format))


def replace_block(text: str, name: str, block: str) -> str:
    """`text` with `block` between `<!-- table:NAME -->` and `<!-- /table -->`.

    Raises: ConfigError unless the two markers stand there exactly once.
    """
    opening, closing = f"<!-- table:{name} -->", "<!-- /table -->"
    inside = re.compile(f"(?<={re.escape(opening)})(?:(?!<!-- table:).)*?(?={re.escape(closing)})", re.DOTALL)
    if len(inside.findall(text)) != 1:
        raise ConfigError(f"The text must have the markers {opening} and {closing} exactly once")
    return inside.sub(lambda _: f"\n{block.strip()}\n", text)


def _number(value: float | None, spec: str) -> str:
    return MISSING if value is None else format(value, spec).replace("-", "−")


def _join(parts: Iterable[str]) -> str:
    """Numbers that share a cell; a cell without any number is one dash."""
    found = list(parts)
    return MISSING if set(found) == {MISSING} else " / ".join(found)


def _starred(text: str, value: Value) -> str:
    return f"{text}*" if value.metric.is_starred and text != MISSING else text


def _printed(value: Value, digits: int) -> str:
    """The paper's number, or what it printed in its place."""
    return value.note if value.paper is None and value.note else _starred(_number(value.paper, f".{digits}f"), value)


def _ours(cell: Cell, n_seeds: int) -> str:
    spec = f"z.{cell.format.digits}f"
    spreads = ["" if value.std is None else f"±{value.std:{spec}}" for value in cell.values]
    joined = _join(_starred(_number(v.mean, spec) + s, v) for v, s in zip(cell.values, spreads, strict=True))
    n = min((value.n for value in cell.values if value.n), default=n_seeds)
    return f"{joined}{f' (n={n})' if n != n_seeds else ''}"


def _spread(cell: Cell) -> str:
    """The cell's numbers with their intervals, then the change between its clean and attacked number, then n."""
    spec = f"z.{cell.format.digits}f"

    def within(interval: "Interval | None") -> str:
        return "" if interval is None else f" [{_number(interval.low, spec)}, {_number(interval.high, spec)}]"

    joined = _join(_starred(_number(v.mean, spec), v) + within(v.interval) for v in cell.values)
    change = "".join(f"; Δ {_number(one.mean, f'+{spec}')}{within(one)}" for one in cell.changes)
    counts = [f"{v.n}×{v.interval.samples:,}" if v.interval and v.interval.samples else str(v.n) for v in cell.values]
    return f"{joined}{change} (n={' / '.join(dict.fromkeys(counts))})"


def _texts(cell: Cell, grid: Grid) -> dict[str, str]:
    """What a cell shows: "ours", and beside the paper's numbers also "paper" and "difference"."""
    full = 1 if grid.spec.statistic == "best_loss" else grid.n_seeds
    ours = _spread(cell) if grid.intervals and any(v.n for v in cell.values) else _ours(cell, full)
    if not grid.compare:
        return {"ours": ours}
    digits = cell.format.digits
    paper = _join(_printed(value, digits) for value in cell.values)
    change = _join(_number(value.difference, f"+z.{digits}f") for value in cell.values)
    if not cell.comparable:
        whole = _join(_starred(_number(value.whole, f".{digits}f"), value) for value in cell.values)
        paper = NOT_AVAILABLE if whole == MISSING else whole + WHOLE_SET
    return {"ours": ours, "paper": paper, "difference": change}


def _parts(grid: Grid, column: Labels) -> tuple[str, ...]:
    """Which of `_texts` a column shows: the paper's number only if it has any, the difference only if one is taken."""
    cells = [grid.cells[row, column] for row in grid.rows]
    if not grid.compare or {_texts(cell, grid)["paper"] for cell in cells} <= {MISSING, NOT_AVAILABLE}:
        return ("ours",)
    return ("ours", "paper", "difference") if any(cell.comparable for cell in cells) else ("ours", "paper")


def _columns(grid: Grid) -> list[Labels]:
    """The heading of every column of numbers, one label per level."""
    parts = {column: _parts(grid, column) for column in grid.columns}
    has_paper = any(len(shown) > 1 for shown in parts.values())
    headings = []
    for column, shown in parts.items():
        named = tuple(_heading(grid, axis, label) for axis, label in zip(grid.spec.columns, column, strict=True))
        headings += [(*named, part) for part in shown] if has_paper else [named]
    return headings


def _heading(grid: Grid, axis: str, label: str) -> str:
    return f"{grid.symbols[axis]} = {label}" if axis in grid.symbols else label


def _marks(grid: Grid) -> list[str]:
    """The heading of the column of marks, in a table that has any."""
    return [MARKS] if any(cell.flags for cell in grid.cells.values()) else []


def _body(grid: Grid) -> list[tuple[list[str], list[str]]]:
    """(row labels, texts of cells and the marks) per row; a label that repeats the row above is blank."""
    lines = []
    above: Labels = ()
    parts = {column: _parts(grid, column) for column in grid.columns}
    for row in grid.rows:
        shown = [_heading(grid, axis, label) for axis, label in zip(grid.spec.rows, row, strict=True)]
        heads = ["" if row[: i + 1] == above[: i + 1] else label for i, label in enumerate(shown)]
        texts = {column: _texts(grid.cells[row, column], grid) for column in grid.columns}
        cells = [texts[column][part] for column in grid.columns for part in parts[column]]
        lines.append((heads, cells + [grid.marks(row) for _ in _marks(grid)]))
        above = row
    return lines


def _terminal(grid: Grid) -> Table:
    table = Table(title=Text(grid.spec.title), caption=Text(" ".join(grid.caption)), box=box.SIMPLE_HEAD)
    for axis in grid.spec.rows:
        table.add_column(axis, overflow="fold")
    for column in _columns(grid):
        table.add_column(Text("\n".join(column)), justify="right", overflow="fold")
    for heading in _marks(grid):
        table.add_column(heading, overflow="fold")
    for heads, texts in _body(grid):
        if any(heads[:-1]) and table.row_count:
            table.add_section()
        table.add_row(*(Text(text) for text in heads + texts))
    return table


def _markdown(grid: Grid) -> str:
    def line(parts: Iterable[str]) -> str:
        return "| " + " | ".join(part.replace("|", r"\|").replace("*", r"\*") for part in parts) + " |"

    columns, marks = [", ".join(column) for column in _columns(grid)], _marks(grid)
    rule = ["---"] * len(grid.spec.rows) + ["---:"] * len(columns) + ["---"] * len(marks)
    lines = [f"**{grid.spec.title}**", "", line([*grid.spec.rows, *columns, *marks]), line(rule)]
    lines += [line(heads + texts) for heads, texts in _body(grid)]
    return "\n".join([*lines, "", " ".join(grid.caption).replace("*", r"\*")]) + "\n"


def _latex(grid: Grid) -> str:
    columns, marks = _columns(grid), _marks(grid)
    n_heads = len(grid.spec.rows)
    heading = []
    for level in range(len(columns[0])):
        last = level == len(columns[0]) - 1
        heads, end = (
            ([_escape(axis) for axis in grid.spec.rows], marks) if last else ([""] * n_heads, [""] * len(marks))
        )
        spans = [(prefix[-1], len(list(group))) for prefix, group in groupby(column[: level + 1] for column in columns)]
        parts = [rf"\multicolumn{{{n}}}{{c}}{{{_escape(label)}}}" for label, n in spans]
        heading.append(" & ".join(heads + parts + end) + r" \\")
    body: list[str] = []
    for heads, texts in _body(grid):
        if n_heads > 1 and heads[0] and body:
            body.append(r"\midrule")
        body.append(" & ".join(_escape(text) for text in heads + texts) + r" \\")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(grid.spec.title)}. {_escape(' '.join(grid.caption))}}}",
            rf"\begin{{tabular}}{{{'l' * n_heads}{'r' * len(columns)}{'l' * len(marks)}}}",
            r"\toprule",
            *heading,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escape(text: str) -> str:
    """The text as LaTeX writes it; of the keys of `LATEX` the longest that fits is replaced."""
    return LATEX_TEXT.sub(lambda found: LATEX[found[0]], text)


def _csv(grid: Grid) -> str:
    return csv_of([{**row, "flags": ";".join(row["flags"])} for row in long_rows(grid)])


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Flat rows, at least one, as CSV under the names of the first."""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _json(grid: Grid) -> str:
    head = {"table": grid.spec.name, "title": grid.spec.title, "source": grid.spec.source, "profile": grid.profile}
    content = {**head, "statistic": grid.spec.statistic, "caption": grid.caption, "cells": long_rows(grid)}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
