"""`rc report`: one HTML file that shows what was run, what it says, and how far it can be believed; or one run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_cluster.cli import console
from robust_cluster.cli.options import (
    DataDir,
    Debug,
    Device,
    Only,
    Profile,
    Quiet,
    Threads,
    Verb,
    chosen_part,
    option,
    refuse,
)
from robust_cluster.runs.spec import STAGES, RunSpec
from robust_cluster.runs.store import RunStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = """
rc report --from tables/results --output report.html
rc report --profile cpu --from tables/results --only paper=lpvdn --only data=mnist10k
rc report
rc report runs/attack/graph-digits-d64-s0-* --output run.html
"""
SUMMARY = "Write one HTML file to look at: of all runs, or of one."


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What `rc report` takes."""

    run: Annotated[Path | None, typer.Argument(help="Folder of a run: a report of it alone.", show_default=False)] = (
        None
    )
    output: Annotated[Path, option(help="The file.")] = Path("report.html")
    profile: Annotated[Profile | None, option(help="Runs of this profile alone; all without it.")] = None
    records: Annotated[Path | None, option("--from", help="Of the records in this folder.")] = None
    only: Only = None
    runs_dir: Annotated[Path, option(help="Where runs are kept.")] = Path("runs")
    data: Annotated[str | None, option(metavar="FILE", help="The run's data, if they are your file.")] = None
    data_dir: DataDir = None
    device: Annotated[Device, option(help="Where to compute.")] = "auto"
    threads: Threads = None
    quiet: Quiet = False
    debug: Debug = False


def report(ctx: typer.Context, options: ReportOptions) -> None:
    """Write the report and print where it is. Raises: MissingResultError when there is no run to report."""
    from robust_cluster.report.html import gather, page, parts  # late: help needs none of it

    if options.run is not None:
        refuse(ctx, ("profile", "records", "only"), "a report of one run shows all of it")
        report_run(options.run, options)
        return
    refuse(ctx, ("data", "data_dir", "device", "threads"), "a report of many runs computes nothing")
    err = console.stderr(quiet=options.quiet)
    folder = options.records
    gathered = gather.from_runs(options.runs_dir) if folder is None else gather.from_folder(folder)
    for sentence in gathered.damaged:
        console.show_error(f"left out: {sentence}")
    lines = RunStore(options.runs_dir).lines if folder is None else None
    chosen = parts.Chosen(options.profile, chosen_part(options.only or []), lines=lines)
    text = page.report(gathered, chosen)
    page.write(options.output, text)
    err.print(f"{len(gathered.records):,} records, {len(text.encode()) / 1e6:.1f} MB")
    typer.echo(options.output)


def report_run(run: Path, options: ReportOptions) -> None:
    """Write the report of one finished run; a figure that cannot be made, for want of its data, is left out, said."""
    from robust_cluster.cli.figure import finished
    from robust_cluster.report.html import one, page

    page.templates()  # without jinja2 nothing is computed for it
    store, spec, record = finished(run, STAGES)
    figures = [one.drawn(name, draw) for name, draw in drawings(run, store, spec, record, options)]
    for figure in figures:
        if figure.why:
            console.show_error(f"no figure {figure.name}: {figure.why}")
    page.write(options.output, one.report(record, figures))
    typer.echo(options.output)


def drawings(
    run: Path, store: RunStore, spec: RunSpec, record: Mapping[str, Any], options: ReportOptions
) -> "Iterator[tuple[str, Callable[[], Figure]]]":
    """The figures that a run of this stage has, by the name that `rc figure` has for each, and what draws it."""
    from robust_cluster.cli import figure
    from robust_cluster.report import run_figures
    from robust_cluster.stages.methods import attack_space

    alike = {name: getattr(options, name) for name in ("data", "data_dir", "device", "threads")}

    def asked(name: str, **more: Any) -> figure.FigureOptions:
        return figure.FigureOptions(name=name, run=[run], **alike, **more)

    if any(line.get("losses") for line in store.lines(spec)):
        yield "losses", lambda: figure.drawn_losses([run])
    if "radii" in record:
        yield "curve", lambda: run_figures.radii(record)
    elif record.get("curve"):
        yield "curve", lambda: run_figures.curve(record)
    if "certified" in record:
        yield "certificate", lambda: run_figures.certificate(record)
    if spec.stage == "pretrain":
        return
    color = "class" if record["data"]["labels"] else "cluster"
    yield "embedding", lambda: figure.drawn_model(store, spec, record, asked("embedding", color=color))
    if spec.attack or record["data"]["labels"]:
        yield "confusion", lambda: figure.drawn_model(store, spec, record, asked("confusion"))
    if spec.attack and attack_space(spec.attack, spec.settings.get("attack", {})) == "input":
        yield "images", lambda: run_figures.images(figure.scored(store, spec, asked("images")))
    elif spec.attack:
        yield "decoded", lambda: figure.decoded([run], asked("decoded"))


VERB = Verb("report", SUMMARY, EXAMPLES, options=ReportOptions, run=report)
