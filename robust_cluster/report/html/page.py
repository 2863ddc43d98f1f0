"""The report of many runs: everything that its template shows, and the one file that comes of it."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_cluster import __version__
from robust_cluster.errors import ConfigError, MissingResultError, RobustClusterError, StoreError, UnknownNameError
from robust_cluster.report.answers import Record, select
from robust_cluster.report.formats import number
from robust_cluster.report.html.gather import Gathered
from robust_cluster.report.html.runs import COLUMNS, PERCENT, Catalog, Lines, catalog, compact
from robust_cluster.report.html.tables import PARTIAL, POINTS, Place, Table, table_of
from robust_cluster.report.papers import FINDINGS, OTHERS, Paper, load_papers, paper_of
from robust_cluster.report.spec import (
    TableSpec,
    figure_names,
    load_spec,
    narrowed,
    requests,
    table_names,
    tables_folder,
)
from robust_cluster.report.table import build
from robust_cluster.runs.spec import STAGES

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

    from robust_cluster.report.claims import Ruling
    from robust_cluster.report.grid import Grid
    from robust_cluster.report.html.attacks import Panel

BYTES = 5_000_000  # of a report, at most
SLACK = 100_000  # of these, kept for what the details bring with them
ROWS = 12_000  # runs that are listed, at most
FEWEST = 100  # runs that are listed however large the rest is
FIGURES = 40  # curves of attacks that are drawn, at most
ATTACKS = 1_000  # rows of the list of attacks, at most
NAMED = 100  # damaged records that the page names, at most
TEMPLATES = Path(__file__).parent / "templates"
OWN_AXES = ("paper", "table")  # of --only, beside those of the tables
OUTCOMES = ("holds", "does not hold", "undecided", "not enough runs")
EMPTY_HEADING = re.compile(r"<th[^>]*></th>")
REGION = '<div class="scroll whole" role="region" tabindex="0" aria-label="Findings on {title}, table {number}"><table>'
DRAWN = ("lines", "heat", "learning")  # kinds of figure that records alone are enough for


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


@dataclass(frozen=True)
class Section:
    """The page of one paper."""

    paper: Paper
    parts: tuple[Part, ...]
    claims: tuple["Ruled", ...]
    findings: str  # HTML

    @property
    def shown(self) -> tuple[Part, ...]:
        """Those of its parts that have something to show."""
        return tuple(part for part in self.parts if part.table or part.failure)

    @property
    def tested(self) -> list[list["Ruled"]]:
        """Its rulings with enough runs, those of one sentence together."""
        found: dict[str, list[Ruled]] = defaultdict(list)
        for one in self.claims:
            if one.row["outcome"] != OUTCOMES[-1]:
                found[str(one.row["says"])].append(one)
        return list(found.values())

    @property
    def outcomes(self) -> dict[str, int]:
        """How many claims came out how."""
        counts = Counter(claim.row["outcome"] for claim in self.claims)
        return {outcome: counts[outcome] for outcome in OUTCOMES}


@dataclass(frozen=True)
class Ruled:
    """A ruling on a claim under a profile, as a row of `claims.rows`."""

    profile: str
    row: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """The number that it compares."""
        return str(self.row["compares"]).partition(":")[0]

    @property
    def effect(self) -> str:
        """Its effect with a sign, "" without one."""
        effect = self.row["effect"]
        return "" if effect is None else number(effect, "+.3g")

    @property
    def interval(self) -> str:
        """Its interval in brackets, "" without one."""
        if self.row["p"] is None:
            return ""
        ends = [self.row[end] for end in ("low", "high")]
        low, high = ("∞" if end is None else number(end, ".3g") for end in ends)
        return f"[{low.replace('∞', '−∞')}, {high}]"


@dataclass(frozen=True)
class Chosen:
    """What a report is asked for: profiles (none: all that the records have), a part, the tables' folder, logs."""

    profile: str | None = None
    only: Mapping[str, Collection[str]] | None = None
    folder: Path | None = None
    lines: Lines | None = None


def report(gathered: Gathered, chosen: Chosen) -> str:
    """The report as one HTML document; the same records give the same text.

    Raises: MissingResultError without a record of the profile, UnknownNameError for what --only does not find,
    RobustClusterError without jinja2 or matplotlib.
    """
    environment = templates()
    records = [one for one in gathered.records if chosen.profile in (None, one["profile"])]
    if not records:
        of_profile = f" of profile {chosen.profile}" if chosen.profile and gathered.records else ""
        raise MissingResultError(f"There is no record of a run{of_profile}", hint="rc table NAME makes a table's runs")
    return environment.get_template("report.html.jinja").render(content(gathered, records, chosen))


