"""A grid as terminal table, Markdown, LaTeX (booktabs), HTML, CSV or JSON; the same grid gives the same text."""

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from robust_cluster.errors import ConfigError, UnknownNameError
from robust_cluster.report.caption import OOM, WHOLE_SET
from robust_cluster.report.grid import Cell, Grid, Labels, Value, long_rows

if TYPE_CHECKING:
    from robust_cluster.metrics.bootstrap import Interval

PARTS = ("ours", "paper", "difference")  # of a cell beside the paper's numbers, else "ours" alone
MARKS = "marks"  # heading of the last column, where any cell has a flag
MISSING = "–"
OPEN, CLOSE = "\ue000", "\ue001"  # around what is bold, until a format writes it in its own way
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
    OPEN: r"\textbf{",
    CLOSE: "}",
}
LATEX_TEXT = re.compile("|".join(re.escape(key) for key in sorted(LATEX, key=len, reverse=True)))


@dataclass(frozen=True)
class Lines:
    """A table as texts: a heading per column, one label per level; to which side a column leans, "l" or "r"; the rows.

    A row's label that repeats the row above is blank, and so is a level that a column has no label for.
    """

    headings: list[Labels]
    sides: str
    rows: list[list[str]]


def render(grid: Grid, format: str) -> str | Table:
    """The grid as text, or as a rich Table for "terminal". Raises: UnknownNameError for another format."""
    formats: dict[str, Callable[[Grid], str | Table]] = {
        "terminal": _terminal,
        "markdown": _markdown,
        "latex": _latex,
        "html": _html,
        "csv": _csv,
        "json": _json,
    }
    if format not in formats:
        raise UnknownNameError("table format", format, formats)
    return formats[format](grid)


def replace_block(text: str, name: str, block: str) -> str:
    """`text` with `block` between `<!-- table:NAME -->` and `<!-- /table -->`.

    Raises: ConfigError unless the two markers stand there exactly once.
    """
    opening, closing = f"<!-- table:{name} -->", "<!-- /table -->"
    inside = re.compile(f"(?<={re.escape(opening)})(?:(?!<!-- table:).)*?(?={re.escape(closing)})", re.DOTALL)
    if len(inside.findall(text)) != 1:
        raise ConfigError(f"The text must have the markers {opening} and {closing} exactly once")
    return inside.sub(lambda _: f"\n{block.strip()}\n", text)


def number(value: float | None, spec: str) -> str:
    """A number with a minus that is as long as a plus; a dash for None."""
    return MISSING if value is None else format(value, spec).replace("-", "−")


def _join(parts: Iterable[str]) -> str:
    """Numbers that share a cell; a cell without any number is one dash."""
    found = list(parts)
    return MISSING if set(found) == {MISSING} else " / ".join(found)


def _bold(text: str, is_best: bool) -> str:
    return f"{OPEN}{text}{CLOSE}" if is_best else text


def _starred(text: str, value: Value) -> str:
    return f"{text}*" if value.metric.is_starred and text != MISSING else text


def _printed(value: Value, digits: int) -> str:
    """The paper's number, or what it printed in its place."""
    if value.paper is None and value.note:
        return value.note
    return _bold(_starred(number(value.paper, f".{digits}f"), value), value.is_best_paper)


def _ours(cell: Cell, n_seeds: int) -> str:
    spec = f"z.{cell.format.digits}f"
    spreads = ["" if value.std is None else f"±{value.std:{spec}}" for value in cell.values]
    pairs = zip(cell.values, spreads, strict=True)
    joined = _join(_bold(_starred(number(v.mean, spec) + s, v), v.is_best) for v, s in pairs)
    if cell.is_out_of_memory:
        return OOM
    n = min((value.n for value in cell.values if value.n), default=n_seeds)
    return f"{joined}{f' (n={n})' if n != n_seeds else ''}"


def _spread(cell: Cell) -> str:
    """The cell's numbers with their intervals, then the change between its clean and attacked number, then n."""
    spec = f"z.{cell.format.digits}f"

    def within(interval: "Interval | None") -> str:
        return "" if interval is None else f" [{number(interval.low, spec)}, {number(interval.high, spec)}]"

    joined = _join(_bold(_starred(number(v.mean, spec), v), v.is_best) + within(v.interval) for v in cell.values)
    change = "".join(f"; Δ {number(one.mean, f'+{spec}')}{within(one)}" for one in cell.changes)
    counts = [f"{v.n}×{v.interval.samples:,}" if v.interval and v.interval.samples else str(v.n) for v in cell.values]
    return f"{joined}{change} (n={' / '.join(dict.fromkeys(counts))})"


def shown(cell: Cell, grid: Grid) -> tuple[str, str, str]:
    """What a cell shows, a text for each of `PARTS`."""
    full = 1 if grid.spec.statistic == "best_loss" else grid.n_seeds
    ours = _spread(cell) if grid.intervals and any(v.n for v in cell.values) else _ours(cell, full)
    digits = cell.format.digits
    change = _join(number(value.difference, f"+z.{digits}f") for value in cell.values)
    if cell.comparable:
        return ours, _join(_printed(value, digits) for value in cell.values), change
    texts = (_bold(_starred(number(v.whole, f".{digits}f"), v), v.is_best_paper) for v in cell.values)
    whole = _join(texts)
    return ours, NOT_AVAILABLE if whole == MISSING else whole + WHOLE_SET, change


