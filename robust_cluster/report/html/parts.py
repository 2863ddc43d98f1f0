"""The tables and figures of a report: which are asked for, and each made as far as there are runs."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_cluster.errors import ConfigError, RobustClusterError, UnknownNameError
from robust_cluster.report.answers import Answer, Record, select
from robust_cluster.report.html.runs import Lines
from robust_cluster.report.html.tables import Place, Table, table_of
from robust_cluster.report.papers import Paper, paper_of
from robust_cluster.report.spec import TableSpec, figure_names, load_spec, narrowed, requests, table_names
from robust_cluster.report.table import build
from robust_cluster.runs.spec import RunSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from robust_cluster.report.grid import Grid
    from robust_cluster.report.spec import CellRequest

OWN_AXES = ("paper", "table")  # of --only, beside those of the tables
DRAWN = ("lines", "heat", "learning")  # kinds of figure that records alone are enough for


@dataclass(frozen=True)
class Chosen:
    """What a report is asked for: profiles (none: all that the records have), a part, the tables' folder, logs."""

    profile: str | None = None
    only: Mapping[str, Collection[str]] | None = None
    folder: Path | None = None
    lines: Lines | None = None


@dataclass(frozen=True)
class Drawn:
    """A figure on the page: its SVG, or the sentence that says why there is none. `on_white`: its colors need white."""

    name: str
    title: str
    svg: str = ""
    why: str = ""
    on_white: bool = False


@dataclass(frozen=True)
class Part:
    """A table of a paper under one profile, with its figure where it is one; `failure` says why it cannot be made."""

    name: str
    profile: str
    title: str
    n_cells: int = 0
    has_runs: int = 0
    n_found: int = 0
    n_asked: int = 0
    table: Table | None = None
    figure: Drawn | None = None
    failure: str = ""

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return f"{self.name}-{self.profile}"


def chosen_specs(
    papers: Sequence[Paper], profiles: Sequence[str], only: Mapping[str, Collection[str]], folder: Path | None
) -> Iterator[tuple[TableSpec, str]]:
    """Each table with each profile that it has, in the order of the papers, narrowed to the part that is asked for.

    A table that has none of an axis's values is left out. Raises: UnknownNameError for what no table has.
    """
    known = [*table_names(folder), *figure_names(folder)]
    named = [name for paper in papers for name in paper.tables if name in known]
    for axis, allowed in (("table", known), ("paper", [paper.name for paper in papers])):
        for value in only.get(axis, ()):
            if value not in allowed:
                raise UnknownNameError(axis, value, allowed)
    axes = {axis: values for axis, values in only.items() if axis not in OWN_AXES}
    refusals: list[UnknownNameError] = []
    found = []
    for name in (*named, *(name for name in known if name not in named)):
        own = {"table": name, "paper": paper_of(name, papers).name}
        if any(value not in only.get(axis, [value]) for axis, value in own.items()):
            continue
        spec = load_spec(name, folder)
        for profile in (one for one in profiles if one in spec.profiles):
            try:
                found.append((narrowed(spec, profile, axes), profile))
            except UnknownNameError as error:
                refusals.append(error)
    if not found and refusals:
        raise refusals[0]
    yield from found


def parts_of(
    specs: Iterable[tuple[TableSpec, str]], records: Sequence[Record], chosen: Chosen
) -> tuple[list[Part], list[Place]]:
    """Every table, made as far as there are runs, and the places of all."""
    of_model: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        spec = record["spec"]
        of_model[record["profile"], "" if spec["stage"] == "pretrain" else spec["model"]].append(record)
    parts: list[Part] = []
    places: list[Place] = []
    for table, profile in specs:
        asked = requests(table, profile)
        part = Part(table.name, profile, table.title, n_asked=len(asked))
        models = sorted({one.model for one in asked})
        if any(of_model[profile, model] for model in models):  # pretrainings have the name of another model
            usable = [record for model in ("", *models) for record in of_model[profile, model]]
            part = filled(part, table, usable, chosen, len(places))
        parts.append(part)
        places += part.table.places if part.table else ()
    return parts, places


def filled(part: Part, spec: TableSpec, records: Sequence[Record], chosen: Chosen, first: int) -> Part:
    """A part with its table, whose places are numbered from `first` on; without one where no cell has a run."""
    try:
        grid = build(spec, records, profile=part.profile, compare=True)
        if grid.runs.empty:
            return part
        table = table_of(grid, first)
    except RobustClusterError as error:
        return replace(part, failure=str(error))
    figure = drawn_figure(grid, records, chosen) if spec.figure else None
    part = replace(part, n_cells=table.n_cells, has_runs=table.has_runs, n_found=table.n_found)
    return replace(part, table=table, figure=figure)


def drawn_figure(grid: "Grid", records: Sequence[Record], chosen: Chosen) -> Drawn:
    """A paper's figure from our runs, where their records are enough."""
    from robust_cluster.report import paper_figures

    spec, profile = grid.spec, grid.profile
    drawing = paper_figures.drawing_of(spec)
    drawn = Drawn(f"{spec.name}-{profile}", spec.title, on_white=drawing.kind == "heat")
    if drawing.kind not in DRAWN:
        return replace(drawn, why=f"It is drawn from checkpoints: rc figure {spec.name} --profile {profile}")
    try:
        if drawing.kind == "learning":
            asked = requests(spec, profile)
            answers = [pair for pair in zip(asked, select(asked, records), strict=True) if pair[1] is not None]
            points = paper_figures.logged_points(spec, list(logged(answers, drawing.logged, chosen.lines)))
        else:
            points = paper_figures.swept_points(grid)
        note = f"profile {profile}; {paper_figures.statistic(spec, points)}"
        return replace(drawn, svg=svg_of(paper_figures.draw(spec, profile, points, note), drawn.name))
    except ConfigError as error:
        return replace(drawn, why=str(error))


def logged(
    answers: Iterable[Answer], names: Sequence[str], lines: Lines | None
) -> "Iterator[tuple[CellRequest, Sequence[Mapping[str, Any]]]]":
    """The lines of each run that a figure of the training is drawn from: its record's, else those of its log."""
    from robust_cluster.report import paper_figures

    for request, record in answers:
        if record is None:
            continue
        kept: Sequence[Mapping[str, Any]] | None = paper_figures.recorded(record, names)
        if kept is None:
            kept = lines(RunSpec.from_json(record["spec"])) if lines else []
        yield request, kept


def svg_of(figure: "Figure", name: str) -> str:
    """The figure inside the page, its ids after its own name."""
    from robust_cluster.report.html.svg import inline

    return inline(figure, name)
