"""`rc audit`: whether the numbers of a finished attack can be believed, as 27 checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from robust_cluster.cli import console
from robust_cluster.cli.figure import finished, load
from robust_cluster.cli.options import DataDir, Debug, Device, Quiet, Threads, Verb, option, positive
from robust_cluster.errors import RobustClusterError

EXAMPLES = """
rc audit runs/attack/convae-digits-d64-s0-*
rc audit runs/reattack/convae-digits-d64-s0-* --rows 200 --json
"""
SUMMARY = "Audit a finished attack: 27 checks of whether its numbers can be believed."


class AuditFailed(RobustClusterError):
    """An audit with at least one failed check; exit code 4."""

    exit_code = 4


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What `rc audit` takes."""

    run: Annotated[Path, typer.Argument(help="Folder of an attack or reattack run.", show_default=False)]
    rows: Annotated[int, option(callback=positive, help="Most samples that are looked at.")] = 1000
    data: Annotated[str | None, option(metavar="FILE", help="The run's data, if they are your file.")] = None
    data_dir: DataDir = None
    device: Annotated[Device, option(help="Where to compute.")] = "auto"
    threads: Threads = None
    json: Annotated[bool, option("--json", help="Print the findings as JSON.")] = False
    quiet: Quiet = False
    debug: Debug = False


def audit(ctx: typer.Context, options: AuditOptions) -> None:
    """Run the checks, write them into the run's record and print them. Raises: AuditFailed."""
    store, spec, record = finished(options.run, ("attack", "reattack"), "an audit is of")
    dataset = load(spec, options.data, options.data_dir)
    from robust_cluster.data.summary import lines
    from robust_cluster.stages.context import Context
    from robust_cluster.stages.finished import audit as audited  # late: help needs none of it

    err = console.stderr(quiet=options.quiet)
    for line in lines(dataset):
        err.print(line)
    context = Context(
        store,
        dataset,
        record["profile"],
        device=options.device,
        threads=options.threads,
        progress=console.progress(err),
    )
    findings = audited(spec, context, rows=options.rows)
    if options.json:
        console.show_json(findings)
    else:
        console.show_rows([row(finding) for finding in findings])
    err.print(f"{console.counted(findings)}; written into {options.run / 'result.json'}")
    failed = [finding["name"] for finding in findings if finding["status"] == "fail"]
    if failed:
        raise AuditFailed(f"{len(failed)} of 27 checks fail: {', '.join(failed)}")


def row(finding: Mapping[str, Any]) -> dict[str, str]:
    """One finding as columns of text."""
    return {
        "#": str(finding["id"]),
        "check": finding["name"],
        "status": finding["status"],
        "value": console.plain(finding["value"]),
        "threshold": console.plain(finding["threshold"]),
        "n": str(finding["n"] or ""),
        "seconds": f"{finding['seconds']:.1f}",
        "note": finding["note"],
    }


VERB = Verb("audit", SUMMARY, EXAMPLES, options=AuditOptions, run=audit)