def parts_of(grid: Grid, texts: Mapping[tuple[Labels, Labels], tuple[str, str, str]]) -> dict[Labels, int]:
    """How many of `PARTS` each column has: the paper's number only if there is one, the difference if one is taken."""
    parts: dict[Labels, int] = {}
    for column in grid.columns:
        has_paper = grid.compare and any(texts[row, column][1] not in (MISSING, NOT_AVAILABLE) for row in grid.rows)
        has_change = any(grid.cells[row, column].comparable for row in grid.rows)
        parts[column] = 1 + has_paper + (has_paper and has_change)
    return parts


def lines_of(grid: Grid) -> Lines:
    """The table as texts, which every format joins in its own way: row labels, numbers, and marks if there are any."""
    spec, texts_of = grid.spec, {place: shown(cell, grid) for place, cell in grid.cells.items()}
    parts = parts_of(grid, texts_of)
    headings: list[Labels] = []
    for column, n in parts.items():
        named = tuple(map(spec.heading, spec.columns, column))
        headings += [(*named, part) for part in PARTS[:n]] if max(parts.values()) > 1 else [named]
    blank, marked = ("",) * (len(headings[0]) - 1), any(cell.flags for cell in grid.cells.values())
    rows, above = [], Labels()
    for row in grid.rows:
        labels = map(spec.heading, spec.rows, row)
        texts = ["" if row[:i] == above[:i] else label for i, label in enumerate(labels, start=1)]
        texts += [text for column, n in parts.items() for text in texts_of[row, column][:n]]
        rows.append([*texts, *([grid.marks(row)] if marked else [])])
        above = row
    return Lines(
        headings=[*((*blank, axis) for axis in spec.rows), *headings, *([(*blank, MARKS)] if marked else [])],
        sides="l" * len(spec.rows) + "r" * len(headings) + "l" * marked,
        rows=rows,
    )


def _terminal(grid: Grid) -> Table:
    table = Table(title=Text(grid.spec.title), caption=Text(" ".join(grid.caption)), box=box.SIMPLE_HEAD)
    lines, last_label = lines_of(grid), len(grid.spec.rows) - 1
    for heading, side in zip(lines.headings, lines.sides, strict=True):
        justify: Literal["left", "right"] = "right" if side == "r" else "left"
        table.add_column(Text("\n".join(filter(None, heading))), justify=justify, overflow="fold")
    for row in lines.rows:
        if any(row[:last_label]) and table.row_count:
            table.add_section()
        table.add_row(*map(_styled, row))
    return table


def _styled(text: str) -> Text:
    found = Text()
    for part in re.split(f"({OPEN}.*?{CLOSE})", text):
        found.append(part.strip(OPEN + CLOSE), style="bold" if part.startswith(OPEN) else None)
    return found


def _markdown(grid: Grid) -> str:
    def line(parts: Iterable[str]) -> str:
        escaped = (part.replace("|", r"\|").replace("*", r"\*") for part in parts)
        return "| " + " | ".join(part.replace(OPEN, "**").replace(CLOSE, "**") for part in escaped) + " |"

    lines = lines_of(grid)
    heads = line(", ".join(filter(None, heading)) for heading in lines.headings)
    rule = line("---:" if side == "r" else "---" for side in lines.sides)
    caption = " ".join(grid.caption).replace("*", r"\*")
    return "\n".join([f"**{grid.spec.title}**", "", heads, rule, *map(line, lines.rows), "", caption, ""])


def _latex(grid: Grid) -> str:
    def line(parts: Iterable[str]) -> str:
        return " & ".join(parts) + r" \\"

    def spans(level: int) -> Iterator[str]:
        labeled = zip((heading[: level + 1] for heading in lines.headings), lines.sides, strict=True)
        for (labels, side), group in groupby(labeled):
            n, label = len(list(group)), _escape(labels[-1])
            yield from [rf"\multicolumn{{{n}}}{{c}}{{{label}}}"] if side == "r" else [label] * n

    lines = lines_of(grid)
    body: list[str] = []
    for row in lines.rows:
        if len(grid.spec.rows) > 1 and row[0] and body:
            body.append(r"\midrule")
        body.append(line(map(_escape, row)))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(grid.spec.title)}. {_escape(' '.join(grid.caption))}}}",
            rf"\begin{{tabular}}{{{lines.sides}}}",
            r"\toprule",
            *(line(spans(level)) for level in range(len(lines.headings[0]))),
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


def _html(grid: Grid) -> str:
    def line(parts: Iterable[str], tag: str = "td") -> str:
        sides = zip(parts, lines.sides, strict=True)
        cells = (
            f"<{tag} style='text-align: {'right' if side == 'r' else 'left'}'>"
            f"{html.escape(text).replace(OPEN, '<b>').replace(CLOSE, '</b>')}</{tag}>"
            for text, side in sides
        )
        return f"<tr>{''.join(cells)}</tr>"

    lines = lines_of(grid)
    return "\n".join(
        [
            "<table>",
            f"<caption>{html.escape(grid.spec.title)}. {html.escape(' '.join(grid.caption))}</caption>",
            f"<thead>{line((', '.join(filter(None, heading)) for heading in lines.headings), 'th')}</thead>",
            "<tbody>",
            *map(line, lines.rows),
            "</tbody>",
            "</table>",
            "",
        ]
    )


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