@cache
def templates() -> "Environment":
    """The templates. Raises: RobustClusterError where jinja2 is not installed."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise RobustClusterError("a report needs jinja2", hint="pip install -e '.[report]'") from error
    loader = FileSystemLoader(TEMPLATES)
    made = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    made.filters |= {"number": number, "thousands": lambda number: f"{number:,}"}
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    made.globals |= {
        "version": __version__,
        "style": (TEMPLATES / "style.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": hash_of(script),
    }
    return made


def hash_of(script: str) -> str:
    """The SHA-256 by which a page's policy allows this script and no other."""
    import base64

    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def content(gathered: Gathered, records: Sequence[Record], chosen: Chosen) -> dict[str, Any]:
    """What the template shows."""
    from robust_cluster.report.html import attacks
    from robust_cluster.report.html.methods import methods

    profiles = tuple(sorted({str(record["profile"]) for record in records}))
    only = dict(chosen.only or {})
    papers = load_papers(chosen.folder)
    specs = list(chosen_specs(papers, profiles, only, chosen.folder))
    parts, places = parts_of(specs, records, chosen)
    kept = {key for place in places for key in place.runs}
    in_tables = [record for record in records if record["key"] in kept]
    if only:
        records = in_tables
        if not records:
            raise MissingResultError("No run of that part exists", hint="rc ls tables")
    ruled = list(rulings(in_tables, profiles, {spec.name for spec, _ in specs}, chosen.folder))
    sections = [
        Section(
            paper,
            tuple(part for part in parts if paper_of(part.name, papers) == paper),
            tuple(one for one in ruled if paper_of(str(one.row["table"]), papers) == paper),
            findings_of(paper, chosen.folder),
        )
        for paper in (*papers, OTHERS)
    ]
    sections = [section for section in sections if section.parts]
    rows = attacks.attacked(records)
    panels = attacks.panels(records)
    told = {
        "profiles": profiles,
        "records": records,
        "stages": {stage: n for stage in STAGES if (n := sum(one["spec"]["stage"] == stage for one in records))},
        "data": sorted({attacks.label_of(record["spec"]["data"]) for record in records}),
        "sections": sections,
        "outcomes": OUTCOMES,
        "damaged": gathered.damaged[:NAMED],
        "n_damaged": len(gathered.damaged),
        "attacks": [(len(places) + i, row) for i, row in enumerate(rows[:ATTACKS])],
        "attacks_left_out": max(0, len(rows) - ATTACKS),
        "columns": list(attacks.SHOWN),
        "panels": [(panel, drawn_attack(panel, i)) for i, panel in enumerate(panels[:FIGURES])],
        "panels_left_out": max(0, len(panels) - FIGURES),
        "methods": methods(records, profiles, specs[0][0].labels.get("model", {}) if specs else {}),
        "made": provenance(records),
        "points": POINTS,
        "partial": PARTIAL,
    }
    attack_places = [
        Place(f"{row.attack} on {row.victim.label}, {row.victim.data}", row.runs) for row in rows[:ATTACKS]
    ]
    return told | bounded(told, [*places, *attack_places], records, chosen.lines)


def bounded(
    told: Mapping[str, Any], places: Sequence[Place], records: Sequence[Record], lines: Lines | None
) -> dict[str, Any]:
    """The list of runs and the places that open them, with as many details as leave the page below `BYTES`."""
    first, most = [key for place in places for key in place.runs], ROWS
    template = templates().get_template("report.html.jinja")
    while True:
        found = catalog(records, first, most)
        bare = {**told, "catalog": found, "data_json": embedded(found, places)}
        size = len(template.render(bare).encode())
        if size <= BYTES - SLACK or most < FEWEST:
            break
        most //= 2
    found.fill(lines, BYTES - SLACK - size)
    return {"catalog": found, "data_json": embedded(found, places)}


