"""`rc check`: whether a method in a file of one's own keeps what every method promises."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from robust_cluster.cli import console
from robust_cluster.cli.options import Debug, Json, Quiet, Verb
from robust_cluster.errors import RobustClusterError

EXAMPLES = """
rc check ./mine.py
rc check ./mine.py --json
"""
SUMMARY = "Check a method of your own: what every method promises, on digits."


class ContractsBroken(RobustClusterError):
    """A method that breaks at least one contract; exit code 1."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What `rc check` takes."""

    file: Annotated[Path, typer.Argument(help="Python file of one method, or with load().", show_default=False)]
    json: Json = False
    quiet: Quiet = False
    debug: Debug = False


def check(ctx: typer.Context, options: CheckOptions) -> None:
    """Put the contracts to a file and print a line for each. Raises: ConfigError, ContractsBroken."""
    from robust_cluster.stages.checking import check as checked  # late: help needs none of it

    kind, name, lines = checked(options.file)
    console.stderr(quiet=options.quiet).print(f"{kind.removesuffix('s')} {name} on 200 digits, two minutes at most")
    found = []
    for line in lines:
        found.append(line)
        if not options.json:
            typer.echo(f"{line.contract:38}{line.note or line.status}")
    if options.json:
        console.show_json({"kind": kind, "name": name, "contracts": [asdict(line) for line in found]})
    if broken := [line.contract for line in found if line.status == "failed"]:
        raise ContractsBroken(f"{options.file} does not keep {len(broken)} of its contracts: {', '.join(broken)}")
    if any(line.status == "not run" for line in found):
        raise ContractsBroken(f"{options.file} keeps {len(found) - 1} of its contracts, and the others were not tried")


VERB = Verb("check", SUMMARY, EXAMPLES, options=CheckOptions, run=check)
