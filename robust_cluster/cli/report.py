"""`rc report`: one HTML file that shows what was run, what it says, and how far it can be believed; or one run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from robust_cluster.runs.store import RunStore

if TYPE_CHECKING:
    pass

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
    from robust_cluster.report.html import page  # late: help needs none of it

    if options.run is not None:
        refuse(ctx, ("profile", "records", "only"), "one run has one report")
        raise NotImplementedError
    refuse(ctx, ("data", "data_dir", "device"), "a report of many runs computes nothing")
    err = console.stderr(quiet=options.quiet)
    from robust_cluster.report.html import gather

    folder = options.records
    gathered = gather.from_runs(options.runs_dir) if folder is None else gather.from_folder(folder)
    for sentence in gathered.damaged:
        console.show_error(f"left out: {sentence}")
    lines = RunStore(options.runs_dir).lines if folder is None else None
    chosen = page.Chosen(options.profile, chosen_part(options.only or []), lines=lines)
    text = page.report(gathered, chosen)
    page.write(options.output, text)
    err.print(f"{len(gathered.records):,} records, {len(text.encode()) / 1e6:.1f} MB")
    typer.echo(options.output)


VERB = Verb("report", SUMMARY, EXAMPLES, options=ReportOptions, run=report)