def embedded(found: Catalog, places: Sequence[Place]) -> str:
    """The data of the page's script as JSON, in which no `<` stands: it cannot end the element that it is in."""
    at = {row[0]: i for i, row in enumerate(found.rows)}
    data = {
        "columns": [{"name": name, "percent": name in PERCENT} for name in COLUMNS],
        "rows": found.rows,
        "details": found.details,
        "environments": found.environments,
        "checks": found.checks,
        "places": [[place.label, [at[key] for key in place.runs if key in at]] for place in places],
        "flags": meanings(),
    }
    return compact(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def meanings() -> dict[str, str]:
    """What each flag says."""
    from robust_cluster.report.flags import MEANING

    return dict(MEANING)


def chosen_specs(
    papers: Sequence[Paper], profiles: Sequence[str], only: Mapping[str, Collection[str]], folder: Path | None
) -> Iterator[tuple[TableSpec, str]]:
    """Each table with each profile that it has, in the order of the papers, narrowed to the part that is asked for.

    A table that has none of an axis's values is left out. Raises: UnknownNameError for what no table has.
    """
    known = [*table_names(folder), *figure_names(folder)]
    named = [name for paper in papers for name in paper.tables if name in known]
    order = [*named, *(name for name in known if name not in named)]
    for axis, allowed in (("table", known), ("paper", [paper.name for paper in papers])):
        for value in only.get(axis, ()):
            if value not in allowed:
                raise UnknownNameError(axis, value, allowed)
    axes = {axis: values for axis, values in only.items() if axis not in OWN_AXES}
    refusals: list[UnknownNameError] = []
    found = []
    for name in order:
        if name not in only.get("table", [name]) or paper_of(name, papers).name not in only.get(
            "paper", [paper_of(name, papers).name]
        ):
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
    answers: Iterable[tuple[Any, Record | None]], names: Sequence[str], lines: Lines | None
) -> Iterator[tuple[Any, Sequence[Mapping[str, Any]]]]:
    """The lines of each run that a figure of the training is drawn from: its record's, else those of its log."""
    from robust_cluster.report import paper_figures
    from robust_cluster.runs.spec import RunSpec

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


def drawn_attack(panel: "Panel", number: int) -> str:
    """The curves of a panel as SVG."""
    from robust_cluster.report.html import attacks

    return svg_of(attacks.draw(panel), f"attack{number}")


def rulings(
    records: Sequence[Record], profiles: Sequence[str], tables: Collection[str], folder: Path | None
) -> Iterator[Ruled]:
    """The claims that are of these tables alone, each with its table, ruled on under every profile; those that have no
    pair of runs are there too, with n = 0.
    """
    from robust_cluster.report.claims import judge, load_claims, rows
    from robust_cluster.report.spec import CLAIMS

    if not ((folder or tables_folder()) / f"{CLAIMS}.toml").exists():
        return
    asked = [claim for claim in load_claims(folder) if all(side.table in tables for side in claim.sides)]
    for profile in profiles:
        own = [claim for claim in asked if all(profile in spec_of(side.table, folder).profiles for side in claim.sides)]
        try:
            found: list[Ruling] = judge(own, records, profile, folder=folder) if own else []
        except RobustClusterError:  # two runs compete for a place of some claim: the others can be judged
            found = [one for claim in own for one in judged(claim, records, profile, folder)]
        for one, line in zip(found, rows(found), strict=True):
            yield Ruled(profile, {**line, "table": one.claim.sides[0].table})


@cache
def spec_of(name: str, folder: Path | None) -> TableSpec:
    """A table, which many claims are of."""
    return load_spec(name, folder)


def judged(claim: Any, records: Sequence[Record], profile: str, folder: Path | None) -> "list[Ruling]":
    """The rulings on one claim; none where two runs compete for one of its places."""
    from robust_cluster.report.claims import judge

    try:
        return judge([claim], records, profile, folder=folder)
    except RobustClusterError:
        return []


def findings_of(paper: Paper, folder: Path | None) -> str:
    """A paper's page of findings as HTML, without links that lead out of the report; "" where there is none."""
    from markdown_it import MarkdownIt

    path = (folder or tables_folder()) / FINDINGS / paper.findings
    if not paper.findings or not path.is_file():
        return ""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "autolink"])
    tokens = parser.parse(path.read_text(encoding="utf-8"))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.children:
            token.children = [one for one in token.children if one.type not in ("link_open", "link_close")]
    text = EMPTY_HEADING.sub("<td></td>", str(parser.renderer.render(tokens, parser.options, {})))
    before, *others = text.split("<table>")
    regions = (REGION.format(number=i, title=paper.title) + other for i, other in enumerate(others, start=1))
    return "".join([before, *(region.replace("</table>", "</table></div>") for region in regions)])


def provenance(records: Sequence[Record]) -> list[tuple[str, int]]:
    """Where and with which code runs were made, and how many there; those that do not say are left out."""
    counts: Counter[str] = Counter()
    for record in records:
        if place := record.get("environment"):
            commit = str(place.get("commit") or "unknown")[:7] + ("+" if place.get("dirty") else "")
            machine = place.get("accelerator") or place.get("cpu")
            threads = place.get("threads")
            counts[f"{machine}, {threads} thread{'' if threads == 1 else 's'}, commit {commit}"] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def write(path: Path, text: str) -> None:
    """Replace a file as a whole: whoever opens it meets the old report or the new. Raises: StoreError."""
    import os
    from uuid import uuid4

    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"The report cannot be written to {path}: {reason}", hint="--output FILE") from error
