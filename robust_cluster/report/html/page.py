"""The report of many runs: everything that its template shows, and the one file that comes of it."""

import base64
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from robust_cluster import __version__
from robust_cluster.errors import MissingResultError, RobustClusterError, StoreError
from robust_cluster.report.answers import Record
from robust_cluster.report.flags import MEANING
from robust_cluster.report.formats import number
from robust_cluster.report.html.claims import Ruled, rulings
from robust_cluster.report.html.gather import Gathered
from robust_cluster.report.html.parts import Chosen, Part, chosen_specs, parts_of, svg_of
from robust_cluster.report.html.runs import COLUMNS, PERCENT, Catalog, Lines, catalog, compact
from robust_cluster.report.html.tables import PARTIAL, POINTS, Place
from robust_cluster.report.papers import FINDINGS, OTHERS, Paper, load_papers, paper_of
from robust_cluster.report.spec import tables_folder
from robust_cluster.runs.spec import STAGES

if TYPE_CHECKING:
    from jinja2 import Environment

    from robust_cluster.report.html.attacks import Panel

BYTES = 5_000_000  # of a report, at most
SLACK = 100_000  # of these, kept for what the details bring with them
ROWS = 12_000  # runs that are listed, at most
FEWEST = 100  # runs that are listed however large the rest is
FIGURES = 40  # curves of attacks that are drawn, at most
ATTACKS = 1_000  # rows of the list of attacks, at most
NAMED = 100  # damaged records that the page names, at most
TEMPLATES = Path(__file__).parent / "templates"
OUTCOMES = ("holds", "does not hold", "undecided", "not enough runs")
EMPTY_HEADING = re.compile(r"<th[^>]*></th>")
REGION = '<div class="scroll whole" role="region" tabindex="0" aria-label="Findings on {title}, table {number}"><table>'


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
    ruled = list(rulings(in_tables, profiles, {(spec.name, profile) for spec, profile in specs}, chosen.folder))
    sections = [
        Section(
            paper,
            tuple(part for part in parts if paper_of(part.name, papers) == paper),
            tuple(one for one in ruled if paper_of(one.table, papers) == paper),
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
    return told | bounded(told, [*places, *attack_places], records, kept, chosen.lines)


def bounded(
    told: Mapping[str, Any],
    places: Sequence[Place],
    records: Sequence[Record],
    first: Collection[str],
    lines: Lines | None,
) -> dict[str, Any]:
    """The list of runs and the places that open them, with as many details as leave the page below `BYTES`.

    `first`: the keys of those that come before the others.
    """
    template, most = templates().get_template("report.html.jinja"), ROWS
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
        "flags": MEANING,
    }
    return compact(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def drawn_attack(panel: "Panel", number: int) -> str:
    """The curves of a panel as SVG."""
    from robust_cluster.report.html import attacks

    return svg_of(attacks.draw(panel), f"attack{number}")


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
